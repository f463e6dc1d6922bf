"""The three steps of a FineTuneJob: what each tells its pod, and what it takes from the pod's result into status.

A step is a row. The rules in `plan.py` know no step by name: they work on the first whose result is not recorded.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, TypeVar

from anneal.api.finetunejob import Artifact, FineTuneJobSpec, FineTuneJobStatus, Usage
from anneal.api.model import ApiModel
from anneal.api.runs import MLFLOW_DIR, FitRun, MLflowServer, PrepareRun, PublishRun, Ranks, Reporting, Run, RunResult
from anneal.api.subjects import Hosted
from anneal.api.training import Progress
from anneal.api.workloads import Resources
from anneal.kinds.children import child_name, identity
from anneal.kinds.conditions import Mark, no, yes
from anneal.kinds.finetunejob import examples
from anneal.kinds.finetunejob.context import Context
from anneal.kinds.finetunejob.estimate import accelerators, cost, estimated, strategy
from anneal.kinds.finetunejob.places import (
    against_inputs,
    base_model,
    claims,
    fetching_secrets,
    held_out_input,
    is_below,
    mirror,
    model_input,
    publishing_secrets,
    source_inputs,
)
from anneal.kinds.finetunejob.progress import checkpointed, interrupted
from anneal.kinds.finetunejob.reasons import Reason
from anneal.kinds.upstream import location, mounted

Part = TypeVar("Part", bound=ApiModel)

#: Preparing and publishing an adapter read and copy files and load a tokenizer, never the model's weights.
LIGHT = Resources(cpu="100m", memory="2Gi")


@dataclass(frozen=True)
class Step:
    """One Job of the chain."""

    role: Literal["prepare", "fit", "publish"]
    phase: str
    """status.phase while it runs."""
    condition: str
    """The condition that tells of it."""
    doing: Reason
    what: str
    """What it does, for people: "preparing the data"."""
    is_recorded: Callable[[FineTuneJobStatus], bool]
    """Whether its result is in status."""
    summary: Callable[[FineTuneJobStatus], Mark]
    """Its condition once it is recorded."""
    run: Callable[[Context], Run]
    """What its pod is told."""
    record: Callable[[Context, RunResult], FineTuneJobStatus]
    """Status with its result in it. Raises ValueError, in a sentence, when the result has no data or wrong data."""
    resources: Callable[[FineTuneJobSpec], Resources]
    memory_advice: str
    reads: tuple[str, ...]
    """Prefixes of the fields whose claims it reads."""
    writes: tuple[str, ...] = ()
    secrets: Callable[[FineTuneJobSpec], tuple[str, ...]] = lambda _: ()
    """Names of the Secrets that its pod mounts."""
    hosted: Callable[[FineTuneJobSpec], tuple[tuple[str, Hosted], ...]] = lambda _: ()
    """(name, model) of everyone whose API key its pod mounts."""
    grace_seconds: int = 30
    """How long its pod may take to save its state after SIGTERM."""

    def claims(self, spec: FineTuneJobSpec) -> tuple[tuple[str, str], ...]:
        """(field, claim) of each claim that its pod mounts."""
        return tuple((f, c) for f, c in claims(spec) if f.startswith(self.reads + self.writes))

    def written(self, spec: FineTuneJobSpec) -> tuple[str, ...]:
        """The claims that its pod writes to."""
        return tuple(c for f, c in claims(spec) if f.startswith(self.writes))


def prepare_run(ctx: Context) -> PrepareRun:
    spec = ctx.spec
    return PrepareRun(
        object=identity(ctx.seen),
        model=model_input(ctx),
        sources=source_inputs(ctx),
        expect=spec.dataset.expect,
        split=spec.dataset.split,
        held_out_source=held_out_input(ctx),
        category=spec.dataset.category,
        cleaning=spec.dataset.cleaning,
        deduplication=spec.dataset.deduplication,
        balance=spec.dataset.balance,
        augmentation=spec.dataset.augmentation,
        leak_check=spec.dataset.leak_check,
        against=against_inputs(ctx),
        system_prompt=spec.dataset.system_prompt,
        max_length=spec.training.max_length,
    )


def fit_run(ctx: Context) -> FitRun:
    spec, status, reports = ctx.spec, ctx.status, ctx.seen.facts.reports
    return FitRun(
        object=identity(ctx.seen),
        model=base_model(ctx),
        base_digest=_needed(status.model, "model").digest,
        train_digest=_needed(status.dataset, "dataset").digest,
        method=spec.method,
        training=spec.training.settled(spec.method),
        ranks=_ranks(ctx),
        teraflops=_teraflops(ctx),
        reporting=Reporting(url=reports.url) if reports is not None else None,
    )


def _teraflops(ctx: Context) -> dict[str, float]:
    """What accelerators can do, for a training that has one: only its pod sees which it got."""
    if ctx.spec.resources.accelerator is None:
        return {}
    return {known.product: known.teraflops for known in ctx.seen.facts.planning.accelerators}


def _ranks(ctx: Context) -> Ranks | None:
    """The processes of training, if there are several; they meet at the pod with index 0."""
    pods, processes = ctx.spec.resources.nodes, ctx.spec.resources.processes
    if pods * processes == 1:
        return None
    name = child_name(ctx.seen.name, "fit", ctx.seen.uid)
    address = f"{name}-0.{name}.{ctx.seen.namespace}.svc" if pods > 1 else "localhost"
    return Ranks(pods=pods, per_pod=processes, address=address, strategy=strategy(ctx.spec, ctx.status.estimate))


def publish_run(ctx: Context) -> PublishRun:
    spec, status = ctx.spec, ctx.status
    base, data = _needed(status.model, "model"), _needed(status.dataset, "dataset")
    return PublishRun(
        object=identity(ctx.seen),
        model=base_model(ctx),
        base_digest=base.digest,
        chat_template_hash=base.chat_template_hash,
        test_digest=data.test_digest,
        output=mounted(location(spec.output.uri)),
        mirror=mirror(ctx),
        mlflow=_mlflow(ctx),
        contents=spec.contents,
        method=spec.method,
        training=spec.training.settled(spec.method),
        counts=data.counts,
        trained=_needed(status.training, "training"),
    )


def _mlflow(ctx: Context) -> MLflowServer | None:
    if (wanted := ctx.spec.tracking.mlflow) is None:
        return None
    return MLflowServer(credentials=f"{MLFLOW_DIR}/{wanted.secret_ref.name}", experiment=wanted.experiment)


def record_prepare(ctx: Context, result: RunResult) -> FineTuneJobStatus:
    data = _needed(result.prepare, "prepare")
    compared, against = len(data.dataset.compared or ()), len(examples.against(ctx.spec.dataset))
    if compared != against:
        raise ValueError(f"training rows were compared with {compared} of {against} files of spec.dataset.leakCheck")
    estimate = estimated(ctx.spec, data.sizes, ctx.seen.facts.planning) if data.sizes is not None else None
    cache, found = ctx.spec.model.cache, data.model.uri
    if (cache is None) != (found is None) or (cache and found and not is_below(found, cache)):
        raise ValueError(f"the base model is at '{found}', which is not below spec.model.cache")
    return ctx.status.model_copy(
        update={"resolved": data.resolved, "model": data.model, "dataset": data.dataset, "estimate": estimate}
    )


def record_fit(ctx: Context, result: RunResult) -> FineTuneJobStatus:
    data = _needed(result.fit, "fit")
    trained = data.training
    before = interrupted(checkpointed(ctx, ctx.status, data.checkpoint_step), data.resumes)
    used = trained.seconds * accelerators(ctx.spec)
    return before.model_copy(
        update={
            "training": trained,
            "progress": Progress(
                percent=100,
                eta_seconds=0,
                step=trained.steps,
                total_steps=trained.steps,
                loss=trained.loss,
                tokens_per_second=trained.tokens // max(1, trained.seconds),
                step_seconds=f"{trained.seconds / max(1, trained.steps):.3g}",
                mfu=trained.mfu,
                peak_memory_bytes=trained.peak_memory_bytes,
                validation_loss=trained.validation_loss,
                remarks=trained.remarks,
            ),
            "usage": (before.usage or Usage()).model_copy(
                update={"accelerator_seconds": used, "cost": cost(ctx.spec, used, ctx.seen.facts.planning)}
            ),
        }
    )


def record_publish(ctx: Context, result: RunResult) -> FineTuneJobStatus:
    data = _needed(result.publish, "publish")
    base, dataset = _needed(ctx.status.model, "model"), _needed(ctx.status.dataset, "dataset")
    for uri in (data.uri, data.held_out_uri):
        if not is_below(uri, ctx.spec.output.uri):
            raise ValueError(f"{uri} is not below spec.output.uri")
    wanted = ctx.spec.output.mirror
    if (wanted is None) != (data.mirror_uri is None) or (
        wanted and data.mirror_uri and not is_below(data.mirror_uri, wanted.uri)
    ):
        raise ValueError(f"the copy is at '{data.mirror_uri}', which is not below spec.output.mirror.uri")
    artifact = Artifact(
        uri=data.uri,
        mirror_uri=data.mirror_uri,
        digest=data.digest,
        contents=ctx.spec.contents,
        base_uri=base.uri or ctx.spec.model.uri,
        base_digest=base.digest,
        chat_template_hash=base.chat_template_hash,
        size_bytes=data.size_bytes,
        held_out_uri=data.held_out_uri,
        held_out_digest=dataset.test_digest,
        held_out_count=data.held_out_count,
    )
    return ctx.status.model_copy(update={"artifact": artifact, "tracking": data.tracking})


def publishing(spec: FineTuneJobSpec) -> Resources:
    """A whole model is loaded to be written: it gets what training had, but for the accelerators."""
    return LIGHT if spec.contents == "Adapter" else Resources(cpu=spec.resources.cpu, memory=spec.resources.memory)


def _prepared(status: FineTuneJobStatus) -> Mark:
    return yes(Reason.PREPARED, examples.summary(_needed(status.dataset, "dataset")))


def _trained(status: FineTuneJobStatus) -> Mark:
    trained = _needed(status.training, "training")
    said = f"trained for {trained.steps} steps in {trained.seconds} s, loss {trained.loss}"
    return no(Reason.TRAINED, remarked(said, trained.remarks))


def remarked(said: str, remarks: list[str] | None) -> str:
    """A sentence with what else should be known, within the length of a message."""
    return "; ".join((said, *(remarks or ())))[:1024]


def _published(status: FineTuneJobStatus) -> Mark:
    return yes(Reason.PUBLISHED, f"the artifact is at {_needed(status.artifact, 'artifact').uri}")


def _needed(part: Part | None, name: str) -> Part:
    if part is None:
        raise ValueError(f"'{name}' is missing")
    return part


PREPARE = Step(
    role="prepare",
    phase="Preparing",
    condition="DataReady",
    doing=Reason.PREPARING,
    what="preparing the data",
    is_recorded=lambda status: status.dataset is not None and status.model is not None,
    summary=_prepared,
    run=prepare_run,
    record=record_prepare,
    resources=lambda spec: LIGHT,
    memory_advice="split the dataset into fewer or shorter rows",
    reads=("spec.model", "spec.dataset"),
    writes=("spec.model.cache",),
    secrets=fetching_secrets,
    hosted=lambda spec: examples.hosted(spec.dataset),
)
FIT = Step(
    role="fit",
    phase="Training",
    condition="Training",
    doing=Reason.TRAINING,
    what="training",
    is_recorded=lambda status: status.training is not None,
    summary=_trained,
    run=fit_run,
    record=record_fit,
    resources=lambda spec: spec.resources,
    memory_advice="raise spec.resources.memory, or lower spec.training.tokensPerStep, in a new FineTuneJob",
    reads=("spec.model",),
    grace_seconds=120,
)
PUBLISH = Step(
    role="publish",
    phase="Publishing",
    condition="Published",
    doing=Reason.PUBLISHING,
    what="publishing the artifact",
    is_recorded=lambda status: status.artifact is not None,
    summary=_published,
    run=publish_run,
    record=record_publish,
    resources=publishing,
    memory_advice="raise spec.resources.memory, or use a smaller rank, in a new FineTuneJob",
    reads=("spec.model",),
    writes=("spec.output",),
    secrets=publishing_secrets,
)
#: In the order in which they run; each begins when the result of the one before is seen in status.
STEPS = (PREPARE, FIT, PUBLISH)


def next_step(status: FineTuneJobStatus) -> Step | None:
    """The first step whose result is not recorded, or None when all are."""
    return next((step for step in STEPS if not step.is_recorded(status)), None)
