"""Experts made quick compute what transformers and peft do, or are left as they are and it is said."""

from __future__ import annotations

import hashlib
import inspect
import logging
import pkgutil
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model, get_peft_model_state_dict
from tests.support.families import SHAPE, deepseek_v3, llama4_text, write_family
from tests.trainer.job import Job
from tests.trainer.test_passes import plain, rows_with
from transformers import (
    GptOssConfig,
    GptOssForCausalLM,
    Llama4ForCausalLM,
    Llama4TextConfig,
    Qwen3MoeConfig,
    Qwen3MoeForCausalLM,
)

from anneal_trainer.fit import moe

FP32 = torch.float32
SPARSE = "every expert runs on every token"
FOLDED = "adapters are added to all experts in each pass"
MODELS = {
    "Llama 4": lambda: Llama4ForCausalLM(Llama4TextConfig(**llama4_text())),
    "Llama 4, two experts a token": lambda: Llama4ForCausalLM(Llama4TextConfig(**llama4_text(num_experts_per_tok=2))),
    "DeepSeek V3": deepseek_v3,
    "Qwen3, experts in every layer": lambda: Qwen3MoeForCausalLM(
        Qwen3MoeConfig(**SHAPE, head_dim=8, num_experts=8, num_experts_per_tok=3, moe_intermediate_size=16)
    ),
}


def model(name: str, **changes: Any) -> Any:
    """A model with adapters on its experts and elsewhere, which do something already."""
    torch.manual_seed(0)
    base = MODELS[name]().requires_grad_(False)
    stacks = ["experts.gate_up_proj", "experts.down_proj"]
    settings = {"r": 4, "lora_alpha": 8, "target_modules": ["o_proj"], "target_parameters": stacks} | changes
    with torch.no_grad():  # stacks begin as zeros or as they were found in memory
        for parameter in (p for p in base.parameters() if p.dim() == 3):
            parameter.normal_(std=0.2)
    return get_peft_model(base, LoraConfig(**settings)).train()


def stir(tuned: Any) -> Any:
    torch.manual_seed(1)
    for name, parameter in tuned.named_parameters():
        if "lora_B" in name:
            parameter.data.normal_(std=0.2)
    return tuned


def replaced(tuned: Any) -> set[str]:
    """The classes whose forward is ours now."""
    return {type(m).__name__ for m in tuned.modules() if "forward" in vars(m)}


@pytest.mark.parametrize("name", MODELS)
def test_loss_and_gradients_are_those_of_the_libraries(name: str) -> None:
    tuned = stir(model(name))
    rows = rows_with(4)
    expected_loss, expected = plain(tuned, rows)
    assert moe.speed_up(tuned, FP32) == []
    llama4 = {"Llama4TextMoe", "Llama4TextExperts"} if name.startswith("Llama 4") else set()
    assert replaced(tuned) == {"ParamWrapper"} | llama4
    loss, found = plain(tuned, rows)
    assert loss == pytest.approx(expected_loss, rel=1e-6)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("parameters", [["experts.down_proj"], None], ids=["one stack", "no stack"])
def test_whatever_is_adapted(parameters: list[str] | None) -> None:
    tuned = stir(model("Llama 4", target_parameters=parameters))
    _, expected = plain(tuned, rows_with(4))
    assert moe.speed_up(tuned, FP32) == []
    assert replaced(tuned) == {"Llama4TextMoe", "Llama4TextExperts"} | ({"ParamWrapper"} if parameters else set())
    torch.testing.assert_close(plain(tuned, rows_with(4))[1], expected, rtol=1e-4, atol=1e-6)


