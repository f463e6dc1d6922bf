"""The places that a spec names, as pods are told of them: what is mounted, what is fetched, with whose keys."""

from __future__ import annotations

from collections.abc import Iterable

from anneal.api.dataset import DatasetSource
from anneal.api.finetunejob import FineTuneJobSpec
from anneal.api.references import HubFile, HubModel, LocalReference, OciLocation, PvcLocation, parse
from anneal.api.runs import Access, ModelInput, MountedPath, RemotePath, SourceInput
from anneal.api.sources import BaseModelSource, Mirror
from anneal.kinds.children import credentials_path
from anneal.kinds.finetunejob import examples
from anneal.kinds.finetunejob.context import Context
from anneal.kinds.finetunejob.specification import uris
from anneal.kinds.upstream import location, mounted


def claims(spec: FineTuneJobSpec) -> tuple[tuple[str, str], ...]:
    """(field, claim) of every claim that the spec names."""
    places = ((field, parse(uri)) for field, uri in uris(spec))
    return tuple((field, place.claim) for field, place in places if isinstance(place, PvcLocation))


def fetching_secrets(spec: FineTuneJobSpec) -> tuple[str, ...]:
    """The Secrets of everything that is fetched."""
    return _names((spec.model.secret_ref, *(source.secret_ref for _, source in examples.sources(spec.dataset))))


def publishing_secrets(spec: FineTuneJobSpec) -> tuple[str, ...]:
    """The Secret of the mirror, if there is one."""
    return _names((spec.output.mirror.secret_ref,) if spec.output.mirror is not None else ())


def base_model(ctx: Context) -> MountedPath:
    """The base model for fit and publish: its unchanging name, and where it lies, fetched or as it always was.

    Raises ValueError before prepare is recorded.
    """
    status, uri = ctx.status, ctx.spec.model.uri
    if status.model is None:
        raise ValueError("'model' is missing")
    where, named = mounted(location(status.model.uri or uri)), parse(uri)
    if isinstance(named, HubModel) and status.resolved is not None:
        uri = HubModel(named.repository, status.resolved.model).uri
    if isinstance(named, OciLocation) and status.resolved is not None:
        uri = named.at(status.resolved.model).uri
    return MountedPath(uri=uri, path=where.path)


def model_input(ctx: Context) -> ModelInput:
    """The base model for prepare."""
    model = ctx.spec.model
    where = parse(model.uri)
    if isinstance(where, PvcLocation):
        return ModelInput(uri=model.uri, path=mounted(where).path)
    return ModelInput(uri=model.uri, cache=mounted(location(model.cache or "")), access=_access(ctx, model))


def source_inputs(ctx: Context) -> list[SourceInput]:
    """The examples for prepare."""
    return [_source(ctx, source) for source in ctx.spec.dataset.sources]


def held_out_input(ctx: Context) -> SourceInput | None:
    """The held-out rows for prepare, where they are a file of their own."""
    source = ctx.spec.dataset.split.held_out_source
    return _source(ctx, source) if source is not None else None


def against_inputs(ctx: Context) -> list[SourceInput]:
    """The files that prepare compares training rows with."""
    return [_source(ctx, source) for source in examples.against(ctx.spec.dataset)]


def mirror(ctx: Context) -> RemotePath | None:
    """Where publish copies the artifact to, if that is wanted."""
    wanted = ctx.spec.output.mirror
    return RemotePath(uri=wanted.uri, access=_access(ctx, wanted)) if wanted is not None else None


def is_below(uri: str, folder: str) -> bool:
    """Whether a location is in that folder or, of an image, in that repository."""
    inner, outer = parse(uri), parse(folder)
    if isinstance(outer, OciLocation):
        return isinstance(inner, OciLocation) and inner == outer.at(inner.digest or "")
    return inner.uri.startswith(f"{outer.uri}/")


def _source(ctx: Context, source: DatasetSource) -> SourceInput:
    where = parse(source.uri)
    path = mounted(where).path if isinstance(where, PvcLocation) else None
    return SourceInput(
        uri=source.uri, path=path, access=_access(ctx, source), format=source.format, columns=source.columns
    )


def _access(ctx: Context, place: BaseModelSource | DatasetSource | Mirror) -> Access:
    """How the pod gets there: which server, and where the keys of its Secret are mounted."""
    of_hub = isinstance(parse(place.uri), HubModel | HubFile)
    return Access(
        endpoint=place.endpoint or (ctx.seen.facts.hub if of_hub else None),
        credentials=credentials_path(place.secret_ref.name) if place.secret_ref else None,
    )


def _names(references: Iterable[LocalReference | None]) -> tuple[str, ...]:
    """Each once, sorted."""
    return tuple(sorted({reference.name for reference in references if reference is not None}))
