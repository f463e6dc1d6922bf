"""Forward and backward of one optimizer step, in as few and as full passes as memory allows."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from anneal_trainer.fit.batches import Batch, Indices, collate, micro_batches
from anneal_trainer.fit.loss import AnswerLoss
from anneal_trainer.fit.prefix import PrefixStates, agree, keeps_all_positions, worth_sharing
from anneal_trainer.rows import TrainingRows

_TOLERANCE = {torch.float32: 1e-3, torch.bfloat16: 5e-2}
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Passes:
    """How the rows of a step are run.

    Attributes:
        max_tokens: of one pass, padding included.
        autocast: arithmetic of the forward pass; float32 turns it off.
        shared: tokens at the beginning of every row that are run once a step (`prefix.py`).
    """

    rows: TrainingRows
    loss: AnswerLoss
    device: torch.device
    max_tokens: int
    autocast: torch.dtype
    shared: int = 0

    def of(self, rows: Indices, labelled: int) -> StepWork:
        """The work on `rows` of a step that has `labelled` tokens to learn in all."""
        return StepWork(self, rows, labelled)

    def forward(self, batch: Batch, cache: Any) -> torch.Tensor:
        """The loss sum of a batch that follows what is in the cache."""
        with torch.autocast(self.device.type, self.autocast, enabled=self.autocast != torch.float32):
            return self.loss(batch, cache=cache)

    def beginning(self) -> PrefixStates:
        """The shared beginning, run now."""
        if not self.shared:
            return PrefixStates(None)
        # One token more, because the last of a row is not fed; nothing of it is labelled, so the head runs on nothing.
        tokens = torch.from_numpy(self.rows.row(0)[0][: self.shared + 1].astype(np.int64))[None].to(self.device)
        batch = Batch(tokens, torch.zeros_like(tokens, dtype=torch.bool))
        return PrefixStates(lambda cache: self.forward(batch, cache))


class StepWork:
    """The passes of one step. Gradients are in the parameters once `losses` is consumed."""

    def __init__(self, passes: Passes, rows: Indices, labelled: int) -> None:
        self._passes = passes
        self._rows = rows
        self._labelled = labelled

    def losses(self) -> Iterator[torch.Tensor]:
        """The loss sum of each pass, detached, after its backward pass.

        Gradients are those of the mean over all labelled tokens of the step, whatever the passes are.
        """
        passes = self._passes
        beginning = passes.beginning()
        for indices in micro_batches(self._rows, passes.rows.lengths - passes.shared, passes.max_tokens):
            batch = collate(passes.rows, indices, passes.shared, passes.device)
            loss = passes.forward(batch, beginning.for_rows(len(indices)))
            (loss / self._labelled).backward()  # type: ignore[no-untyped-call]
            yield loss.detach()
        beginning.backward()


def sharing(passes: Passes, model: Any, tokens_per_step: int) -> Passes:
    """`passes`, sharing the beginning of rows if they have one worth it and the model is seen to compute the same."""
    shared = worth_sharing(passes.rows, tokens_per_step)
    if not shared or not keeps_all_positions(model.config):
        return passes
    trial = replace(passes, shared=shared)
    few = np.arange(min(2, len(passes.rows)))

    def loss_of(way: Passes) -> torch.Tensor:
        return torch.stack(list(way.of(few, passes.rows.size_of(few)[0]).losses())).sum()

    if agree(lambda: loss_of(passes), lambda: loss_of(trial), model, _TOLERANCE[passes.autocast]):
        _LOG.info("the first %d tokens, the same in all rows, are run once a step", shared)
        return trial
    return passes
