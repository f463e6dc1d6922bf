"""Forward and backward of one optimizer step, in as few and as full passes as memory allows.

How rows are run is chosen once, before training, by trying: a few made-up rows go through the model in the plain way
and in each quicker one, and a way whose loss or gradients differ is not taken. What is lost by that is said.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import torch

from anneal.estimate.memory import CPU_PASS_TOKENS
from anneal_trainer.fit import attention, packing, prefix
from anneal_trainer.fit.batches import Batch, Indices, micro_batches, padded
from anneal_trainer.fit.loss import Loss, PickedLoss, PiecewiseLoss
from anneal_trainer.fit.sharding import whole
from anneal_trainer.prepare.template import Rendered
from anneal_trainer.rows import TrainingRows, flatten

_TOLERANCE = {torch.float32: 1e-3, torch.bfloat16: 5e-2}
_LOG = logging.getLogger(__name__)

#: Padded: rows of like length, padded. Packed: rows one after the other. Shared: packed, common beginnings run once.
Way = Literal["Padded", "Packed", "Shared"]


@dataclass(frozen=True)
class Passes:
    """How the rows of a step are run.

    Attributes:
        max_tokens: of one pass, padding included.
        autocast: arithmetic of the forward pass; float32 turns it off.
        notes: what is slower than it could be, and why; empty when nothing is.
    """

    rows: TrainingRows
    loss: Loss
    device: torch.device
    max_tokens: int
    autocast: torch.dtype
    way: Way = "Padded"
    notes: tuple[str, ...] = ()

    def of(self, rows: Indices, labelled: int) -> StepWork:
        """The work on `rows` of a step that has `labelled` tokens to learn in all."""
        return StepWork(self, rows, labelled)

    def forward(self, batch: Batch) -> torch.Tensor:
        """The loss sum of a batch."""
        with torch.autocast(self.device.type, self.autocast, enabled=self.autocast != torch.float32):
            return self.loss(batch)

    def batches(self, indices: Indices) -> Batches:
        """The rows at `indices`, each in one of the batches."""
        if self.way == "Padded":
            cuts = micro_batches(indices, self.rows.lengths, self.max_tokens)
            return Batches(len(cuts), (padded(self.rows, few, self.device) for few in cuts))
        found = prefix.groups(self.rows, indices) if self.way == "Shared" else prefix.alone(indices)
        best = CPU_PASS_TOKENS if self.device.type == "cpu" else self.max_tokens
        parts = packing.passes_of(found, self.rows, best, self.max_tokens)
        return Batches(len(parts), (packing.collate(groups, self.rows, self.device) for groups in parts))

    def shortest(self) -> Batch:
        """A batch of the shortest row alone."""
        return next(iter(self.batches(np.array([int(np.argmin(self.rows.lengths))]))))


@dataclass(frozen=True)
class Batches:
    """So many batches, each made when it is its turn."""

    number: int
    each: Iterator[Batch]

    def __iter__(self) -> Iterator[Batch]:
        return self.each


class StepWork:
    """The passes of one step. Gradients are in the parameters once `losses` is consumed.

    Attributes:
        number: how many passes there are.
        computed: tokens that went through the model so far: padding counts, what is shared counts once.
    """

    def __init__(self, passes: Passes, rows: Indices, labelled: int) -> None:
        self._passes = passes
        self._batches = passes.batches(rows)
        self._labelled = labelled
        self.number = self._batches.number
        self.computed = 0

    def losses(self, blank: int = 0) -> Iterator[torch.Tensor]:
        """The loss sum of each pass, detached, after its backward pass, and then of `blank` passes that teach nothing.

        Gradients are those of the mean over all labelled tokens of the step, whatever the passes are.
        """
        for batch in self._batches:
            loss = self._passes.forward(batch)
            (loss / self._labelled).backward()  # type: ignore[no-untyped-call]
            self.computed += batch.tokens.numel()
            yield loss.detach()
        for _ in range(blank):
            nothing = 0 * self._passes.forward(self._passes.shortest())
            nothing.backward()  # type: ignore[no-untyped-call]
            yield nothing.detach()


def quickest(model: Any, rows: TrainingRows, device: torch.device, max_tokens: int, autocast: torch.dtype) -> Passes:
    """The quickest passes that are seen to compute what the plain ones do; the model's attention becomes theirs."""
    chosen = Passes(rows, PickedLoss(model), device, max_tokens, autocast)
    attention_before = model.config._attn_implementation
    was_training = model.training
    model.eval()  # Dropout would make any two ways differ.
    expected = _outcome(model, chosen)
    notes = []
    for change, without in _QUICKER:
        try:
            quicker = change(model, chosen)
            problem = _difference(expected, _outcome(model, quicker), _TOLERANCE[autocast])
        except torch.OutOfMemoryError:
            raise  # What cannot run a few short rows cannot train.
        except (TypeError, ValueError, AttributeError, RuntimeError) as error:
            problem = str(error)
        if not problem:
            chosen = quicker
            continue
        _LOG.warning("%s: %s", without, problem)
        notes.append(f"{without}: {problem}")
    if chosen.way == "Padded":
        model.set_attn_implementation(attention_before)
    model.train(was_training)
    return replace(chosen, notes=tuple(notes))


