"""The beginning that all rows share, run once for a step instead of once for a row.

Chat data nearly always begins with one system prompt. Within a step the weights do not change, attention is causal and
nothing in the beginning is labelled, so its keys and values are the same for every row: they are computed once, every
row attends to them, and what all rows send back to them goes through the beginning once. Loss and gradients are those
of whole rows up to rounding; tokens that are not computed again are time.

Only models that keep plain keys and values of all positions can do this. Whether one does is not believed but tried:
`sharable` compares loss and gradients of two rows both ways before training begins.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from anneal_trainer.rows import TrainingRows

_LEAST_SAVING = 0.1
_LOG = logging.getLogger(__name__)

#: Runs the model with its cache of keys and values (as `cache`) and gives the loss sum.
CachedLoss = Callable[[Any], torch.Tensor]


def common_length(rows: TrainingRows) -> int:
    """How many tokens all rows begin with, leaving each row a first token of its own that is not labelled."""
    first, _ = rows.row(0)
    length = len(first)
    for index in range(len(rows)):
        tokens, labelled = rows.row(index)
        length = min(length, int(np.argmax(labelled)) - 1)
        differs = np.flatnonzero(tokens[:length] != first[:length])
        length = int(differs[0]) if len(differs) else length
    return max(0, length)


def worth_sharing(rows: TrainingRows, tokens_per_step: int) -> int:
    """The length to share: that of `common_length`, or 0 where it would save less than a tenth of the tokens."""
    length = common_length(rows)
    mean = float(rows.lengths.mean())
    rows_per_step = max(1.0, tokens_per_step / mean)
    saving = length * (rows_per_step - 1) / (rows_per_step * mean)
    return length if saving >= _LEAST_SAVING else 0


class PrefixStates:
    """Keys and values of the shared beginning, per layer, each (1, heads, shared, head size)."""

    def __init__(self, run: CachedLoss | None) -> None:
        """`run` runs the model on the beginning; None is a beginning of no tokens."""
        self._layers: list[tuple[torch.Tensor, torch.Tensor]] = []
        if run is not None:
            cache = _new_cache()
            run(cache)
            self._layers = [(layer.keys, layer.values) for layer in cache.layers]
        # Rows send their gradients to these leaves, so the beginning goes through backward once, at the end.
        self._leaves = [tuple(t.detach().requires_grad_() for t in layer) for layer in self._layers]

    def for_rows(self, count: int) -> Any:
        """A cache that holds the beginning of `count` rows, or None."""
        if not self._layers:
            return None
        cache = _new_cache()
        for number, layer in enumerate(self._leaves):
            keys, values = (t.expand(count, -1, -1, -1) for t in layer)
            cache.update(keys, values, number)
        return cache

    def backward(self) -> None:
        """Sends on, through the beginning, what the rows have sent back. Call it once, after the last of them."""
        pairs = [
            (state, leaf.grad)
            for layer, leaves in zip(self._layers, self._leaves, strict=True)
            for state, leaf in zip(layer, leaves, strict=True)
            if leaf.grad is not None
        ]
        if pairs:
            states, gradients = zip(*pairs, strict=True)
            torch.autograd.backward(states, gradients)


def _new_cache() -> Any:
    from transformers import DynamicCache

    return DynamicCache()


def keeps_all_positions(config: Any) -> bool:
    """Whether a model's configuration says that every layer attends to all positions."""
    text = config.get_text_config()
    kinds = set(getattr(text, "layer_types", None) or ["full_attention"])
    window = getattr(text, "sliding_window", None) if getattr(text, "use_sliding_window", True) else None
    return kinds == {"full_attention"} and window is None


def agree(whole: Callable[[], torch.Tensor], shared: Callable[[], torch.Tensor], model: Any, tolerance: float) -> bool:
    """Whether two ways to run the same rows give one loss and one gradient, within a relative `tolerance`.

    Each way runs forward and backward and gives its loss sum. Gradients of the model are used up.
    """
    results = []
    for way in (whole, shared):
        model.zero_grad()
        try:
            loss = way()
        except (TypeError, ValueError, AttributeError, RuntimeError) as error:
            _LOG.warning("the model cannot share the beginning of rows: %s", error)
            return False
        gradient = torch.cat([p.grad.flatten().float() for p in model.parameters() if p.grad is not None])
        results.append((loss.reshape(1).float(), gradient))
    model.zero_grad()
    (loss, gradient), (other_loss, other_gradient) = results
    return all(
        float((a - b).norm()) <= tolerance * float(a.norm())
        for a, b in ((loss, other_loss), (gradient, other_gradient))
    )
