"""`s3://` against a real S3 service: models and data, with keys and without, and what is refused."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.fs
import pytest
from tests.support.https_server import certificate
from tests.support.s3_service import S3Service, s3_service
from tests.support.tiny_model import write_base
from tests.trainer.job import Job

from anneal.api.artifacts import base_model_digest, digest_of_bytes, verify_artifact
from anneal.api.runs import Access, ModelInput, MountedPath, PrepareRun, RemotePath, RunResult, SourceInput
from anneal_trainer.publish import mirror
from anneal_trainer.sources import Leash, data, models
from anneal_trainer.sources.models import SOURCE_FILE

pytestmark = pytest.mark.integration
LOOSE = Leash(timeout_seconds=5, is_forbidden=lambda _: False)


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Service]:
    folder = tmp_path_factory.mktemp("s3")
    with s3_service(folder, *certificate(folder)) as running:
        base = folder / "tiny"
        write_base(base)
        running.client().create_dir("models")
        for path in base.iterdir():
            running.put(f"models/acme/tiny/{path.name}", path.read_bytes())
        running.put("models/acme/tiny/training_args.bin", b"\x80\x02pickle")
        running.put("models/acme/tiny/runs/events.json", b"{}")
        yield running


@dataclass
class Fetching:
    """A job whose base and data are in the service."""

    job: Job
    service: S3Service
    root: Path

    def access(self, **keys: str) -> Access:
        folder = self.root / "credentials" / "store"
        folder.mkdir(parents=True, exist_ok=True)
        owners = {"AWS_ACCESS_KEY_ID": self.service.access_key, "AWS_SECRET_ACCESS_KEY": self.service.secret_key}
        for key, value in {"ca.crt": self.service.ca_file.read_text(), **owners, **keys}.items():
            (folder / key).write_text(value)
        return Access(endpoint=self.service.endpoint, credentials=str(folder))

    def run(self, uri: str = "s3://models/acme/tiny", access: Access | None = None, **more: Any) -> PrepareRun:
        cache = MountedPath(uri="pvc://bases", path=str(self.root / "bases"))
        model = ModelInput(uri=uri, cache=cache, access=access or self.access())
        return self.job.prepare_run().model_copy(update={"model": model, **more})

    def prepared(self, **more: Any) -> RunResult:
        return self.job.do(self.run(**more))


@pytest.fixture
def fetching(service: S3Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Fetching:
    # The service of these tests is on this machine, which is out of reach otherwise.
    monkeypatch.setattr(models, "Leash", lambda: LOOSE)
    monkeypatch.setattr(data, "Leash", lambda: LOOSE)
    monkeypatch.setattr(mirror, "Leash", lambda: LOOSE)
    return Fetching(Job(service.folder.parent / "tiny", tmp_path), service, tmp_path)


def test_a_model_and_its_data_are_fetched(fetching: Fetching) -> None:
    rows = fetching.job.source.read_bytes()
    fetching.service.put("models/data/rows.jsonl", rows)
    source = SourceInput(uri="s3://models/data/rows.jsonl", access=fetching.access())
    result = fetching.prepared(sources=[source])
    assert result.prepare is not None, result.message
    digest = base_model_digest(fetching.job.base)
    assert result.prepare.model.digest == digest
    assert result.prepare.resolved.to_json() == {"model": digest, "sources": [digest_of_bytes(rows)]}
    (folder,) = (fetching.root / "bases").iterdir()
    assert {p.name for p in folder.iterdir()} == {p.name for p in fetching.job.base.iterdir()} | {SOURCE_FILE}


def test_a_model_that_changed_gets_another_folder(fetching: Fetching) -> None:
    first = fetching.prepared()
    assert fetching.prepared() == first
    config = (fetching.job.base / "config.json").read_bytes()
    fetching.service.put("models/acme/tiny/config.json", config + b"\n")
    second = fetching.prepared()
    fetching.service.put("models/acme/tiny/config.json", config)
    assert first.prepare is not None
    assert second.prepare is not None
    assert first.prepare.model.uri != second.prepare.model.uri


@pytest.mark.parametrize(
    ("uri", "keys", "reason", "sentence"),
    [
        ("s3://models/acme/none", {}, "SourceNotFound", "there is nothing at s3://models/acme/none at https://127"),
        ("s3://nobodys/tiny", {}, "SourceNotFound", "there is nothing at s3://nobodys/tiny"),
        (
            "s3://models/acme/tiny",
            {"AWS_SECRET_ACCESS_KEY": "wrong"},
            "SourceNotReadable",
            "may not be read with the keys of Secret 'store': check keys and policy",
        ),
        (
            "s3://models/acme/tiny",
            {"AWS_SECRET_ACCESS_KEY": ""},
            "SecretUnusable",
            "Secret 'store' has no key AWS_SECRET_ACCESS_KEY",
        ),
    ],
    ids=["no such folder", "no such bucket", "wrong key", "no key"],
)
def test_what_goes_wrong_is_said(
    fetching: Fetching, uri: str, keys: dict[str, str], reason: str, sentence: str
) -> None:
    result = fetching.prepared(uri=uri, access=fetching.access(**keys))
    assert (result.reason, result.retryable) == (reason, False), result.message
    assert sentence in result.message


def test_without_a_secret_nobodys_keys_are_used(fetching: Fetching, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", fetching.service.access_key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", fetching.service.secret_key)
    folder = fetching.root / "credentials" / "ca-only"
    folder.mkdir(parents=True)
    (folder / "ca.crt").write_bytes(fetching.service.ca_file.read_bytes())
    result = fetching.prepared(access=Access(endpoint=fetching.service.endpoint, credentials=str(folder)))
    assert result.reason == "SourceNotReadable", result.message
    assert os.environ["AWS_EC2_METADATA_DISABLED"] == "true"


def test_the_node_itself_is_no_service(fetching: Fetching, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(models, "Leash", Leash)
    result = fetching.prepared()
    assert (result.reason, result.retryable) == ("SourceNotAllowed", False)
    assert "leads to 127.0.0.1, an address of the node itself" in result.message


def test_a_service_that_is_not_there_may_be_tried_again(fetching: Fetching) -> None:
    access = fetching.access().model_copy(update={"endpoint": "https://127.0.0.1:1"})
    result = fetching.prepared(access=access)
    assert (result.reason, result.retryable) == ("SourceUnavailable", True), result.message


def test_an_unknown_authority_is_not_trusted(fetching: Fetching) -> None:
    (Path(fetching.access().credentials or "") / "ca.crt").unlink()
    access = Access(endpoint=fetching.service.endpoint, credentials=str(fetching.root / "credentials" / "store"))
    result = fetching.prepared(access=access)
    assert result.outcome == "Failed"
    assert not list((fetching.root / "bases").glob("*"))
    assert "certificate" in result.message.lower(), result.message


def published(fetching: Fetching, keys: Access, where: str = "s3://models/tuned") -> RunResult:
    """A whole job on a claim, whose artifact is copied to the service."""
    prepared = fetching.job.prepared()
    run = fetching.job.publish_run(prepared, fetching.job.do(fetching.job.fit_run(prepared)))
    return fetching.job.do(run.model_copy(update={"mirror": RemotePath(uri=where, access=keys)}))


def folder_name(result: RunResult) -> str:
    assert result.publish is not None, result.message
    return result.publish.uri.rpartition("/")[2]


def listed(fetching: Fetching, path: str) -> dict[str, int]:
    """Objects below a path, with their time of change."""
    found = fetching.service.client().get_file_info(pyarrow.fs.FileSelector(path, recursive=True))
    return {i.path.removeprefix(f"{path}/"): i.mtime_ns for i in found if i.type == pyarrow.fs.FileType.File}


def test_the_artifact_is_copied_whole_and_once(fetching: Fetching, tmp_path: Path) -> None:
    result = published(fetching, fetching.access())
    assert result.publish is not None, result.message
    assert result.publish.mirror_uri == f"s3://models/tuned/{folder_name(result)}"
    path, artifact = f"models/tuned/{folder_name(result)}", fetching.job.output / folder_name(result)
    before = listed(fetching, path)
    assert set(before) == {p.relative_to(artifact).as_posix() for p in artifact.rglob("*") if p.is_file()}
    pyarrow.fs.copy_files(path, str(tmp_path / "copy"), source_filesystem=fetching.service.client())
    verify_artifact(tmp_path / "copy", result.publish.digest)
    assert published(fetching, fetching.access()) == result
    assert listed(fetching, path) == before


def test_a_copy_that_was_cut_off_is_made_whole(fetching: Fetching) -> None:
    result = published(fetching, fetching.access(), "s3://models/cut")
    path = f"models/cut/{folder_name(result)}"
    for name in ("anneal-manifest.json", "adapter_config.json"):
        fetching.service.client().delete_file(f"{path}/{name}")
    assert published(fetching, fetching.access(), "s3://models/cut") == result
    assert listed(fetching, path).keys() >= {"anneal-manifest.json", "adapter_config.json"}


def test_another_artifact_of_that_name_is_left_alone(fetching: Fetching) -> None:
    result = published(fetching, fetching.access(), "s3://models/taken")
    fetching.service.put(f"models/taken/{folder_name(result)}/anneal-manifest.json", b"{}")
    again = published(fetching, fetching.access(), "s3://models/taken")
    assert (again.reason, again.retryable) == ("OutputOccupied", False)


def test_a_copy_that_may_not_be_written(fetching: Fetching) -> None:
    wrong = published(fetching, fetching.access(AWS_SECRET_ACCESS_KEY="wrong"))
    assert (wrong.reason, wrong.retryable) == ("OutputNotWritable", False), wrong.message
    assert "may not be written with the keys of Secret 'store'" in wrong.message
    nowhere = published(fetching, fetching.access(), "s3://nobodys/tuned")
    assert (nowhere.reason, nowhere.retryable) == ("OutputNotFound", False), nowhere.message
