"""`hf://` against a Hub on this machine: what is fetched, from which commit, as whom, and what is refused."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import constants
from tests.support.hub_server import Hub, hub_server
from tests.trainer.job import Job

from anneal.api.artifacts import base_model_digest, verify_base_model
from anneal.api.runs import Access, ModelInput, MountedPath, PrepareRun, RunResult, SourceInput
from anneal_trainer.preemption import Preemption
from anneal_trainer.sources import Leash, data, models
from anneal_trainer.sources.models import SOURCE_FILE

LOOSE = Leash(timeout_seconds=5, is_forbidden=lambda _: False)
TINY = "acme/tiny"


@dataclass
class Fetching:
    """A job whose base and data are on a Hub."""

    job: Job
    hub: Hub
    root: Path

    @property
    def cache(self) -> Path:
        return self.root / "claims" / "bases"

    def secret(self, name: str = "hub", **keys: str) -> Access:
        """How to reach the Hub as the bearer of a Secret with these keys, the Hub's own authority among them."""
        folder = self.root / "credentials" / name
        folder.mkdir(parents=True, exist_ok=True)
        for key, value in {"ca.crt": self.hub.server.ca_file.read_text(), **keys}.items():
            (folder / key).write_text(value)
        return Access(endpoint=self.hub.url, credentials=str(folder))

    def run(self, uri: str = f"hf://{TINY}", access: Access | None = None, **more: Any) -> PrepareRun:
        access = access or self.secret()
        model = ModelInput(uri=uri, cache=MountedPath(uri="pvc://bases", path=str(self.cache)), access=access)
        return self.job.prepare_run().model_copy(update={"model": model, **more})

    def prepared(self, **more: Any) -> RunResult:
        return self.job.do(self.run(**more))


@pytest.fixture
def fetching(job: Job, base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Fetching]:
    # The Hub of these tests is on this machine, which is out of reach otherwise.
    monkeypatch.setattr(models, "Leash", lambda: LOOSE)
    monkeypatch.setattr(data, "Leash", lambda: LOOSE)
    # As in the image, where nothing but a fetch goes online.
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with hub_server(tmp_path) as hub:
        hub.put(TINY, {p.name: p.read_bytes() for p in base.iterdir()})
        yield Fetching(job, hub, tmp_path)
    assert constants.HF_HUB_OFFLINE is True


def test_a_model_and_its_data_come_from_one_commit_each(fetching: Fetching, base: Path) -> None:
    rows = fetching.job.source.read_bytes()
    data_commit = fetching.hub.put("datasets/acme/chats", {"train/rows.jsonl": rows}, "v2")
    model_commit = fetching.hub.put(TINY, fetching.hub.repositories[TINY]["main"])
    source = SourceInput(uri="hf://datasets/acme/chats:v2/train/rows.jsonl", access=fetching.secret())
    result = fetching.prepared(sources=[source])
    assert result.prepare is not None, result.message
    assert result.prepare.resolved.to_json() == {"model": model_commit, "sources": [data_commit]}
    assert result.prepare.model.digest == base_model_digest(base)
    assert result.prepare.dataset.counts.read == 24
    (folder,) = fetching.cache.iterdir()
    assert result.prepare.model.uri == f"pvc://bases/{folder.name}"
    assert {p.name for p in folder.iterdir()} == {p.name for p in base.iterdir()} | {SOURCE_FILE}
    assert not list((fetching.job.workspace / "downloads").iterdir())


def test_a_model_that_is_there_is_not_fetched_again(fetching: Fetching) -> None:
    first = fetching.prepared()
    fetching.hub.asked.clear()
    shutil.rmtree(fetching.job.workspace)
    assert fetching.prepared() == first
    assert [a for a in fetching.hub.asked if "/resolve/" in a] == []


def test_a_run_that_starts_again_keeps_the_commit_of_the_first(fetching: Fetching) -> None:
    first = fetching.prepared()
    files = dict(fetching.hub.repositories[TINY]["main"])
    fetching.hub.put(TINY, {**files, "config.json": files["config.json"] + b"\n"})
    assert fetching.prepared() == first
    shutil.rmtree(fetching.job.workspace)  # another job
    second = fetching.prepared()
    assert second.prepare is not None
    assert first.prepare is not None
    assert second.prepare.resolved.model != first.prepare.resolved.model
    assert len(list(fetching.cache.iterdir())) == 2


def test_a_token_goes_to_the_hub_and_nowhere_else(fetching: Fetching) -> None:
    fetching.hub.token = "hf_secret"
    fetching.hub.repositories[TINY]["main"]["tokenizer_config.json"] += b" " * 5000
    fetching.hub.put(TINY, fetching.hub.repositories[TINY]["main"])
    result = fetching.prepared(access=fetching.secret(HF_TOKEN="hf_secret"))
    assert result.outcome == "Succeeded", result.message
    assert fetching.hub.seen_by_storage
    assert set(fetching.hub.seen_by_storage) == {None}


