"""`oci://` as a source, against a real registry: models and data, images and artifacts, by digest, fetched once."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import pyarrow
import pytest
from tests.support.registry_service import RegistryService, docker_config, registry_service
from tests.support.tiny_model import write_base
from tests.trainer.job import Job

from anneal.api.artifacts import base_model_digest, digest_of_bytes
from anneal.api.references import OciLocation, parse
from anneal.api.runs import Access, ModelInput, MountedPath, RunResult, SourceInput
from anneal_trainer.publish import image
from anneal_trainer.sources import Leash, data, models, oci
from anneal_trainer.sources.credentials import Credentials
from anneal_trainer.sources.layers import unpacked
from anneal_trainer.sources.models import SOURCE_FILE
from anneal_trainer.sources.registry import INDEX, MANIFEST, Document, connected

pytestmark = pytest.mark.integration
LOOSE = Leash(timeout_seconds=5, is_forbidden=lambda _: False)
FILE = "application/vnd.oci.image.layer.v1.tar"  # what `oras push` calls a file
TITLE = "org.opencontainers.image.title"


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RegistryService]:
    with registry_service(tmp_path_factory.mktemp("registry")) as running:
        yield running


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("base")
    write_base(folder)
    (folder / "training_args.bin").write_bytes(b"\x80\x02pickle")
    return folder


@dataclass
class Fetching:
    """A job whose base and data are in the registry."""

    job: Job
    service: RegistryService
    root: Path

    @property
    def cache(self) -> Path:
        return self.root / "bases"

    @property
    def access(self) -> Access:
        folder = self.root / "credentials" / "store"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / ".dockerconfigjson").write_text(docker_config(self.service.host))
        (folder / "ca.crt").write_bytes(self.service.ca_file.read_bytes())
        return Access(credentials=str(folder))

    def push(self, name: str, *layers: dict[str, Any] | bytes, tag: str = "latest") -> str:
        """An image of these layers: bytes are an archive, the rest are descriptors with `content`. Its digest."""
        where = parse(f"oci://{self.service.host}/{name}")
        assert isinstance(where, OciLocation)
        listed = []
        with connected(where, None, Credentials.read(self.access.credentials), LOOSE, "Output") as registry:
            for layer in ({"mediaType": "application/vnd.oci.image.config.v1+json", "content": b"{}"}, *layers):
                given = {"mediaType": image.LAYER, "content": layer} if isinstance(layer, bytes) else dict(layer)
                content = given.pop("content")
                digest = digest_of_bytes(content)
                registry.put_blob(digest, len(content), lambda content=content: iter((content,)))  # type: ignore[misc]
                listed.append({**given, "digest": digest, "size": len(content)})
            manifest = {"schemaVersion": 2, "mediaType": MANIFEST, "config": listed[0], "layers": listed[1:]}
            document = Document(json.dumps(manifest).encode(), MANIFEST)
            registry.put_document(document, tag)
        return document.digest

    def prepared(self, name: str, **more: Any) -> RunResult:
        cache = MountedPath(uri="pvc://bases", path=str(self.cache))
        model = ModelInput(uri=f"oci://{self.service.host}/{name}", cache=cache, access=self.access)
        return self.job.do(self.job.prepare_run().model_copy(update={"model": model, **more}))

    def read(self, name: str) -> RunResult:
        """A job with its data there and its base in a claim."""
        source = SourceInput(uri=f"oci://{self.service.host}/{name}", access=self.access)
        return self.job.do(self.job.prepare_run().model_copy(update={"sources": [source]}))


@pytest.fixture
def fetching(service: RegistryService, base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Fetching:
    # The registry of these tests is on this machine, which is out of reach otherwise.
    monkeypatch.setattr(models, "Leash", lambda: LOOSE)
    monkeypatch.setattr(data, "Leash", lambda: LOOSE)
    return Fetching(Job(base, tmp_path), service, tmp_path)


def packed(folder: Path) -> bytes:
    return b"".join(image.gzip(image.tar(folder)))


def artifact(files: dict[str, bytes]) -> list[dict[str, Any]]:
    """Layers as `oras push` writes them."""
    return [{"mediaType": FILE, "content": content, "annotations": {TITLE: n}} for n, content in files.items()]


@pytest.fixture
def blobs_read(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """Digests of the blobs that were asked for."""
    read: set[str] = set()
    stream = httpx2.Client.stream

    def noted(self: Any, method: str, url: str, **more: Any) -> Any:
        if method == "GET" and "/blobs/" in url:
            read.add(url.rpartition("/")[2])
        return stream(self, method, url, **more)

    monkeypatch.setattr(httpx2.Client, "stream", noted)
    return read


def test_a_model_in_an_image_is_fetched_once_by_digest(fetching: Fetching, blobs_read: set[str]) -> None:
    digest = fetching.push("acme/tiny", packed(fetching.job.base), tag="v1")
    first = fetching.prepared("acme/tiny:v1")
    assert first.prepare is not None, first.message
    assert first.prepare.resolved.model == digest
    assert first.prepare.model.digest == base_model_digest(fetching.job.base)
    (folder,) = fetching.cache.iterdir()  # and nothing hidden beside it
    wanted = {p.name for p in fetching.job.base.iterdir()} - {"training_args.bin"} | {SOURCE_FILE}
    assert {p.name for p in folder.iterdir()} == wanted
    assert len(blobs_read) == 1
    blobs_read.clear()
    fetching.push("acme/tiny", *artifact({"README.md": b"moved"}), tag="v1")
    assert fetching.prepared("acme/tiny:v1") == first  # the same job, started again
    shutil.rmtree(fetching.job.workspace)
    assert fetching.prepared(f"acme/tiny:v1@{digest}") == first  # another job, by digest
    assert not blobs_read
    shutil.rmtree(fetching.job.workspace)
    assert "has no weights" in fetching.prepared("acme/tiny:v1").message


def test_a_model_of_single_files_is_fetched_without_the_rest(fetching: Fetching, blobs_read: set[str]) -> None:
    files = {p.name: p.read_bytes() for p in fetching.job.base.iterdir()}
    digest = fetching.push("acme/files", *artifact(files))
    result = fetching.prepared("acme/files")
    assert result.prepare is not None, result.message
    assert (result.prepare.resolved.model, result.prepare.model.digest) == (
        digest,
        base_model_digest(fetching.job.base),
    )
    assert digest_of_bytes(files["training_args.bin"]) not in blobs_read
    assert len(blobs_read) == len(files) - 1


def test_an_image_of_many_platforms_is_one_of_them(fetching: Fetching) -> None:
    child = fetching.push("acme/index", packed(fetching.job.base), tag="child")
    where = parse(f"oci://{fetching.service.host}/acme/index")
    assert isinstance(where, OciLocation)
    with connected(where, None, Credentials.read(fetching.access.credentials), LOOSE, "Output") as registry:
        size = len((registry.find(child) or Document(b"", "")).content)
        entry = {"mediaType": MANIFEST, "digest": child, "size": size}
        listed = [{**entry, "platform": {"os": "linux", "architecture": "arm64"}}]
        index = Document(json.dumps({"schemaVersion": 2, "mediaType": INDEX, "manifests": listed}).encode(), INDEX)
        registry.put_document(index, "latest")
    result = fetching.prepared("acme/index")
    assert result.prepare is not None, result.message
    assert result.prepare.resolved.model == index.digest


def test_a_fetch_that_is_cut_off_goes_on_with_the_next_layer(
    fetching: Fetching, blobs_read: set[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    halves = [tmp_path / "first", tmp_path / "second"]
    for half in halves:
        half.mkdir()
    for number, path in enumerate(sorted(fetching.job.base.iterdir())):
        shutil.copy(path, halves[number % 2])
    fetching.push("acme/halves", *map(packed, halves))
    left = [1]

    def dying(*arguments: Any) -> Any:
        if not left:
            raise KeyboardInterrupt
        left.pop()
        return unpacked(*arguments)

    with monkeypatch.context() as patched:
        patched.setattr(oci, "unpacked", dying)
        with pytest.raises(KeyboardInterrupt):
            fetching.prepared("acme/halves")
    assert [p.name[0] for p in fetching.cache.iterdir()] == ["."]
    assert len(blobs_read) == 1
    blobs_read.clear()
    result = fetching.prepared("acme/halves")
    assert result.prepare is not None, result.message
    assert result.prepare.model.digest == base_model_digest(fetching.job.base)
    assert len(blobs_read) == 1
    assert len(list(fetching.cache.iterdir())) == 1


def test_data_is_the_one_file_of_an_artifact_or_of_an_image(fetching: Fetching, tmp_path: Path) -> None:
    rows = fetching.job.source.read_bytes()
    folder = tmp_path / "rows"
    folder.mkdir()
    (folder / "train.jsonl").write_bytes(rows)
    archive = pyarrow.compress(b"".join(image.tar(folder)), "zstd", asbytes=True)
    zstd = {"mediaType": f"{FILE}+zstd", "content": archive}
    for name, layers in (("data/file", artifact({"rows.jsonl": rows})), ("data/image", [zstd])):
        digest = fetching.push(name, *layers)
        result = fetching.read(name)
        assert result.prepare is not None, result.message
        assert result.prepare.resolved.sources == [digest]
        assert result.prepare.dataset.counts.read == 24
        assert not list((fetching.job.workspace / "downloads").iterdir())
        assert fetching.read(name) == result


def test_what_cannot_be_taken_is_said(fetching: Fetching) -> None:
    rows = fetching.job.source.read_bytes()
    fetching.push("data/two", *artifact({"a.jsonl": rows, "b.jsonl": rows + b"\n"}))
    assert "holds 2 files (a.jsonl, b.jsonl), and a source is one" in fetching.read("data/two").message
    fetching.push("data/up", *artifact({"../a.jsonl": rows}))
    assert "has no name, or not that of a file in it" in fetching.read("data/up").message
    fetching.push("acme/pickles", *artifact({"pytorch_model.bin": b"\x80\x02", "config.json": b"{}"}))
    pickles = fetching.prepared("acme/pickles")
    assert (pickles.reason, pickles.retryable) == ("PickledWeights", False)
    none = fetching.prepared("acme/nothing:v7")
    assert (none.reason, none.retryable) == ("SourceNotFound", False)
    assert "there is nothing at oci://" in none.message
    assert "(v7)" in none.message


def test_a_source_that_is_too_large_or_has_no_room(fetching: Fetching, monkeypatch: pytest.MonkeyPatch) -> None:
    fetching.push("acme/big", packed(fetching.job.base))
    monkeypatch.setattr(data, "Leash", lambda: Leash(100, 5, lambda _: False))
    large = fetching.read("acme/big")
    assert (large.reason, large.retryable) == ("SourceTooLarge", False), large.message
    usage = shutil.disk_usage("/")._replace(free=10)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    full = fetching.prepared("acme/big")
    assert (full.reason, full.retryable) == ("NoSpaceLeft", True), full.message
