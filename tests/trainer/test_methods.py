"""Every method by what it is for: the artifact, on the base as it was published, answers as what was trained did."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from tests.support.tiny_model import write_tokenizer
from tests.trainer.job import FAST, Job
from tests.trainer.test_chain import AfterPasses, folders
from transformers import AutoModelForCausalLM, Qwen3MoeConfig, Qwen3MoeForCausalLM

from anneal.api.artifacts import digest_of_file, read_manifest, verify_artifact
from anneal.api.methods import Full, Lora, Method, QLora
from anneal.api.runs import FitRun, MountedPath, ObjectIdentity, ServedModel, ServeRun
from anneal.estimate.methods import optimizer_of
from anneal_serving import layout, loading
from anneal_serving.questions import Question
from anneal_trainer.fit import tensors
from anneal_trainer.fit.checkpoint import complete
from anneal_trainer.fit.methods import Learner, learner
from anneal_trainer.fit.optimizer import optimizer

CPU = torch.device("cpu")
TOKENS = torch.arange(40)[None] % 250
METHODS = {
    "plain": Method(lora=Lora(rank=4, alpha=8)),
    "Gaussian": Method(lora=Lora(rank=4, alpha=8, initialisation="Gaussian")),
    "rank-stabilised": Method(lora=Lora(rank=4, alpha=8, rs_lora=True)),
    "DoRA": Method(lora=Lora(rank=4, alpha=8, dora=True)),
    "PiSSA": Method(lora=Lora(rank=4, alpha=8, initialisation="PiSSA")),
    "rank-stabilised PiSSA": Method(lora=Lora(rank=4, alpha=8, initialisation="PiSSA", rs_lora=True)),
    "OLoRA": Method(lora=Lora(rank=4, alpha=8, initialisation="OLoRA")),
    "QLoRA": Method(qlora=QLora(rank=4, alpha=8)),
    "full": Method(full=Full()),
    "full, moments in 8 bits": Method(full=Full(optimizer="AdamW8bit")),
}
every_method = pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)


def logits(model: Any) -> torch.Tensor:
    with torch.no_grad():
        return model.eval()(input_ids=TOKENS, use_cache=False).logits.float()


def restored(job: Job, run: FitRun) -> Learner:
    """The model as it was when training ended, put together as an interrupted training would."""
    again = learner(run, torch.float32, CPU)
    updates = optimizer(again, optimizer_of(run.method), 0.0)
    tensors.restore(next(complete(job.workspace / "checkpoints")), again, updates)
    return again


def published(job: Job) -> tuple[FitRun, Path]:
    """What fit was told, and the artifact."""
    prepared = job.prepared()
    run = job.fit_run(prepared)
    result = job.do(job.publish_run(prepared, job.do(run)))
    assert result.publish is not None, result.message
    return run, job.output / result.publish.uri.rpartition("/")[2]


def files_of(job: Job) -> dict[str, str]:
    """Digest of each tensor file of the last checkpoint."""
    last = job.workspace / "checkpoints" / folders(job)[-1]
    return {p.name: digest_of_file(p) for p in last.glob("*.safetensors")}


@pytest.mark.parametrize("method", [m for m in METHODS.values() if m.lora is not None], ids=str)
def test_an_adapter_fits_the_base_as_it_was_published(job: Job, method: Method) -> None:
    job.method = method
    run, folder = published(job)
    trained = logits(restored(job, run).model)
    base = AutoModelForCausalLM.from_pretrained(job.base)
    untouched = logits(base)
    loaded = logits(PeftModel.from_pretrained(base, folder))
    assert torch.allclose(loaded, trained, atol=2e-4)
    assert not torch.allclose(loaded, untouched, atol=2e-2), "the adapter must do something"


@every_method
def test_a_stop_in_the_middle_changes_no_bit(job: Job, method: Method) -> None:
    job.method = method
    run = job.fit_run(job.prepared())
    assert job.do(run).outcome == "Succeeded"
    uninterrupted = files_of(job)
    shutil.rmtree(job.workspace / "checkpoints")
    stopped = job.do(run, AfterPasses(5))
    assert (stopped.outcome, stopped.fit is not None) == ("Preempted", True)
    assert job.do(run).outcome == "Succeeded"
    assert files_of(job) == uninterrupted


def test_full_fine_tuning_publishes_a_model_that_stands_alone(job: Job) -> None:
    job.method = METHODS["full"]
    job.training = FAST.model_copy(update={"learning_rate": "1e-3", "weight_decay": "0.1"})
    run, folder = published(job)
    model = AutoModelForCausalLM.from_pretrained(folder)
    assert torch.equal(logits(model), logits(restored(job, run).model))
    base = AutoModelForCausalLM.from_pretrained(job.base)
    moved = [n for n, p in model.named_parameters() if not torch.equal(p, base.get_parameter(n))]
    assert len(moved) == len(list(base.parameters())), "every weight learns"
    assert "library_name: transformers" in (folder / "README.md").read_text()


def test_weights_that_were_trained_in_float32_are_published_in_the_precision_of_the_base(
    job: Job, tmp_path: Path
) -> None:
    half = tmp_path / "half"
    AutoModelForCausalLM.from_pretrained(job.base, dtype=torch.bfloat16).save_pretrained(half)
    write_tokenizer(half)
    job.base, job.method = half, METHODS["full"]
    run, folder = published(job)
    assert {t.dtype for t in load_file(folder / "model.safetensors").values()} == {torch.bfloat16}
    masters = dict(restored(job, run).trainable)
    assert {p.dtype for p in masters.values()} == {torch.float32}
    for name, tensor in load_file(folder / "model.safetensors").items():
        assert torch.equal(tensor, masters[name].to(torch.bfloat16))


@pytest.mark.parametrize("method", [METHODS["plain"], METHODS["DoRA"], METHODS["PiSSA"], METHODS["QLoRA"]], ids=str)
def test_merging_gives_a_whole_model_in_the_precision_of_the_base(job: Job, method: Method) -> None:
    job.method, job.merge = method, True
    _, folder = published(job)
    adapter = next(complete(job.workspace / "checkpoints")).path
    model = AutoModelForCausalLM.from_pretrained(folder)
    tuned = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(job.base), adapter)
    assert torch.allclose(logits(model), logits(tuned), atol=2e-4)
    assert "quantization_config" not in json.loads((folder / "config.json").read_text())
    assert not (folder / "adapter_model.safetensors").exists()


@pytest.mark.parametrize("method", [METHODS["full"], METHODS["plain"]], ids=["full", "merged"])
def test_a_whole_model_is_served_without_its_base(job: Job, method: Method, tmp_path: Path) -> None:
    job.method, job.merge = method, method.full is None
    run, folder = published(job)
    digest = read_manifest(folder).digest
    assert verify_artifact(folder, digest).contents == "Model"
    served = ServedModel(
        name="candidate",
        base=MountedPath(uri="pvc://hub/gone", path=str(tmp_path / "gone")),
        base_digest=run.base_digest,
        adapter=MountedPath(uri="pvc://models/v1", path=str(folder)),
        adapter_digest=digest,
    )
    identity = ObjectIdentity(kind="ModelDeployment", namespace="n", name="m", uid="u")
    result, code = layout.lay_out(ServeRun(object=identity, models=[served], repository=str(tmp_path / "repository")))
    assert code == 0, result.message
    assert layout.parts_of(served) == (str(folder), "")
    chat = loading.load(folder, None, folder, "cpu")
    prompt = chat.render(Question([{"role": "user", "content": "light on"}], 4))
    assert chat.answer([prompt], [4], lambda: None)[0].output_tokens > 0


def test_a_4_bit_base_learns_and_what_is_not_in_4_bits_is_told(job: Job) -> None:
    job.method = METHODS["QLoRA"]
    job.training = FAST.model_copy(update={"max_steps": 30})
    result = job.fitted()
    assert result.fit is not None, result.message
    (remark,) = result.fit.training.remarks or []
    assert "are in 4 bits" in remark
    assert remark.endswith("cannot be quantised and are as they were: model.embed_tokens.weight, lm_head.weight")
    curve = next(complete(job.workspace / "checkpoints")).state.curve
    assert curve[-1].mean < 0.5 * curve[0].mean


@pytest.fixture
def experts(job: Job, tmp_path: Path) -> Job:
    """A job on a model with stacked experts."""
    torch.manual_seed(0)
    config = Qwen3MoeConfig(
        vocab_size=257, hidden_size=32, intermediate_size=32, moe_intermediate_size=16, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2, head_dim=8, num_experts=4, num_experts_per_tok=2,
        max_position_embeddings=128, eos_token_id=256, bos_token_id=None, pad_token_id=256, initializer_range=0.3,
    )  # fmt: skip
    job.base = tmp_path / "experts"
    Qwen3MoeForCausalLM(config).save_pretrained(job.base)
    write_tokenizer(job.base)
    return job


def test_stacked_experts_learn_where_they_are_named(experts: Job) -> None:
    experts.method = Method(lora=Lora(rank=2, target_modules=["q_proj"], target_parameters=["experts.down_proj"]))
    run, folder = published(experts)
    names = load_file(folder / "adapter_model.safetensors")
    assert any("experts" in name for name in names)
    loaded = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(experts.base), folder)
    assert torch.allclose(logits(loaded), logits(restored(experts, run).model), atol=2e-4)


def test_a_stack_that_is_not_there_is_named_beside_those_that_are(experts: Job) -> None:
    experts.method = Method(lora=Lora(target_parameters=["experts.up"]))
    result = experts.fitted()
    assert (result.outcome, result.reason) == ("Failed", "NoSuchModules")
    assert "it has mlp.experts.down_proj, mlp.experts.gate_up_proj" in result.message


@pytest.mark.parametrize("name", ["plain", "full"])
def test_the_same_seed_is_the_same_run_and_another_is_another(job: Job, name: str) -> None:
    job.method = METHODS[name]
    prepared = job.prepared()
    found = []
    for seed in (1, 1, 2):
        job.training = FAST.model_copy(update={"seed": seed})
        shutil.rmtree(job.workspace / "checkpoints", ignore_errors=True)
        assert job.do(job.fit_run(prepared)).outcome == "Succeeded"
        found.append(files_of(job))
    assert found[0] == found[1] != found[2]
