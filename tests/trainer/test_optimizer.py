"""AdamW with its moments in 8 bits: it learns as AdamW does, in as much less memory as the estimate says."""

from __future__ import annotations

import copy
import os
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.support.tiny_model import write_tokenizer
from tests.trainer.job import FAST, Job
from tests.trainer.spread import spread
from transformers import LlamaConfig, LlamaForCausalLM

from anneal.api.methods import Full, Method, Optimizer
from anneal.estimate.memory import Work, moments_bytes
from anneal.estimate.shape import shape_of
from anneal_trainer.fit.checkpoint import OPTIMIZER, complete
from anneal_trainer.fit.methods import Learner
from anneal_trainer.fit.optimizer import kept, optimizer
from anneal_trainer.fit.ranks import Together
from anneal_trainer.fit.tensors import read

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


def with_base(job: Job, model: LlamaForCausalLM) -> None:
    """Makes `model` the job's base."""
    job.base = job.root / "base"
    model.save_pretrained(job.base)
    write_tokenizer(job.base)


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
    with_base(job, model)
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


def _is_told_to_go_in_the_fifth_step(_job: Job, rank: int) -> None:
    """Rank 1 gets SIGTERM before what it learned in that step is added up."""
    add_up, steps = Together.add_up, iter(range(1, 100))

    def told(ranks: Together, *learned: Any) -> bool:
        if rank and next(steps) == 5:
            os.kill(os.getpid(), signal.SIGTERM)
        return add_up(ranks, *learned)

    Together.add_up = told  # type: ignore[method-assign]


def test_several_ranks_with_moments_in_8_bits_learn_what_one_learns_and_go_on(
    job: Job, model: LlamaForCausalLM, tmp_path: Path
) -> None:
    """Each rank keeps moments of its own, which are the same, since gradients are added up before each update."""
    with_base(job, model)
    training = FAST.model_copy(update={"max_steps": 12, "learning_rate": "3e-3", "weight_decay": "0.1"})
    job = replace(job, method=Method(full=Full(optimizer="AdamW8bit")), training=training)
    alone, several = (replace(job, root=tmp_path / name) for name in ("alone", "several"))
    for mine in (alone, several):
        mine.root.mkdir()
    assert alone.fitted().outcome == "Succeeded"
    run = several.fit_run(several.prepared())

    left = spread(several, run, 1, 2, "DDP", _is_told_to_go_in_the_fifth_step)
    assert [r.message for r in left if r is not None] == ["preempted at step 5 of 12"] * 2
    stopped = next(complete(several.workspace / "checkpoints"))
    moments_then = read(stopped.path, OPTIMIZER)
    assert {t.dtype for name, t in moments_then.items() if name.endswith("proj.weight.state1")} == {torch.uint8}
    for result in spread(several, run, 1, 2, "DDP"):
        assert result is not None
        assert result.fit is not None, result.message
        assert (result.outcome, result.fit.resumes) == ("Succeeded", 1)

    one, many = (next(complete(j.workspace / "checkpoints")).state.curve for j in (alone, several))
    assert one[-1].mean < 0.8 * one[0].mean
    for expected, found in zip(one, many, strict=True):
        assert (found.step, found.tokens) == (expected.step, expected.tokens)
        assert found.mean == pytest.approx(expected.mean, rel=1e-3), f"step {found.step}"
