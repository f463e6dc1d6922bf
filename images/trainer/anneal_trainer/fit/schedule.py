"""The learning rate as a function of the step: nothing to save, nothing to resume."""

from __future__ import annotations

import math
from decimal import Decimal

from anneal.api.training import Training

_WARMUP_STEPS = 10


def learning_rate(training: Training, step: int, total_steps: int) -> float:
    """The learning rate of step `step`, 1 to `total_steps`.

    It rises in a line to its peak at the last warm-up step, then falls by the schedule. It never reaches zero: a step
    that moves nothing is a step wasted.
    """
    peak = float(training.learning_rate or 0)
    warmup = min(warmup_steps(training, total_steps), total_steps)
    if step <= warmup:
        return peak * step / warmup
    done = (step - warmup - 1) / (total_steps - warmup)
    if training.schedule == "Linear":
        return peak * (1 - done)
    if training.schedule == "Cosine":
        return peak * (1 + math.cos(math.pi * done)) / 2
    return peak


def warmup_steps(training: Training, total_steps: int) -> int:
    """Steps over which the learning rate rises; of a share of all steps the next whole number, so at least 1."""
    if training.warmup_ratio is not None:
        return math.ceil(Decimal(training.warmup_ratio) * total_steps)
    return _WARMUP_STEPS if training.warmup_steps is None else training.warmup_steps
