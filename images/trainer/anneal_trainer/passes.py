"""Forward and backward of one optimizer step, in as few and as full passes as memory allows."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch

from anneal_trainer.batches import Batch, Indices, collate, micro_batches
from anneal_trainer.loss import AnswerLoss
from anneal_trainer.rows import TrainingRows


@dataclass(frozen=True)
class Passes:
    """How the rows of a step are run.

    Attributes:
        max_tokens: of one pass, padding included.
        autocast: arithmetic of the forward pass; float32 turns it off.
    """

    rows: TrainingRows
    loss: AnswerLoss
    device: torch.device
    max_tokens: int
    autocast: torch.dtype

    def of(self, rows: Indices) -> StepWork:
        return StepWork(self, rows)


class StepWork:
    """The passes of one step. Gradients add up in the parameters as `losses` is consumed."""

    def __init__(self, passes: Passes, rows: Indices) -> None:
        self._passes = passes
        self._rows = rows
        self.labelled = sum(int(passes.rows.row(int(i))[1].sum()) for i in rows)
        self.tokens = int(passes.rows.lengths[rows].sum())

    def losses(self) -> Iterator[torch.Tensor]:
        """The loss sum of each pass, detached, after its backward pass.

        Gradients are those of the mean over all labelled tokens of the step, whatever the passes are.
        """
        for indices in micro_batches(self._rows, self._passes.rows.lengths, self._passes.max_tokens):
            loss = self._forward(collate(self._passes.rows, indices, self._passes.device))
            (loss / self.labelled).backward()  # type: ignore[no-untyped-call]
            yield loss.detach()

    def _forward(self, batch: Batch) -> torch.Tensor:
        dtype = self._passes.autocast
        with torch.autocast(self._passes.device.type, dtype, enabled=dtype != torch.float32):
            return self._passes.loss(batch)
