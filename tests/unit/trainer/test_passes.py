"""Quick is only good if it is the same: every short cut of a pass against the plain way of transformers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from anneal.api.methods import Lora
from anneal.api.training import Training
from anneal_trainer.fit.batches import PASS_COST_TOKENS, StepPlan, collate, micro_batches
from anneal_trainer.fit.lora import adapt
from anneal_trainer.fit.loss import AnswerLoss
from anneal_trainer.fit.passes import Passes, sharing
from anneal_trainer.fit.prefix import common_length
from anneal_trainer.prepare.template import Rendered
from anneal_trainer.rows import TrainingRows, flatten

CPU = torch.device("cpu")
SHAPE = {
    "vocab_size": 64,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
}


def rows_with(shared: int, count: int = 9, seed: int = 0) -> TrainingRows:
    """Rows of several lengths that begin with the same `shared` tokens; the last few of each are labelled."""
    random = np.random.default_rng(seed)
    beginning = random.integers(1, 60, shared).tolist()
    rows = []
    for i in range(count):
        own = [i + 1, *random.integers(1, 60, random.integers(4, 14)).tolist()]
        answer = int(random.integers(1, len(own) - 2))
        rows.append(Rendered(beginning + own, [False] * (shared + len(own) - answer) + [True] * answer))
    return flatten(rows)


def adapted(model: Any) -> Any:
    """The model with an adapter that already does something."""
    model.requires_grad_(False)
    tuned = adapt(model, Lora(rank=4), 1)
    torch.manual_seed(2)
    for name, parameter in tuned.named_parameters():
        if "lora_B" in name:
            parameter.data.normal_(std=0.1)
    return tuned.train()


def gradients(model: Any) -> torch.Tensor:
    return torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])


def plain(model: Any, rows: TrainingRows) -> tuple[float, torch.Tensor]:
    """(loss sum, gradients of the mean): one row at a time, all logits, transformers' own loss."""
    model.zero_grad()
    total = int(rows.labelled.sum())
    loss_sum = 0.0
    for i in range(len(rows)):
        tokens, marks = rows.row(i)
        labels = torch.tensor(np.where(marks, tokens, -100), dtype=torch.long)[None]
        loss = model(input_ids=torch.tensor(tokens, dtype=torch.long)[None], labels=labels).loss * int(marks.sum())
        (loss / total).backward()
        loss_sum += loss.item()
    return loss_sum, gradients(model)


def quick(model: Any, passes: Passes) -> tuple[float, torch.Tensor]:
    model.zero_grad()
    every = np.arange(len(passes.rows))
    losses = list(passes.of(every, passes.rows.size_of(every)[0]).losses())
    return float(sum(losses)), gradients(model)


MODELS = {
    "Qwen3": lambda: Qwen3ForCausalLM(Qwen3Config(**SHAPE, head_dim=8)),
    "GPT-2": lambda: GPT2LMHeadModel(GPT2Config(vocab_size=64, n_embd=32, n_layer=2, n_head=4, n_positions=128,
                                                resid_pdrop=0, embd_pdrop=0, attn_pdrop=0)),
    "Mistral with a window": lambda: MistralForCausalLM(MistralConfig(**SHAPE, sliding_window=16)),
}  # fmt: skip


@pytest.mark.parametrize("make", [*MODELS.values()], ids=[*MODELS])
@pytest.mark.parametrize("shared", [0, 12])
def test_a_step_is_what_transformers_computes_row_by_row(make: Any, shared: int) -> None:
    torch.manual_seed(0)
    model = adapted(make())
    rows = rows_with(shared)
    expected_loss, expected = plain(model, rows)
    # The hook of AnswerLoss is on the model from here on.
    passes = sharing(Passes(rows, AnswerLoss(model), CPU, max_tokens=60, autocast=torch.float32), model, 10_000)
    loss, found = quick(model, passes)
    assert loss == pytest.approx(expected_loss, rel=1e-5)
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-5)


def test_what_rows_share_is_run_once_where_the_model_allows_it(base: Path) -> None:
    def shared_by(model: Any, rows: TrainingRows) -> int:
        passes = Passes(rows, AnswerLoss(model), CPU, max_tokens=1000, autocast=torch.float32)
        return sharing(passes, model, tokens_per_step=1000).shared

    llama = adapted(LlamaForCausalLM.from_pretrained(base))
    assert shared_by(llama, rows_with(12)) == 12
    assert shared_by(llama, rows_with(1)) == 0  # not worth it
    assert shared_by(adapted(MODELS["Mistral with a window"]()), rows_with(12)) == 0


def test_a_label_is_never_shared() -> None:
    same = Rendered([1, 2, 3, 4], [False, False, True, True])
    assert common_length(flatten([same, same])) == 1
    assert common_length(flatten([Rendered([1, 2], [False, True])] * 2)) == 0


def test_the_head_runs_on_answers_only(base: Path) -> None:
    model = LlamaForCausalLM.from_pretrained(base)
    loss = AnswerLoss(model)
    seen = []
    model.lm_head.register_forward_hook(lambda _m, inputs, _o: seen.append(inputs[0].shape))
    rows = rows_with(0)
    loss(collate(rows, np.arange(len(rows)), 0, CPU))
    assert seen == [torch.Size([int(rows.labelled.sum()), 32])]


lengths = st.lists(st.integers(2, 60), min_size=1, max_size=60).map(lambda x: np.array(x, dtype=np.int64))


@settings(deadline=None)
@given(lengths=lengths, epochs=st.integers(1, 3), tokens=st.integers(1, 200), seed=st.integers(0, 9))
def test_every_epoch_has_every_row_once_and_steps_are_counted_beforehand(
    lengths: Any, epochs: int, tokens: int, seed: int
) -> None:
    plan = StepPlan(lengths, Training(epochs=epochs, tokens_per_step=tokens, seed=seed))
    steps = list(plan.after(0))
    assert [s.number for s in steps] == list(range(1, plan.total_steps + 1))
    for epoch in range(epochs):
        rows = np.concatenate([s.rows for s in steps if s.epoch == epoch])
        assert sorted(rows.tolist()) == list(range(len(lengths)))
    assert all(len(s.rows) == 1 or lengths[s.rows].sum() <= tokens for s in steps)
    middle = plan.total_steps // 2
    resumed = [s.rows.tolist() for s in plan.after(middle)]
    assert resumed == [s.rows.tolist() for s in steps[middle:]]


@settings(deadline=None)
@given(lengths=lengths, limit=st.integers(1, 400))
def test_passes_hold_every_row_once_within_the_limit_at_the_least_cost(lengths: Any, limit: int) -> None:
    passes = micro_batches(np.arange(len(lengths)), lengths, limit)

    def cost(parts: list[Any]) -> int:
        return sum(len(p) * int(lengths[p].max()) + PASS_COST_TOKENS for p in parts)

    assert sorted(np.concatenate(passes).tolist()) == list(range(len(lengths)))
    assert all(len(p) == 1 or len(p) * lengths[p].max() <= limit for p in passes)
    order = np.argsort(-lengths, kind="stable")
    assert cost(passes) <= cost([order[i : i + 1] for i in range(len(order))])
    if len(lengths) * lengths.max() <= limit:
        assert cost(passes) <= cost([order])


def test_max_steps_goes_over_as_many_epochs_as_it_takes() -> None:
    plan = StepPlan(np.full(4, 10), Training(max_steps=7, tokens_per_step=20))
    assert [s.epoch for s in plan.after(0)] == [0, 0, 1, 1, 2, 2, 3]
