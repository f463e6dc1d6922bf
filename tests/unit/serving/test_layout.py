"""No model is laid out unless it is the one that was published, and every refusal names what differs."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from anneal.api.artifacts import MANIFEST_FILE, Manifest, base_model_digest, describe, digest_of_bytes
from anneal.api.runs import MountedPath, ObjectIdentity, ServedModel, ServeRun, parse_result
from anneal_serving import layout, parts
from anneal_serving.repository import Settings, config_text

WEIGHTS = "adapter_model.safetensors"
OBJECT = ObjectIdentity(kind="ModelDeployment", namespace="team", name="intents", uid="1")


def write_base(directory: Path) -> str:
    directory.mkdir()
    (directory / "config.json").write_text("{}")
    (directory / "model.safetensors").write_bytes(b"weights")
    (directory / "tokenizer_config.json").write_text("{}")
    return base_model_digest(directory)


def write_artifact(directory: Path, base_digest: str, weights: str = WEIGHTS) -> str:
    directory.mkdir()
    (directory / weights).write_bytes(b"adapter")
    (directory / "tokenizer_config.json").write_text("{}")
    manifest = Manifest(
        files=describe(directory, directory.iterdir()),
        base_digest=base_digest,
        chat_template_hash=digest_of_bytes(b"template"),
    )
    (directory / MANIFEST_FILE).write_text(json.dumps(manifest.to_json()))
    return manifest.digest


class Files:
    """A base and an artifact below one directory, and the run that serves both."""

    def __init__(self, root: Path) -> None:
        self.base, self.artifact, self.repository = root / "base", root / "artifact", root / "models"
        self.base_digest = write_base(self.base)
        self.artifact_digest = write_artifact(self.artifact, self.base_digest)

    @property
    def candidate(self) -> ServedModel:
        return ServedModel(
            name="candidate",
            base=MountedPath(uri="pvc://hub/base", path=str(self.base)),
            base_digest=self.base_digest,
            adapter=MountedPath(uri="pvc://models/intents", path=str(self.artifact)),
            adapter_digest=self.artifact_digest,
        )

    @property
    def bare(self) -> ServedModel:
        return self.candidate.model_copy(update={"name": "base", "adapter": None, "adapter_digest": None})

    def run(self, *models: ServedModel, accelerators: int = 0) -> ServeRun:
        return ServeRun(object=OBJECT, models=list(models), repository=str(self.repository), accelerators=accelerators)


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(tmp_path)


def test_a_verified_run_gets_one_folder_per_model(files: Files) -> None:
    result, code = layout.lay_out(files.run(files.candidate, files.bare))
    assert (code, result.outcome) == (0, "Succeeded")
    assert sorted(p.name for p in files.repository.iterdir()) == ["base", "candidate"]
    assert (files.repository / "candidate/1/model.py").is_file()


def test_the_base_is_asked_by_the_tokenizer_of_the_artifact_beside_it(files: Files) -> None:
    models = [files.candidate, files.bare]
    assert [parts.tokenizer_of(m, models) for m in models] == [str(files.artifact)] * 2
    assert parts.tokenizer_of(files.bare, [files.bare]) == str(files.base)


def test_another_base_keeps_its_own_tokenizer(files: Files) -> None:
    other = files.bare.model_copy(update={"base_digest": digest_of_bytes(b"other")})
    assert parts.tokenizer_of(other, [files.candidate, other]) == str(files.base)


def test_an_artifact_without_tokenizer_is_asked_by_that_of_its_base(files: Files) -> None:
    (files.artifact / "tokenizer_config.json").unlink()
    assert parts.tokenizer_of(files.candidate, [files.candidate]) == str(files.base)


def test_models_share_the_cores_and_take_turns_on_accelerators(files: Files) -> None:
    models = [files.candidate, files.bare, files.bare.model_copy(update={"name": "third"})]
    layout.lay_out(files.run(*models, accelerators=2))
    configs = {p.name: (p / "config.pbtxt").read_text() for p in files.repository.iterdir()}
    assert "KIND_GPU gpus: [ 0 ]" in configs["candidate"]
    assert "KIND_GPU gpus: [ 1 ]" in configs["base"]
    assert "KIND_GPU gpus: [ 0 ]" in configs["third"]
    threads = max(1, len(os.sched_getaffinity(0)) // 3)
    assert f'key: "threads" value: {{ string_value: "{threads}" }}' in configs["base"]


def test_what_an_earlier_start_left_is_cleared(files: Files) -> None:
    layout.lay_out(files.run(files.candidate, files.bare))
    layout.lay_out(files.run(files.candidate))
    assert [p.name for p in files.repository.iterdir()] == ["candidate"]


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[0] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("harm", "sentence"),
    [
        (
            lambda f: flip(f.artifact / "adapter_model.safetensors"),
            "adapter_model.safetensors of the artifact was changed",
        ),
        (
            lambda f: (f.artifact / "adapter_model.safetensors").unlink(),
            "adapter_model.safetensors of the artifact is missing",
        ),
        (lambda f: flip(f.artifact / MANIFEST_FILE), "anneal-manifest.json of the artifact cannot be read"),
        (lambda f: f.artifact.rename(f.artifact.with_name("moved")), "there is no such directory"),
        (lambda f: flip(f.base / "model.safetensors"), "pvc://hub/base is not what was published"),
        (lambda f: f.base.rename(f.base.with_name("moved")), "there is no such directory"),
        (lambda f: (f.base / "vocab.json").symlink_to("config.json"), "vocab.json is a symbolic link"),
    ],
)
def test_a_difference_is_named_and_nothing_is_laid_out(files: Files, harm: object, sentence: str) -> None:
    run = files.run(files.candidate)
    assert callable(harm)
    harm(files)
    result, code = layout.lay_out(run)
    assert (code, result.outcome, result.reason, result.retryable) == (42, "Failed", "DigestMismatch", False)
    assert sentence in result.message
    assert not files.repository.exists()


def test_an_artifact_of_another_base_is_refused(files: Files, tmp_path: Path) -> None:
    (files.base / "config.json").write_text('{"changed": true}')
    run = files.run(files.candidate.model_copy(update={"base_digest": base_model_digest(files.base)}))
    result, code = layout.lay_out(run)
    assert code == 42
    assert f"it was tuned from the base {files.base_digest}" in result.message


def run_main(files: Files, document: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> int:
    (tmp_path / "run.json").write_text(document)
    monkeypatch.setenv("ANNEAL_RUN_FILE", str(tmp_path / "run.json"))
    monkeypatch.setenv("ANNEAL_TERMINATION_FILE", str(tmp_path / "termination"))
    return layout.main()


def test_the_result_is_left_for_the_kubelet(files: Files, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    flip(files.artifact / WEIGHTS)
    document = json.dumps(files.run(files.candidate).to_json())
    assert run_main(files, document, tmp_path, monkeypatch) == 42
    assert parse_result((tmp_path / "termination").read_text()).reason == "DigestMismatch"


def test_a_fault_of_the_storage_can_be_tried_again(
    files: Files, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files.repository.write_text("a file where the directory should be")
    document = json.dumps(files.run(files.candidate).to_json())
    assert run_main(files, document, tmp_path, monkeypatch) == 1
    result = parse_result((tmp_path / "termination").read_text())
    assert (result.reason, result.retryable) == ("LayoutFailed", True)


def test_paths_are_quoted_for_triton() -> None:
    settings = Settings(base='/claims/a"b\\c', adapter="", tokenizer="/claims/é", threads=1)
    text = config_text(settings, max_batch_size=4, gpu=None)
    assert r'key: "base" value: { string_value: "/claims/a\"b\\c" }' in text
    assert 'string_value: "/claims/é"' in text
    assert "max_batch_size: 4" in text
    assert "decoupled: false" in text