def _in_pieces(model: Any, passes: Passes) -> Passes:
    return replace(passes, loss=PiecewiseLoss(model))


def _packed(model: Any, passes: Passes) -> Passes:
    reach, longest = attention.reach(model.config), int(passes.rows.lengths.max()) - 1
    if reach is not None and reach < longest:
        raise ValueError(f"the model's layers look back on {reach} tokens, and the longest row has {longest}")
    attention.install(model)
    return replace(passes, way="Packed", max_tokens=attention.longest_line(model.config, passes.max_tokens))


def _shared(model: Any, passes: Passes) -> Passes:
    """With dropout above 0 nothing is shared, since one draw would serve all rows."""
    return replace(passes, way="Shared") if passes.way == "Packed" and not _draws(model) else passes


#: Each quicker way builds on those before it; beside it, what is so without it.
_QUICKER: tuple[tuple[Callable[[Any, Passes], Passes], str], ...] = (
    (_in_pieces, "the loss is computed whole"),
    (_packed, "rows are padded, not packed"),
    (_shared, "beginnings that rows share are computed for each"),
)


def _draws(model: Any) -> bool:
    """Whether the model in training has anything to do with chance."""
    layers = any(isinstance(m, torch.nn.Dropout) and m.p > 0 for m in model.modules())
    return layers or getattr(model.config.get_text_config(), "attention_dropout", 0) > 0


def _outcome(model: Any, passes: Passes) -> dict[str, list[torch.Tensor]]:
    """Loss and gradients of a few short rows, of which two begin alike, made of the data's tokens."""
    tokens = np.resize(passes.rows.tokens, 43).tolist()
    made_up = [tokens[:21], tokens[:12] + tokens[21:27], tokens[27:]]
    rows = flatten([Rendered(row, [False] * (len(row) - 4) + [True] * 4) for row in made_up])
    model.zero_grad()
    work = replace(passes, rows=rows).of(np.arange(len(rows)), int(rows.labelled.sum()))
    loss = torch.stack(list(work.losses())).sum().float()
    gradients = [p.grad.float() for p in model.parameters() if p.grad is not None]
    model.zero_grad()
    return {"loss": [loss], "gradients": gradients}


def _difference(expected: dict[str, list[torch.Tensor]], found: dict[str, list[torch.Tensor]], tolerance: float) -> str:
    """What differs by more than a relative `tolerance`, in words; empty when nothing does."""
    for what, tensors in expected.items():
        pairs = list(zip(tensors, found[what], strict=False))
        if len(tensors) != len(found[what]) or any(one.shape != other.shape for one, other in pairs):
            return f"in a trial {what} were of other tensors"
        off = _norm([one - other for one, other in pairs]) / _norm(tensors)
        if not off <= tolerance:
            return f"in a trial {what} differed by {100 * off:.2g} %"
    return ""


def _norm(tensors: list[torch.Tensor]) -> float:
    """Over all tensors, and all ranks where they are dealt out."""
    return float(whole(torch.nn.utils.get_total_norm(tensors)))