def test_a_fetch_that_was_cut_off_goes_on_where_it_was(fetching: Fetching) -> None:
    class Soon(Preemption):
        """Asks to go after two files."""

        left = 2

        def check(self, doing: str) -> None:
            self.requested = self.requested or self.left == 0
            self.left -= 1
            super().check(doing)

    cut = fetching.job.do(fetching.run(), Soon())
    assert (cut.outcome, cut.message) == (
        "Preempted",
        "preempted while fetching the base model; it starts again from there",
    )
    assert all(p.name.startswith(".") for p in fetching.cache.iterdir())
    before = [a for a in fetching.hub.asked if a.startswith("GET /acme/tiny/resolve/")]
    assert fetching.prepared().outcome == "Succeeded"
    after = [a for a in fetching.hub.asked if a.startswith("GET /acme/tiny/resolve/")]
    assert len(after) == len(set(after)) > len(before) == 2
    assert not any(p.name.startswith(".") for p in fetching.cache.iterdir())


def outcome(result: RunResult) -> tuple[str, bool, str]:
    return result.reason, result.retryable, result.message


def test_a_repository_that_may_not_be_read(fetching: Fetching) -> None:
    fetching.hub.token = "hf_secret"
    wrong = outcome(fetching.prepared(access=fetching.secret(HF_TOKEN="other")))
    assert wrong[:2] == ("SourceNotReadable", False)
    assert "may not be read with the token of Secret 'hub', or does not exist" in wrong[2]
    assert "other" not in wrong[2]


@pytest.mark.parametrize(
    ("uri", "reason", "sentence"),
    [
        ("hf://acme/none", "SourceNotFound", "does not exist: check owner, name and revision"),
        (f"hf://{TINY}:v9", "SourceNotFound", "has no branch, tag or commit 'v9'"),
    ],
)
def test_what_is_not_there_is_named(fetching: Fetching, uri: str, reason: str, sentence: str) -> None:
    result = fetching.prepared(uri=uri)
    assert (result.reason, result.retryable) == (reason, False)
    assert sentence in result.message
    assert not fetching.cache.exists()


def test_a_dataset_without_that_file(fetching: Fetching) -> None:
    fetching.hub.put("datasets/acme/chats", {"a.jsonl": b"{}"})
    source = SourceInput(uri="hf://datasets/acme/chats/b.jsonl", access=fetching.secret())
    assert "acme/chats has no file b.jsonl at commit" in fetching.prepared(sources=[source]).message


def test_a_dataset_that_is_too_large_is_refused_before_it_is_fetched(
    fetching: Fetching, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(data, "Leash", lambda: replace(LOOSE, max_bytes=10))
    fetching.hub.put("datasets/acme/chats", {"a.jsonl": b"{}" * 100})
    source = SourceInput(uri="hf://datasets/acme/chats/a.jsonl", access=fetching.secret())
    assert "is larger than 10 bytes" in fetching.prepared(sources=[source]).message
    assert not [a for a in fetching.hub.asked if "resolve" in a and "chats" in a]


def test_what_arrives_damaged_is_refused_and_may_be_tried_again(fetching: Fetching) -> None:
    fetching.hub.spoil = b"spoilt"
    reason, retryable, message = outcome(fetching.prepared())
    assert (reason, retryable) == ("SourceUnavailable", True)
    assert "arrived damaged: its hash is" in message
    fetching.hub.spoil = b""
    assert fetching.prepared().outcome == "Succeeded"


def test_only_data_comes_in(fetching: Fetching) -> None:
    files = dict(fetching.hub.repositories[TINY]["main"])
    unwanted = {
        "pytorch_model.bin": b"\x80\x02pickle",
        "tokenizer.pkl": b"\x80\x02pickle",
        "modeling_tiny.py": b"import os",
        "consolidated.safetensors": b"the same weights again",
        "onnx/model.onnx": b"onnx",
        "../../escape.json": b"{}",
        "tokenizer\\evil.json": b"{}",
    }
    fetching.hub.put(TINY, {**files, **unwanted})
    assert fetching.prepared().outcome == "Succeeded"
    (folder,) = fetching.cache.iterdir()
    assert {p.name for p in folder.iterdir()} == {*files, SOURCE_FILE}


def test_pickles_alone_are_refused_before_anything_is_fetched(fetching: Fetching) -> None:
    files = {k: v for k, v in fetching.hub.repositories[TINY]["main"].items() if not k.endswith(".safetensors")}
    fetching.hub.put(TINY, {**files, "pytorch_model.bin": b"\x80\x02"})
    reason, retryable, message = outcome(fetching.prepared())
    assert (reason, retryable) == ("PickledWeights", False)
    assert "pickled weights only (pytorch_model.bin)" in message
    assert not [a for a in fetching.hub.asked if "/resolve/" in a]


@pytest.mark.parametrize(
    ("name", "content", "reason", "sentence"),
    [
        ("model.safetensors", b"\x80\x02" + b"pickle" * 999, "ModelUnusable", "is not a whole safetensors file"),
        (
            "tokenizer_config.json",
            b'{"auto_map": {"AutoTokenizer": ["evil/repo--tok.Tok", null]}}',
            "RemoteCode",
            "of the base model hf://acme/tiny names Python code of another repository (evil/repo--tok.Tok)",
        ),
    ],
)
def test_what_is_not_what_it_says_is_refused(
    fetching: Fetching, name: str, content: bytes, reason: str, sentence: str
) -> None:
    fetching.hub.put(TINY, {**fetching.hub.repositories[TINY]["main"], name: content})
    result = fetching.prepared()
    assert (result.reason, result.retryable) == (reason, False)
    assert sentence in result.message


def test_a_model_that_does_not_fit_the_claim(fetching: Fetching, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10, 9, 1))
    reason, retryable, message = outcome(fetching.prepared())
    assert (reason, retryable) == ("NoSpaceLeft", True)
    assert "the claim of spec.model.cache has 0.0 GB left: make the claim larger" in message


