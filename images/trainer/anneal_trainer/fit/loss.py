"""The loss: cross-entropy on answer tokens, with the head run only where there is one, a piece at a time.

The head is the widest layer of a small model and its output the largest tensor of any. In chat data a few of a
hundred positions are labelled, so hidden states are picked out before the head instead of logits after it. And since
the gradient of cross-entropy is known as soon as the logits are, each piece of them is turned into loss and gradients
at once and forgotten: logits of more than a piece never exist.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.nn import functional

from anneal.estimate.memory import PIECE_LOGITS
from anneal_trainer.fit.batches import Batch

#: Sum over the labels of a batch of -log p(label | what is before it), a float32 scalar.
Loss = Callable[[Batch], torch.Tensor]


class PickedLoss:
    """The loss of any model. Holds a hook on the model's head, so make one per model."""

    def __init__(self, model: Any) -> None:
        self._model = model
        self._where: torch.Tensor | None = None
        head = model.get_output_embeddings()
        if head is not None:
            head.register_forward_pre_hook(self._pick)

    def __call__(self, batch: Batch) -> torch.Tensor:
        self._where = batch.where
        try:
            logits = self._model(input_ids=batch.tokens, use_cache=False, **batch.inputs).logits
        finally:
            self._where = None
        if logits.dim() > 2:  # a model that does not call its head as a module
            logits = logits.flatten(0, 1)[batch.where]
        return functional.cross_entropy(logits.float(), batch.targets, reduction="sum")

    def _pick(self, _head: torch.nn.Module, inputs: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...] | None:
        """(lines, length, hidden) -> (labels, hidden)."""
        return None if self._where is None else (inputs[0].flatten(0, -2)[self._where], *inputs[1:])


class PiecewiseLoss:
    """The loss of a model whose logits are what its head says. Holds a hook on the head, so make one per model."""

    def __init__(self, model: Any) -> None:
        """Raises ValueError for a model without output embeddings."""
        self._model = model
        self._where: torch.Tensor | None = None
        self._states: torch.Tensor | None = None
        self._head = model.get_output_embeddings()
        if self._head is None:
            raise ValueError("the model has no output embeddings")
        self._piece = max(1, PIECE_LOGITS // model.config.get_text_config().vocab_size)
        self._head.register_forward_pre_hook(self._take)

    def __call__(self, batch: Batch) -> torch.Tensor:
        return in_pieces(self._head, self._states_of(batch), batch.targets, self._piece)

    def _states_of(self, batch: Batch) -> torch.Tensor:
        """(labels, hidden): what the model gives to its head where a label is predicted."""
        self._where = batch.where
        try:
            self._model(input_ids=batch.tokens, use_cache=False, **batch.inputs)
            if self._states is None:
                raise ValueError("the model does not call its head as a module")
            return self._states
        finally:
            self._where = self._states = None

    def _take(self, _head: torch.nn.Module, inputs: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...] | None:
        """Keeps the states of labels, and leaves nothing for the head to do in the model."""
        if self._where is None:
            return None
        self._states = inputs[0].flatten(0, -2)[self._where]
        return (inputs[0][:, :0], *inputs[1:])


def in_pieces(head: torch.nn.Module, states: torch.Tensor, targets: torch.Tensor, piece: int) -> torch.Tensor:
    """Sum of the cross-entropy of `head` at (labels, hidden) states, with the logits of `piece` labels at once."""
    trained = [p for p in head.parameters() if p.requires_grad]
    loss = _InPieces.apply(head, states, targets, piece, *trained)  # type: ignore[no-untyped-call]
    assert isinstance(loss, torch.Tensor)
    return loss


class _InPieces(torch.autograd.Function):
    """Cross-entropy whose gradients are made with it, so that backward has only to scale them."""

    @staticmethod
    def forward(
        ctx: Any,
        head: torch.nn.Module,
        states: torch.Tensor,
        targets: torch.Tensor,
        piece: int,
        *trained: torch.Tensor,
    ) -> torch.Tensor:
        """The sum of the loss of (labels, hidden) states; `trained` are the head's parameters that learn."""
        total = torch.zeros((), device=states.device)
        learning = any(ctx.needs_input_grad)
        gradients = [torch.zeros_like(t) for t in (states, *trained)] if learning else []
        for start in range(0, len(targets), piece):
            part = slice(start, start + piece)
            loss, *found = _of_piece(head, states[part], targets[part, None], trained if learning else None)
            total += loss
            if learning:
                gradients[0][part] = found[0]
                for kept, gradient in zip(gradients[1:], found[1:], strict=True):
                    kept += gradient
        ctx.save_for_backward(*gradients)
        return total

    @staticmethod
    def backward(ctx: Any, by_loss: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        by_states, *by_trained = (gradient * by_loss for gradient in ctx.saved_tensors)
        return None, by_states, None, None, *by_trained


def _of_piece(
    head: torch.nn.Module, states: torch.Tensor, targets: torch.Tensor, trained: tuple[torch.Tensor, ...] | None
) -> tuple[torch.Tensor, ...]:
    """(sum of the loss, its gradients by the states and by what is trained); without gradients for None.

    A function of its own, so that its logits are gone before those of the next piece are made.
    """
    with torch.set_grad_enabled(trained is not None):
        leaf = states.detach().requires_grad_(trained is not None)
        logits = head(leaf)
    scores = logits.detach().float()
    highest = scores.amax(-1, keepdim=True)
    right = scores.gather(1, targets)
    # From here on `scores` become probabilities and then the gradient, in place.
    sums = scores.sub_(highest).exp_().sum(-1, keepdim=True)
    loss = (sums.log() + highest - right).sum()
    if trained is None:
        return (loss,)
    scores.div_(sums).scatter_add_(1, targets, -torch.ones_like(right))
    return (loss, *torch.autograd.grad(logits, [leaf, *trained], scores.to(logits.dtype)))
