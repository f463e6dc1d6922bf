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
from anneal_trainer.fit import attention
from anneal_trainer.fit import loss as loss_module
from anneal_trainer.fit.attention import Layout, Span
from anneal_trainer.fit.batches import PASS_COST_TOKENS, StepPlan, micro_batches
from anneal_trainer.fit.methods.lora import adapt
from anneal_trainer.fit.passes import Passes, quickest
from anneal_trainer.fit.prefix import Group, groups
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


def joined(*parts: TrainingRows) -> TrainingRows:
    """The rows of all parts."""
    tokens, labelled = ([t for p in parts for t in getattr(p, name)] for name in ("tokens", "labelled"))
    lengths = [n for p in parts for n in p.lengths]
    return TrainingRows(np.array(tokens, dtype=np.int32), np.array(labelled), np.cumsum([0, *lengths]))


def adapted(model: Any, **lora: Any) -> Any:
    """The model with an adapter that already does something."""
    model.requires_grad_(False)
    tuned = adapt(model, Lora(rank=4, **lora), 1)
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


def quickest_of(model: Any, rows: TrainingRows, max_tokens: int = 1000) -> Passes:
    return quickest(model, rows, CPU, max_tokens, torch.float32)


@pytest.mark.parametrize(
    ("name", "way"), [("Qwen3", "Shared"), ("GPT-2", "Shared"), ("Mistral with a window", "Padded")]
)
@pytest.mark.parametrize("shared", [0, 12])
def test_a_step_is_what_transformers_computes_row_by_row(name: str, way: str, shared: int) -> None:
    torch.manual_seed(0)
    model = adapted(MODELS[name]())
    rows = rows_with(shared)
    expected_loss, expected = plain(model, rows)
    passes = quickest_of(model, rows, max_tokens=60)
    assert passes.way == way, passes.notes
    loss, found = quick(model, passes)
    assert loss == pytest.approx(expected_loss, rel=1e-5)
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-5)


def test_several_beginnings_are_each_run_once(base: Path) -> None:
    """Three system prompts, two of which begin alike, and rows without any, in one step."""
    model = adapted(LlamaForCausalLM.from_pretrained(base))
    rows = joined(rows_with(20, 5, seed=1), rows_with(0, 4, seed=2), rows_with(30, 6, seed=3), rows_with(0, 1, seed=4))
    expected_loss, expected = plain(model, rows)
    passes = quickest_of(model, rows)
    work = passes.of(np.arange(len(rows)), int(rows.labelled.sum()))
    model.zero_grad()
    assert float(sum(work.losses())) == pytest.approx(expected_loss, rel=1e-5)
    torch.testing.assert_close(gradients(model), expected, rtol=1e-3, atol=1e-5)
    assert work.computed == int(rows.lengths.sum()) - len(rows) - 4 * 20 - 5 * 30


def test_recomputed_activations_change_nothing(base: Path) -> None:
    model = adapted(LlamaForCausalLM.from_pretrained(base))
    rows = rows_with(12)
    expected_loss, expected = plain(model, rows)
    model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    model.train()
    loss, found = quick(model, quickest_of(model, rows))
    assert loss == pytest.approx(expected_loss, rel=1e-5)
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("by", ["full", "lora"])
def test_a_head_that_is_trained_gets_its_gradient(base: Path, monkeypatch: pytest.MonkeyPatch, by: str) -> None:
    monkeypatch.setattr(loss_module, "PIECE_LOGITS", 257 * 5)  # pieces of five labels
    model: Any = LlamaForCausalLM.from_pretrained(base)
    if by == "lora":
        model = adapted(model, target_modules=["lm_head", "q_proj"])
    rows = rows_with(12)
    expected_loss, expected = plain(model, rows)
    passes = quickest_of(model, rows)
    assert passes.notes == ()
    loss, found = quick(model, passes)
    assert loss == pytest.approx(expected_loss, rel=1e-5)
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-5)


def test_the_loss_can_be_had_without_gradients(base: Path) -> None:
    model = adapted(LlamaForCausalLM.from_pretrained(base))
    rows = rows_with(12)
    expected, _ = plain(model, rows)
    model.zero_grad()
    passes = quickest_of(model, rows)
    with torch.no_grad():
        found = sum(float(passes.forward(batch)) for batch in passes.batches(np.arange(len(rows))))
    assert found == pytest.approx(expected, rel=1e-5)


def test_logits_of_more_than_a_piece_never_exist(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loss_module, "PIECE_LOGITS", 257 * 5)
    model = LlamaForCausalLM.from_pretrained(base)
    rows = rows_with(0)
    passes = quickest_of(model, rows)
    seen = []
    model.lm_head.register_forward_hook(lambda _m, inputs, _o: seen.append(inputs[0].shape[:-1].numel()))
    list(passes.of(np.arange(len(rows)), 1).losses())
    assert max(seen) == 5
    assert sum(seen) == rows.labelled.sum()


def test_dropout_turns_sharing_off_and_nothing_else(base: Path) -> None:
    model = adapt(LlamaForCausalLM.from_pretrained(base).requires_grad_(False), Lora(rank=4, dropout="0.1"), 1).train()
    passes = quickest_of(model, rows_with(12))
    assert (passes.way, passes.notes) == ("Packed", ())


@pytest.mark.parametrize("fault", ["mixes rows", "caps its logits", "has a window"])
def test_what_a_model_does_otherwise_is_noticed_and_said(
    base: Path, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    model = adapted(LlamaForCausalLM.from_pretrained(base))
    rows = rows_with(12)
    expected_loss, expected = plain(model, rows)
    if fault == "mixes rows":
        honest = attention.attend
        line = lambda layout: Layout((Span(sum(layout.lengths)),), layout.device)  # noqa: E731
        monkeypatch.setattr(attention, "attend", lambda *a, layout=None, **k: honest(*a, layout=line(layout), **k))
        said = "rows are padded, not packed: in a trial loss differed"
    elif fault == "caps its logits":
        forward = model.base_model.model.forward

        def capped(*arguments: Any, **named: Any) -> Any:
            output = forward(*arguments, **named)
            output.logits = 3 * torch.tanh(output.logits / 3)
            return output

        monkeypatch.setattr(model.base_model.model, "forward", capped)
        expected_loss, expected = None, None
        said = "the loss is computed whole: in a trial loss differed"
    else:
        model.config.sliding_window = 16
        said = "rows are padded, not packed: the model's layers look back on 16 tokens, and the longest row has"
    passes = quickest_of(model, rows)
    assert passes.notes[0].startswith(said), passes.notes
    if expected is not None:
        loss, found = quick(model, passes)
        assert loss == pytest.approx(expected_loss, rel=1e-5)
        torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-5)


def test_a_label_is_never_shared() -> None:
    same = Rendered([1, 2, 3, 4, 5, 6], [False, False, False, False, True, True])
    assert groups(flatten([same, same]), np.arange(2)) == [Group((0, 1), 3)]
    shortest = flatten([Rendered([1, 2], [False, True])] * 2)
    assert groups(shortest, np.arange(2)) == [Group((0,)), Group((1,))]


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