def test_all_weights_learn_as_they_did() -> None:
    torch.manual_seed(0)
    whole = MODELS["Llama 4"]()
    with torch.no_grad():
        for parameter in (p for p in whole.parameters() if p.dim() == 3):
            parameter.normal_(std=0.2)
    _, expected = plain(whole, rows_with(4))
    assert moe.speed_up(whole, FP32) == []
    assert replaced(whole) == {"Llama4TextMoe", "Llama4TextExperts"}
    torch.testing.assert_close(plain(whole, rows_with(4))[1], expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", MODELS)
def test_in_bfloat16_too(name: str) -> None:
    tuned = model(name)
    for parameter in tuned.parameters():
        if not parameter.requires_grad:
            parameter.data = parameter.data.bfloat16()
    assert moe.speed_up(tuned, torch.bfloat16) == []
    with torch.autocast("cpu", torch.bfloat16):
        assert plain(tuned, rows_with(4))[1].isfinite().all()


def test_the_trial_leaves_the_adapter_as_it_was() -> None:
    tuned = model("DeepSeek V3")
    before = {name: p.detach().clone() for name, p in tuned.named_parameters()}
    moe.speed_up(tuned, FP32)
    assert all(torch.equal(p, before[name]) and p.grad is None for name, p in tuned.named_parameters())


def test_the_artifact_is_one_that_peft_made(tmp_path: Path) -> None:
    tuned = stir(model("DeepSeek V3"))
    names = set(get_peft_model_state_dict(tuned))
    moe.speed_up(tuned, FP32)
    assert set(get_peft_model_state_dict(tuned)) == names
    tuned.save_pretrained(tmp_path)
    others = PeftModel.from_pretrained(model("DeepSeek V3").unload(), tmp_path).eval()
    tokens = torch.arange(30)[None]
    torch.testing.assert_close(tuned.eval()(input_ids=tokens).logits, others(input_ids=tokens).logits)


def test_an_adapter_that_is_switched_off_does_nothing() -> None:
    tuned, tokens = stir(model("Llama 4")), torch.arange(30)[None]
    moe.speed_up(tuned, FP32)
    bare = model("Llama 4").unload()
    with tuned.disable_adapter():
        torch.testing.assert_close(tuned(input_ids=tokens).logits, bare(input_ids=tokens).logits)


def test_a_dispatch_that_computes_something_else_is_not_used(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    right = moe._llama4_block

    def wrong(self: Any, hidden_states: torch.Tensor) -> Any:
        output, logits = right(self, hidden_states)
        return output * 1.01, logits

    monkeypatch.setattr(moe, "_llama4_block", wrong)
    tuned = model("Llama 4")
    (note,) = moe.speed_up(tuned, FP32)
    assert note == f"{SPARSE}: in a trial outputs differed by 1 %"
    assert note in caplog.text
    assert replaced(tuned) == set()


@pytest.mark.parametrize("factor", [1.0, 1.01], ids=["right", "wrong"])
def test_a_job_trains_either_way_and_says_what_is_slow(
    factor: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = moe._llama4_block
    calls: list[float] = []

    def block(self: Any, hidden_states: torch.Tensor) -> Any:
        calls.append(factor)
        output, logits = right(self, hidden_states)
        return output * factor, logits

    monkeypatch.setattr(moe, "_llama4_block", block)
    write_family(tmp_path / "llama4", "llama4")
    result = Job(tmp_path / "llama4", tmp_path).fitted()
    assert result.fit is not None, result.message
    said = f"{SPARSE}: in a trial outputs differed by 1 %" in (result.fit.training.remarks or [])
    assert said == (factor != 1)
    assert len(calls) > 6 if factor == 1 else len(calls) == 1  # in every pass, or in the trial alone


def test_an_adapter_that_learns_otherwise_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    right = moe._project

    def no_way_back(experts: Any, wrappers: Any, name: str, tokens: Any, ends: Any) -> Any:
        return right(experts, wrappers, name, tokens.detach(), ends)

    monkeypatch.setattr(moe, "_project", no_way_back)
    tuned = model("DeepSeek V3")
    (note,) = moe.speed_up(tuned, FP32)
    assert note.startswith(f"{FOLDED}: in a trial gradients of ")
    assert replaced(tuned) == set()


def test_experts_of_another_kind_are_left_alone() -> None:
    torch.manual_seed(0)
    config = GptOssConfig(**SHAPE, head_dim=8, num_local_experts=4, num_experts_per_tok=2)
    stacks = ["experts.gate_up_proj", "experts.down_proj"]
    tuned = get_peft_model(GptOssForCausalLM(config), LoraConfig(r=4, target_parameters=stacks, target_modules=[]))
    (note,) = moe.speed_up(tuned, FP32)
    assert note == f"{FOLDED}: GptOssExperts is not of the kind that is known (has_bias)"
    assert replaced(tuned) == set()


def test_where_the_unchanged_layer_does_not_fit_there_is_nothing_to_compare(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    tuned = model("DeepSeek V3")

    def too_much(self: Any, *inputs: Any) -> Any:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(type(tuned.base_model.model.model.layers[1].mlp.experts), "forward", too_much)
    with caplog.at_level(logging.WARNING):
        assert moe.speed_up(tuned, FP32) == []
    assert "DeepseekV3MoE does not fit in memory unchanged" in caplog.text
    assert replaced(tuned) == {"ParamWrapper"}


#: Digests of the functions in moe.RELIED_ON, as they are in the releases that moe.py was written for.
SEEN = {
    "transformers.models.llama4.modeling_llama4:Llama4TextMoe.forward": "558256dc4289d9e0",
    "transformers.models.llama4.modeling_llama4:Llama4TextExperts.forward": "055567467fb6042e",
    "transformers.models.llama4.modeling_llama4:Llama4Router.forward": "1f606d051a01d66f",
    "transformers.integrations.moe:grouped_mm_experts_forward": "54beecae8764c6e9",
    "transformers.integrations.moe:_default_apply_gate": "2d8844be94e54259",
    "transformers.integrations.moe:_grouped_mm": "48e6d68b0f3bd66f",
    "peft.tuners.lora.layer:ParamWrapper.forward": "704fb56e52604110",
    "peft.tuners.lora.layer:ParamWrapper.get_delta_factors": "821452c621a3c41a",
}


@pytest.mark.parametrize("name", moe.RELIED_ON)
def test_what_is_replaced_is_what_was_read(name: str) -> None:
    source = inspect.getsource(inspect.unwrap(pkgutil.resolve_name(name)))
    digest = hashlib.sha256(source.encode()).hexdigest()[:16]
    assert digest == SEEN.get(name), (
        f"{name} is not the function that fit/moe.py was written for: compare the two releases, carry over to moe.py"
        f" what changed in what it computes, see the other tests of this file pass, then put {digest} here"
    )
