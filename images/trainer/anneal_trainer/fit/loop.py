"""The training loop: a step is rows, passes, one update. A page on purpose; each concern it uses has a page of its own.

Why not a general trainer: everything that makes this one quick or safe (steps counted in tokens, passes without
padding, the head on answers only, saving between two passes when told to go, resuming to the bit) replaces what a
general one does, until little of it is left. The measurements are in docs/adr/0005-training-loop.md.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch

from anneal.api.training import Training
from anneal_trainer.errors import UserMistake
from anneal_trainer.fit import room
from anneal_trainer.fit.batches import Indices, Step, StepPlan
from anneal_trainer.fit.methods import Learner
from anneal_trainer.fit.pace import Meter
from anneal_trainer.fit.passes import Passes
from anneal_trainer.fit.ranks import Ranks
from anneal_trainer.fit.schedule import learning_rate
from anneal_trainer.fit.sharding import Placement
from anneal_trainer.fit.state import Point, TrainingState
from anneal_trainer.preemption import Preemption

_LOG = logging.getLogger(__name__)
_LOG_SECONDS = 5.0


class StopRequested(Exception):  # noqa: N818 - a way to leave the loop, not an error
    """The pod, or another of the same training, was asked to go. All that is to be saved is that of a whole step."""


@dataclass
class Trainer:
    """What a step works with. `passes` become smaller when memory turns out to be less than was thought."""

    learner: Learner
    optimizer: torch.optim.Optimizer
    passes: Passes
    plan: StepPlan
    training: Training
    preemption: Preemption
    ranks: Ranks
    placement: Placement
    meter: Meter


def train(trainer: Trainer, state: TrainingState, after_step: Callable[[], None]) -> None:
    """Does the steps that `state` has not done, counting each in it and calling `after_step`.

    Raises StopRequested between two passes (or steps, with several ranks), and UserMistake when the loss is not a
    number any more.
    """
    logged = time.monotonic()
    for step in trainer.plan.after(state.step):
        began = time.monotonic()
        done = _step(trainer, step)
        if not math.isfinite(done.loss_sum):
            raise UserMistake(
                "LossNotFinite",
                f"the loss became {done.loss_sum} at step {step.number} of {trainer.plan.total_steps}: lower"
                f" training.learningRate (now {trainer.training.learning_rate}) or set training.precision to FP32",
            )
        now = time.monotonic()
        point = Point(step=step.number, loss_sum=done.loss_sum, tokens=done.labelled)
        state.record(trainer.meter.measured(point, done.tokens, done.computed, now - began))
        if now - logged > _LOG_SECONDS or step.number == trainer.plan.total_steps:
            _LOG.info(
                "step %d of %d, loss %s, %.0f tokens/s of rows, %.0f tokens/s computed",
                state.step, trainer.plan.total_steps, state.loss,
                done.tokens / (now - began), done.computed / (now - began),
            )  # fmt: skip
            logged = now
        after_step()
        if done.leaving:
            raise StopRequested


class _Done(NamedTuple):
    """A step that is done, over all ranks: its loss and its labels, tokens of its rows, tokens that were computed."""

    loss_sum: float
    labelled: int
    tokens: int
    computed: int
    leaving: bool
    """Whether all ranks leave now."""


def _step(trainer: Trainer, step: Step) -> _Done:
    """Does a step, its update included."""
    rate = learning_rate(trainer.training, step.number, trainer.plan.total_steps)
    for group in trainer.optimizer.param_groups:
        group["lr"] = rate
    rows, ranks = trainer.passes.rows, trainer.ranks
    labelled, tokens = rows.size_of(step.rows)
    mine = ranks.share(step.rows, rows.lengths)
    while (total := _gradients(trainer, step, mine, labelled)) is None:
        torch.cuda.empty_cache()
    parameters = [p for _, p in trainer.learner.trainable]
    leaving = ranks.add_up(parameters, total, trainer.preemption)
    torch.nn.utils.clip_grad_norm_(parameters, float(trainer.training.max_grad_norm))
    trainer.optimizer.step()
    trainer.optimizer.zero_grad()
    return _Done(total[0].item(), labelled, tokens, int(total[1].item()), leaving)


def _gradients(trainer: Trainer, step: Step, rows: Indices, labelled: int) -> torch.Tensor | None:
    """The sum of the loss over `rows` and the tokens computed, with the gradients in the parameters.

    None when memory did not suffice; `trainer` has smaller passes then. Raises torch.OutOfMemoryError when there are
    none, and BeginAgainError when there are, but other ranks are in the middle of the same pass.
    """
    # Dropout depends on the step alone, so there is no random state to save or to lose.
    torch.manual_seed(trainer.training.seed * 1_000_003 + step.number)
    total = torch.zeros(2, device=trainer.passes.device)
    work = trainer.passes.of(rows, labelled)
    blank = trainer.placement.passes(work.number) - work.number
    try:
        for loss in work.losses(blank):
            if trainer.ranks.may_leave(trainer.preemption):
                trainer.optimizer.zero_grad()
                raise StopRequested
            total[0] += loss
    except torch.OutOfMemoryError as error:
        limit = room.lower(trainer.passes, trainer.learner.model, error)
        if trainer.placement.shards > 1:
            raise room.BeginAgainError(limit) from error
        trainer.optimizer.zero_grad()
        trainer.passes = room.within(limit, trainer.passes, trainer.learner.model)
        return None
    total[1] = work.computed
    return total
