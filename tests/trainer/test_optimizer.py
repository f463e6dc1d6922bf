"""AdamW with its moments in 8 bits: it learns as AdamW does, in as much less memory as the estimate says."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.support.tiny_model import write_tokenizer
from tests.trainer.job import FAST, Job
from transformers import LlamaConfig, LlamaForCausalLM

from anneal.api.methods import Full, Method, Optimizer
from anneal.estimate.memory import Work, moments_bytes
from anneal.estimate.shape import shape_of
from anneal_trainer.fit.checkpoint import complete
from anneal_trainer.fit.methods import Learner
from anneal_trainer.fit.optimizer import kept, optimizer

#: Wide enough that no matrix is below the 4,096 numbers that bitsandbytes keeps in float32.
CONFIG = LlamaConfig(
    vocab_size=257, hidden_size=64, intermediate_size=176, num_hidden_layers=2, num_attention_heads=4,
    num_key_value_heads=4, max_position_embeddings=128, eos_token_id=256, bos_token_id=None, pad_token_id=256,
    initializer_range=0.1,
)  # fmt: skip
KINDS: tuple[Optimizer, ...] = ("AdamW", "AdamW8bit")


@pytest.fixture
def model() -> LlamaForCausalLM:
    torch.manual_seed(0)
    return LlamaForCausalLM(CONFIG)


def moments(model: Any, kind: Optimizer) -> dict[str, dict[str, torch.Tensor]]:
    learner = Learner(model)
    made = optimizer(learner, kind, 0.1)
    return {name: kept(made, parameter) for name, parameter in learner.trainable}


def test_moments_take_what_the_estimate_says(model: LlamaForCausalLM) -> None:
    work = Work(shape_of(CONFIG.to_dict()), None, weight_bytes=4, value_bytes=4, labelled=0.5, device="CPU")
    for kind in KINDS:
        found = sum(t.nbytes for tensors in moments(model, kind).values() for t in tensors.values())
        assert found == pytest.approx(moments_bytes(replace(work, optimizer=kind)), rel=0.01), kind


def test_moments_of_the_embedding_and_of_vectors_stay_in_float32(model: LlamaForCausalLM) -> None:
    for name, tensors in moments(model, "AdamW8bit").items():
        long = name == "model.embed_tokens.weight" or model.get_parameter(name).dim() == 1
        assert {t.dtype for n, t in tensors.items() if n.startswith("state")} == {
            torch.float32 if long else torch.uint8
        }
        assert len(tensors) == (2 if long else 4), name


def test_the_first_update_is_that_of_adamw(model: LlamaForCausalLM) -> None:
    updated = []
    for kind in KINDS:
        mine = copy.deepcopy(model)
        made = optimizer(Learner(mine), kind, 0.1)
        for number, parameter in enumerate(mine.parameters()):
            torch.manual_seed(number)
            parameter.grad = torch.randn_like(parameter)
        for group in made.param_groups:
            group["lr"] = 1e-2
        made.step()
        updated.append(dict(mine.named_parameters()))
    for name, parameter in updated[0].items():
        assert torch.allclose(updated[1][name], parameter, atol=1e-6), name
        assert not torch.equal(parameter, model.get_parameter(name)), name


def test_the_loss_falls_as_it_does_with_adamw(job: Job, model: LlamaForCausalLM, tmp_path: Path) -> None:
    job.base = tmp_path / "base"
    model.save_pretrained(job.base)
    write_tokenizer(job.base)
    curves = {}
    for kind in KINDS:
        training = FAST.model_copy(update={"max_steps": 30, "learning_rate": "3e-3", "weight_decay": "0.1"})
        mine = replace(job, root=tmp_path / kind, method=Method(full=Full(optimizer=kind)), training=training)
        mine.root.mkdir()
        assert mine.fitted().outcome == "Succeeded"
        curves[kind] = [point.mean for point in next(complete(mine.workspace / "checkpoints")).state.curve]
    assert curves["AdamW"][-1] < 0.5 * curves["AdamW"][0]
    assert curves["AdamW"] != curves["AdamW8bit"]
    for step, (long, short) in enumerate(zip(curves["AdamW"], curves["AdamW8bit"], strict=True), 1):
        assert short == pytest.approx(long, rel=0.05), f"step {step}"
