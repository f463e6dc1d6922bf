"""How each fine-tuning method makes a model learn: one module a method, and here the one place that chooses."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch

from anneal.api.runs import FitRun


@dataclass(frozen=True)
class Learner:
    """A model, ready for training: what learns in it requires gradients, in float32."""

    model: Any
    origin: dict[str, torch.Tensor] = field(default_factory=dict)
    """The adapter as it was when it took a part of the base's weights, for methods that do; else empty."""
    remarks: tuple[str, ...] = ()
    """What the user should know of it, in sentences."""

    @property
    def trainable(self) -> list[tuple[str, torch.nn.Parameter]]:
        """(name, parameter) of all that learns. Tied weights are one."""
        return [(name, p) for name, p in self.model.named_parameters() if p.requires_grad]


def learner(run: FitRun, dtype: torch.dtype, device: torch.device) -> Learner:
    """The base model as the run's method trains it, computing in `dtype`. Raises UserMistake."""
    from anneal_trainer.fit.methods import full, lora, qlora

    method, seed = run.method, run.training.seed
    if method.lora is not None:
        return lora.learner(run.model, method.lora, seed, dtype, device)
    if method.qlora is not None:
        return qlora.learner(run.model, method.qlora, seed, dtype, device)
    return full.learner(run.model, device)
