"""The loss: cross-entropy on answer tokens, with the head run only where there is one.

The head is the widest layer of a small model and its output the largest tensor of any. In chat data a few of a
hundred positions are labelled, so hidden states are picked out before the head instead of logits after it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.nn import functional

from anneal_trainer.fit.batches import Batch


class AnswerLoss:
    """Sums the loss of labelled tokens. Holds a hook on the model's head, so make one per model."""

    def __init__(self, model: Any) -> None:
        self._model = model
        self._where: torch.Tensor | None = None
        head = model.get_output_embeddings()
        if head is not None:
            head.register_forward_pre_hook(self._pick)

    def __call__(self, batch: Batch, **more: Any) -> torch.Tensor:
        """Sum over the labelled tokens of -log p(token | what is before it), a float32 scalar.

        `more` goes to the model. The last token of each row predicts nothing, so it is not fed.
        """
        where = batch.labelled[:, 1:]
        self._where = where
        try:
            logits = self._model(input_ids=batch.tokens[:, :-1], use_cache=False, **more).logits
        finally:
            self._where = None
        if logits.dim() > 2:  # a model that does not call its head as a module
            logits = logits[where]
        return functional.cross_entropy(logits.float(), batch.tokens[:, 1:][where], reduction="sum")

    def _pick(self, _head: torch.nn.Module, inputs: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...] | None:
        """(rows, length, hidden) -> (labelled tokens, hidden)."""
        return None if self._where is None else (inputs[0][self._where], *inputs[1:])


Loss = Callable[[Batch], torch.Tensor]
