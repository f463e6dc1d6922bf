"""What vLLM is told, and what it is spared: runs that it cannot serve are refused before it starts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tests.unit.serving.test_layout import Files, write_artifact

from anneal.api.artifacts import MANIFEST_FILE, base_model_digest, digest_of_bytes, read_manifest
from anneal.api.runs import MountedPath, ServedModel, ServeRun
from anneal.api.runtimes import VLLM
from anneal_serving import layout

ADAPTER = {"r": 12, "use_dora": False}


@pytest.fixture
def files(tmp_path: Path) -> Files:
    found = Files(tmp_path)
    (found.artifact / "adapter_config.json").write_text(json.dumps(ADAPTER))
    found.repository.mkdir()
    return found


def run(files: Files, *models: ServedModel, accelerators: int = 0, **settings: Any) -> ServeRun:
    return files.run(*models, accelerators=accelerators).model_copy(update={"vllm": VLLM(**settings)})


def told(files: Files, wanted: ServeRun) -> dict[str, Any]:
    result, code = layout.lay_out(wanted)
    assert (code, result.reason) == (0, "LaidOut"), result.message
    options: dict[str, Any] = json.loads((files.repository / "vllm.yaml").read_text())
    return options


def refused(wanted: ServeRun) -> str:
    result, code = layout.lay_out(wanted)
    assert (code, result.reason, result.retryable) == (42, "ModelUnservable", False)
    return result.message


def test_base_and_adapter_share_a_server_and_one_slot_stays_empty(files: Files) -> None:
    options = told(files, run(files, files.candidate, files.bare))
    assert (options["model"], options["served-model-name"]) == (str(files.base), ["base"])
    assert [json.loads(m) for m in options["lora-modules"]] == [{"name": "candidate", "path": str(files.artifact)}]
    assert (options["max-loras"], options["max-lora-rank"]) == (2, 16)
    assert options["tokenizer"] == str(files.artifact)
    assert options["language-model-only"] is True


def test_an_adapter_alone_leaves_the_base_a_name_that_is_not_its_own(files: Files) -> None:
    options = told(files, run(files, files.candidate))
    assert options["served-model-name"] == ["base-of-candidate"]


def test_on_cpu_the_cache_is_bounded_and_answers_are_exact(files: Files) -> None:
    options = told(files, run(files, files.candidate))
    assert (options["kv-cache-memory-bytes"], options["dtype"], options["enforce-eager"]) == (2**30, "float32", True)
    assert (options["max-model-len"], options.get("tensor-parallel-size")) == (-1, None)


def test_accelerators_share_the_model_and_the_cache_is_what_is_left(files: Files) -> None:
    options = told(files, run(files, files.candidate, accelerators=2))
    assert (options["tensor-parallel-size"], options["dtype"]) == (2, "bfloat16")
    assert not {"kv-cache-memory-bytes", "enforce-eager"} & options.keys()


def test_settings_are_passed_on(files: Files) -> None:
    options = told(files, run(files, files.bare, maxModelLength=2048, cacheMemory="2G"))
    assert (options["max-model-len"], options["kv-cache-memory-bytes"]) == (2048, 2 * 10**9)
    assert "enable-lora" not in options


def second(files: Files, tmp_path: Path) -> ServedModel:
    """Another artifact on the same base."""
    path = tmp_path / "second"
    digest = write_artifact(path, files.base_digest)
    (path / "adapter_config.json").write_text('{"r": 4, "rank_pattern": {"q_proj": 40}}')
    location = MountedPath(uri="pvc://models/second", path=str(path))
    return files.candidate.model_copy(update={"name": "incumbent", "adapter": location, "adapter_digest": digest})


def test_adapters_of_one_base_share_it_and_the_largest_rank_of_all_counts(files: Files, tmp_path: Path) -> None:
    options = told(files, run(files, files.candidate, second(files, tmp_path), files.bare))
    assert (options["max-loras"], options["max-lora-rank"]) == (3, 64)


def test_another_chat_template_is_refused(files: Files, tmp_path: Path) -> None:
    incumbent = second(files, tmp_path)
    assert incumbent.adapter is not None
    directory = Path(incumbent.adapter.path)
    other = read_manifest(directory).model_copy(update={"chat_template_hash": digest_of_bytes(b"other")})
    (directory / MANIFEST_FILE).write_text(json.dumps(other.to_json()))
    sentence = refused(run(files, files.candidate, incumbent.model_copy(update={"adapter_digest": other.digest})))
    assert "candidate and incumbent were tuned with different ones. Serve them with Triton" in sentence


def whole_model(files: Files, directory: Path) -> ServedModel:
    digest = write_artifact(directory, files.base_digest, weights="model.safetensors")
    location = MountedPath(uri="pvc://models/whole", path=str(directory))
    return files.candidate.model_copy(update={"adapter": location, "adapter_digest": digest})


def test_a_whole_model_is_served_in_the_place_of_its_base(files: Files, tmp_path: Path) -> None:
    options = told(files, run(files, whole_model(files, tmp_path / "whole")))
    assert (options["model"], options["served-model-name"]) == (str(tmp_path / "whole"), ["candidate"])


def test_two_whole_models_are_refused(files: Files, tmp_path: Path) -> None:
    sentence = refused(run(files, whole_model(files, tmp_path / "whole"), files.bare))
    assert (
        f"vLLM holds one base model, but candidate needs {tmp_path / 'whole'} and base needs {files.base}" in sentence
    )


@pytest.mark.parametrize(
    ("config", "sentence"),
    [
        ({"r": 8, "use_dora": True}, "is a DoRA, which vLLM does not load"),
        ({"r": 600}, "has rank 600"),
        ({"r": 8, "target_modules": ["o_proj", "kv_b_proj"]}, "is also on kv_b_proj, where vLLM applies it in part"),
    ],
)
def test_an_adapter_that_vllm_does_not_load_or_apply_is_refused(
    files: Files, config: dict[str, Any], sentence: str
) -> None:
    (files.artifact / "adapter_config.json").write_text(json.dumps(config))
    assert sentence in (said := refused(run(files, files.candidate)))
    assert "Train with output.merge: true" in said


def on_base(files: Files, **config: Any) -> list[ServedModel]:
    """Candidate and base, when the base is configured like this."""
    (files.base / "config.json").write_text(json.dumps(config))
    digest = base_model_digest(files.base)
    write = read_manifest(files.artifact).model_copy(update={"base_digest": digest})
    (files.artifact / MANIFEST_FILE).write_text(json.dumps(write.to_json()))
    candidate = files.candidate.model_copy(update={"base_digest": digest, "adapter_digest": write.digest})
    return [candidate, files.bare.model_copy(update={"base_digest": digest})]


@pytest.mark.parametrize("config", [{"n_routed_experts": 8}, {"text_config": {"num_local_experts": 4}}])
def test_on_cpu_an_adapter_on_a_model_with_experts_is_refused(files: Files, config: dict[str, Any]) -> None:
    models = on_base(files, **config)
    sentence = refused(run(files, *models))
    assert "candidate is an adapter on a model with experts, with which vLLM does not start on CPU. Train" in sentence
    assert "lora-modules" in told(files, run(files, *models, accelerators=1))
    assert "enable-lora" not in told(files, run(files, models[1]))


def test_an_adapter_on_a_llama_4_with_eyes_would_not_be_applied_and_is_refused(files: Files) -> None:
    models = on_base(files, model_type="llama4")
    assert "it would load the adapter and answer as the base" in refused(run(files, *models, accelerators=8))
    assert told(files, run(files, models[1]))["model"] == str(files.base)


def test_an_adapter_on_a_dense_model_that_sees_is_served(files: Files) -> None:
    models = on_base(files, model_type="mistral3", text_config={"model_type": "mistral"}, num_experts=0)
    assert "lora-modules" in told(files, run(files, *models))
