"""The contract of Kubeflow Trainer's status server, as transformers' KubeflowCallback speaks it.

With it, any image that trains with the Hugging Face Trainer reports progress without a line of ours in it: it needs
only KUBEFLOW_TRAINER_SERVER_URL, _TOKEN and _CA_CERT.
"""

from __future__ import annotations

import math

from pydantic import Field

from anneal.api.model import ApiModel
from anneal.api.runs import ProgressReport


class TrainerMetric(ApiModel):
    """One number, as text."""

    name: str = Field(max_length=256)
    value: str = Field(max_length=256)


class TrainerStatus(ApiModel):
    """How far a training is. Everything may be missing."""

    progress_percentage: int | None = Field(default=None, ge=0, le=100)
    estimated_remaining_seconds: int | None = Field(default=None, ge=0)
    metrics: list[TrainerMetric] = Field(default_factory=list, max_length=256)


class UpdateStatus(ApiModel):
    """The body of a POST. Without trainerStatus it is a greeting that says nothing."""

    trainer_status: TrainerStatus | None = None


def to_report(update: UpdateStatus, previous: ProgressReport | None) -> ProgressReport | None:
    """The report that an update amounts to, or None when it says nothing.

    The callback's last update has no step any more, so what is missing stays as it was in `previous`.
    """
    status = update.trainer_status
    if status is None:
        return None
    known = previous or ProgressReport(percent=0)
    metrics = {m.name: m.value for m in status.metrics}
    loss = _number(metrics.get("loss") or metrics.get("train_loss"))
    speed = _number(metrics.get("train_tokens_per_second") or metrics.get("tokens_per_second"))
    return ProgressReport(
        percent=known.percent if status.progress_percentage is None else status.progress_percentage,
        eta_seconds=status.estimated_remaining_seconds,
        step=_count(metrics.get("current_step"), known.step),
        total_steps=_count(metrics.get("total_steps"), known.total_steps),
        loss=known.loss if loss is None else f"{loss:.4f}",
        tokens_per_second=known.tokens_per_second if speed is None else max(0, round(speed)),
    )


def _number(text: str | None) -> float | None:
    """The finite number in `text`, or None: a metric may be anything."""
    try:
        number = float(text or "")
    except ValueError:
        return None
    return number if math.isfinite(number) and abs(number) < 1e15 else None


def _count(text: str | None, otherwise: int) -> int:
    number = _number(text)
    return otherwise if number is None else max(0, int(number))