def test_a_vocabulary_of_absurd_size(fetching: Fetching, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(models, "_MAX_BYTES_BUT_WEIGHTS", 100)
    assert outcome(fetching.prepared())[0] == "SourceTooLarge"


def test_an_unknown_authority_is_not_trusted(fetching: Fetching) -> None:
    result = fetching.prepared(access=Access(endpoint=fetching.hub.url))
    assert (result.reason, result.retryable) == ("SourceNotTrusted", False)
    assert "put its authority into key ca.crt of the source's Secret" in result.message


def test_a_hub_that_is_not_there_may_be_tried_again(fetching: Fetching) -> None:
    access = fetching.secret().model_copy(update={"endpoint": "https://127.0.0.1:1"})
    reason, retryable, message = outcome(fetching.prepared(access=access))
    assert (reason, retryable) == ("SourceUnavailable", True)
    assert "hf://acme/tiny:main at https://127.0.0.1:1 could not be fetched" in message


def test_the_node_itself_is_no_hub(fetching: Fetching, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(models, "Leash", Leash)
    reason, retryable, message = outcome(fetching.prepared())
    assert (reason, retryable) == ("SourceNotAllowed", False)
    assert "it leads to 127.0.0.1, an address of the node itself" in message


def test_a_storage_host_on_the_node_is_out_of_reach_too(fetching: Fetching, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a Hub redirects to is held on the leash like the Hub itself."""
    fetching.hub.storage.url = fetching.hub.storage.url.replace("127.0.0.1", "127.0.0.2")
    monkeypatch.setattr(models, "Leash", lambda: replace(LOOSE, is_forbidden=lambda address: address != "127.0.0.1"))
    assert "it leads to 127.0.0.2, an address of the node itself" in fetching.prepared().message


def test_no_token_without_encryption(fetching: Fetching) -> None:
    access = fetching.secret(HF_TOKEN="hf_secret").model_copy(update={"endpoint": "http://127.0.0.1:1"})
    assert "no token is sent to http://127.0.0.1:1, which is not encrypted" in fetching.prepared(access=access).message


def test_a_secret_without_the_keys(fetching: Fetching, tmp_path: Path) -> None:
    folder = tmp_path / "credentials" / "empty"
    folder.mkdir(parents=True)
    (folder / "token").write_text("x")
    result = fetching.prepared(access=Access(endpoint=fetching.hub.url, credentials=str(folder)))
    assert result.message == "Secret 'empty' has no key HF_TOKEN; it has token: add the key"


def test_links_lead_nowhere(fetching: Fetching, base: Path, tmp_path: Path) -> None:
    (tmp_path / "linked").symlink_to(base)
    run = fetching.job.prepare_run()
    model = ModelInput(uri="pvc://hub/linked", path=str(tmp_path / "linked"))
    assert "lies behind a symbolic link" in fetching.job.do(run.model_copy(update={"model": model})).message
    (tmp_path / "rows.link").symlink_to(fetching.job.source)
    source = SourceInput(uri="pvc://hub/rows.link", path=str(tmp_path / "rows.link"))
    assert "lies behind a symbolic link" in fetching.job.do(run.model_copy(update={"sources": [source]})).message


def test_the_whole_job_runs_on_a_fetched_model(fetching: Fetching) -> None:
    """prepare, fit, publish, with the Hub gone after prepare: nothing later asks for it."""
    result = fetching.prepared()
    assert result.prepare is not None
    (folder,) = fetching.cache.iterdir()
    fetching.job.base, fetching.job.base_uri = folder, f"hf://{TINY}:{result.prepare.resolved.model}"
    fetching.hub.repositories.clear()
    asked = len(fetching.hub.asked)
    fitted = fetching.job.do(fetching.job.fit_run(result.prepare))
    published = fetching.job.do(fetching.job.publish_run(result.prepare, fitted))
    assert published.publish is not None, published.message
    assert len(fetching.hub.asked) == asked
    verify_base_model(folder, result.prepare.model.digest)  # as a server does
    artifact = fetching.job.output / published.publish.uri.rpartition("/")[2]
    adapter = json.loads((artifact / "adapter_config.json").read_text())
    assert (adapter["base_model_name_or_path"], adapter["revision"]) == (TINY, result.prepare.resolved.model)
    assert f'base_model: "{TINY}"' in (artifact / "README.md").read_text()
