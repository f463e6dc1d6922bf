"""The curve of a training in the terms of trackers: scalars by step and time."""

from __future__ import annotations

from collections.abc import Iterator

from anneal.api.runs import PublishRun
from anneal_trainer.fit.schedule import learning_rate
from anneal_trainer.fit.state import TrainingState


def scalars_of(run: PublishRun, state: TrainingState) -> Iterator[tuple[int, float, dict[str, float]]]:
    """(step, seconds of training until then, scalars by name) of each stretch of steps, at most 128 and one."""
    seconds = 0.0
    for point in state.curve:
        seconds += point.seconds
        told = {
            "loss": point.mean,
            "learning_rate": learning_rate(run.training, point.step, run.trained.steps),
            "tokens_per_second": point.tokens_per_second,
            "peak_memory_bytes": float(point.peak_bytes),
        }
        yield point.step, seconds, told if point.mfu is None else {**told, "mfu": point.mfu}
    if state.validated is not None:
        yield state.validated.best_step, seconds, {"validation_loss": state.validated.best_loss}
