"""How much memory a pass through a tiny model is said to need, and how much it needs."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from tests.support.live_tensors import LiveTensors, SavedTensors
from transformers import (
    AutoModelForCausalLM,
    Llama4TextConfig,
    LlamaConfig,
    MistralConfig,
    PretrainedConfig,
    Qwen2Config,
    Qwen3Config,
)

from anneal.api.methods import Lora, Optimizer
from anneal.estimate.memory import (
    Adapter,
    PassPlan,
    Work,
    kept_by_loss,
    kept_bytes,
    loss_bytes,
    moments_bytes,
    update_bytes,
    working_bytes,
)
from anneal.estimate.shape import shape_of
from anneal_trainer.fit import attention, memory, moe, packing, prefix
from anneal_trainer.fit.batches import Batch
from anneal_trainer.fit.loss import PiecewiseLoss
from anneal_trainer.fit.methods import Learner
from anneal_trainer.fit.methods.lora import adapt
from anneal_trainer.fit.optimizer import optimizer
from anneal_trainer.prepare.template import Rendered
from anneal_trainer.rows import TrainingRows, flatten

SHAPE: dict[str, Any] = {"vocab_size": 512, "hidden_size": 64, "num_attention_heads": 4, "num_key_value_heads": 2}


@dataclass(frozen=True)
class Case:
    """A pass of `rows` rows of `length` tokens, of which every fourth is learned. Without `lora` all learns."""

    config: PretrainedConfig
    lora: Lora | None = field(default_factory=Lora)
    dtype: torch.dtype = torch.float32
    rows: int = 2
    length: int = 96
    recompute_every: int = 0
    shared: int = 0
    """Tokens that all rows begin with, before their own `length`."""
    updated_by: Optimizer | None = None
    """What then updates the weights, where its moments and its update are measured, too."""

    @property
    def plan(self) -> PassPlan:
        return PassPlan(self.shared + self.rows * self.length, self.recompute_every)

    @property
    def work(self) -> Work:
        return Work(
            shape=shape_of(self.config.to_dict()),
            adapter=_adapter(self.lora) if self.lora else None,
            weight_bytes=self.dtype.itemsize,
            value_bytes=self.dtype.itemsize,
            labelled=self.rows * (self.length // 4) / self.plan.tokens,
            device="CPU",
            keys_per_token=memory.keys_per_token(_rows(self)),
            optimizer=self.updated_by or "AdamW",
        )


def _adapter(lora: Lora) -> Adapter:
    return Adapter(lora.rank, tuple(lora.target_modules), drops=float(lora.dropout) > 0)


def _llama(layers: int = 4, **more: Any) -> LlamaConfig:
    return LlamaConfig(**SHAPE | more, num_hidden_layers=layers, intermediate_size=176)


CASES: dict[str, Case] = {
    "llama": Case(_llama()),
    "llama in bfloat16": Case(_llama(), dtype=torch.bfloat16),
    "llama, deep": Case(_llama(16), length=64),
    "llama, one long row": Case(_llama(), rows=1, length=384),
    "llama, queries and values": Case(_llama(), Lora(rank=8, target_modules=["q_proj", "v_proj"])),
    "llama with dropout": Case(_llama(), Lora(rank=8, dropout="0.1")),
    "llama, tied, of high rank": Case(_llama(tie_word_embeddings=True), Lora(rank=32)),
    "mistral": Case(MistralConfig(**SHAPE, num_hidden_layers=4, intermediate_size=256, head_dim=24)),
    "qwen2": Case(Qwen2Config(**SHAPE, num_hidden_layers=4, intermediate_size=144)),
    "qwen3": Case(Qwen3Config(**SHAPE, num_hidden_layers=4, intermediate_size=176, head_dim=24)),
    "qwen3 in bfloat16": Case(
        Qwen3Config(**SHAPE, num_hidden_layers=4, intermediate_size=176, head_dim=24), dtype=torch.bfloat16
    ),
    "llama4": Case(
        Llama4TextConfig(
            **SHAPE,
            num_hidden_layers=4,
            intermediate_size=112,
            intermediate_size_mlp=208,
            head_dim=24,
            num_local_experts=4,
            interleave_moe_layer_step=2,
        )
    ),
    "llama, half of a row shared": Case(_llama(), rows=4, length=48, shared=48),
    "llama, most of a row shared": Case(_llama(), rows=8, length=20, shared=200),
    "llama, every weight": Case(_llama(), None),
    "llama, every weight in bfloat16": Case(_llama(), None, torch.bfloat16),
    "qwen3, every weight, all recomputed": Case(
        Qwen3Config(**SHAPE, num_hidden_layers=4, intermediate_size=176, head_dim=24), None, recompute_every=1
    ),
    "llama, every weight, updated": Case(_llama(num_key_value_heads=4), None, updated_by="AdamW"),
    "llama, every weight, updated in 8 bits": Case(_llama(num_key_value_heads=4), None, updated_by="AdamW8bit"),
    "llama, tied, every weight, updated in 8 bits": Case(
        _llama(num_key_value_heads=4, tie_word_embeddings=True), None, rows=1, length=32, updated_by="AdamW8bit"
    ),
    "llama, all recomputed": Case(_llama(), recompute_every=1),
    "llama, deep, all recomputed": Case(_llama(16), length=64, recompute_every=1),
    "llama, deep, all recomputed in bfloat16": Case(_llama(16), Lora(rank=2), torch.bfloat16, recompute_every=1),
    "llama, every second layer recomputed": Case(_llama(), recompute_every=2),
    "llama, every fourth layer recomputed": Case(_llama(9), recompute_every=4),
    "qwen3, all recomputed": Case(
        Qwen3Config(**SHAPE, num_hidden_layers=4, intermediate_size=176, head_dim=24), recompute_every=1
    ),
}


@dataclass(frozen=True)
class Measured:
    """Bytes as estimated and as counted: kept after the forward pass (None with recomputing), and at most,
    without and with an update."""

    kept: tuple[int, int] | None
    peak: tuple[int, int]
    updated: tuple[int, int] | None = None

    @property
    def error(self) -> float:
        """The largest relative error."""
        pairs = [pair for pair in (self.kept, self.peak, self.updated) if pair is not None]
        return max(abs(said / found - 1) for said, found in pairs)


def measure(case: Case) -> Measured:
    """Runs a pass forward and backward, twice: once to count what is kept, once to count what is alive."""
    loss, plan, work = loss_bytes(case.work, case.plan), case.plan, case.work
    kept = kept_bytes(work, plan)
    model, batch = _model(case), _batch(case)
    if not plan.recompute_every:
        saved = SavedTensors([*model.parameters(), *model.buffers()])
        with saved.watching():
            result = _forward(case, model, batch)
        kept_now = saved.bytes
        del result
    model = _model(case)
    trained = [p for p in model.parameters() if p.requires_grad]
    for parameter in trained:  # gradients are there from the first pass on, and are no activations
        parameter.grad = torch.zeros_like(parameter)
    gradients = [p.grad for p in trained if p.grad is not None]
    live = LiveTensors([*model.parameters(), *model.buffers(), *gradients, *_tensors(batch)])
    with live:
        _forward(case, model, batch).backward()
    return Measured(
        kept=None if plan.recompute_every else (kept + kept_by_loss(work, plan), kept_now),
        peak=(kept + max(loss, working_bytes(work, plan)), live.peak),
        updated=_measure_update(case, case.updated_by) if case.updated_by else None,
    )


def _measure_update(case: Case, kind: Optimizer) -> tuple[int, int]:
    """Bytes of a whole step, its moments and its update included, as estimated and as counted."""
    work, plan, model, batch = case.work, case.plan, _model(case), _batch(case)
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    known = [t for p in model.parameters() for t in (p, p.grad)]
    live = LiveTensors([*known, *model.buffers(), *_tensors(batch)])
    with live:
        updates = optimizer(Learner(model), kind, 0.1)
        torch.autograd.backward(_forward(case, model, batch))
        updates.step()
    at_most = kept_bytes(work, plan) + max(loss_bytes(work, plan), working_bytes(work, plan))
    return moments_bytes(work) + max(at_most, update_bytes(work)), live.peak


def _model(case: Case) -> Any:
    torch.manual_seed(0)
    stored = case.dtype if case.lora else torch.float32
    model = AutoModelForCausalLM.from_config(case.config, dtype=stored).requires_grad_(case.lora is None)
    adapted = (adapt(model, case.lora, 0) if case.lora else model).train()
    memory.recompute(adapted, case.plan)
    attention.install(adapted)
    moe.speed_up(adapted, case.dtype)
    return adapted


def _rows(case: Case) -> TrainingRows:
    """Rows that begin alike as far as they are to, and not a token further."""
    learned, each = case.length // 4, case.length + 1
    rows = []
    for row in range(case.rows):
        own = [row + 1, *((np.arange(each - 1) * (row + 3) + 100) % SHAPE["vocab_size"]).tolist()]
        unlearned = case.shared + each - learned
        rows.append(Rendered([0] * case.shared + own, [False] * unlearned + [True] * learned))
    return flatten(rows)


def _batch(case: Case) -> Batch:
    """The rows as training packs them."""
    rows = _rows(case)
    return packing.collate(prefix.groups(rows, np.arange(case.rows)), rows, torch.device("cpu"))


def _tensors(batch: Batch) -> list[torch.Tensor]:
    return [batch.tokens, batch.where, batch.targets, batch.inputs["position_ids"]]


def _forward(case: Case, model: Any, batch: Batch) -> torch.Tensor:
    with torch.autocast("cpu", case.dtype, enabled=case.dtype != torch.float32):
        return PiecewiseLoss(model)(batch)
