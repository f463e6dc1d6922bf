"""Rows that training does not learn from, asked for their loss while it runs: when to stop, and which step is best.

They are split off the training rows, never off the held-out ones, on which the artifact is judged later: choosing the
best of many steps by the rows that judge it would be grading one's own paper. Rows with one prompt stay on one side.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from decimal import Decimal

import numpy as np
import torch

from anneal.api.training import Training, Validation
from anneal_trainer.errors import UserMistake
from anneal_trainer.fit.batches import Indices
from anneal_trainer.fit.loop import Trainer
from anneal_trainer.fit.state import TrainingState
from anneal_trainer.rows import TrainingRows


def split(rows: TrainingRows, validation: Validation, seed: int) -> tuple[Indices, Indices]:
    """(rows to learn, rows to validate with), as indices in rising order. Raises UserMistake when one is empty."""
    total = len(rows)
    wanted = validation.rows or round(Decimal(validation.fraction or 0) * total)
    prompts: dict[bytes, list[int]] = defaultdict(list)
    for index in range(total):
        tokens, labelled = rows.row(index)
        prompts[tokens[: int(np.argmax(labelled))].tobytes()].append(index)
    groups = [prompts[key] for key in sorted(prompts)]
    held: list[int] = []
    for number in np.random.default_rng((seed, 0)).permutation(len(groups)):
        if len(held) >= wanted:
            break
        held += groups[number]
    if not held or len(held) == total:
        raise UserMistake(
            "TooFewExamples",
            f"training.validation takes {len(held)} of {total} training rows ({len(groups)} different prompts), which"
            f" leaves {total - len(held)} to learn from: add rows or change its size",
        )
    chosen = np.zeros(total, dtype=np.bool_)
    chosen[held] = True
    return np.flatnonzero(~chosen), np.flatnonzero(chosen)


def loss(trainer: Trainer, rows: TrainingRows) -> float:
    """Mean loss per answer token of the rows, without dropout and without learning from them. Each rank takes some."""
    asked, model = replace(trainer.passes, rows=rows), trainer.learner.model
    batches = asked.batches(trainer.ranks.share(np.arange(len(rows)), rows.lengths))
    blank = trainer.placement.passes(batches.number) - batches.number
    model.eval()
    with torch.no_grad():
        mine = sum(float(asked.forward(batch)) for batch in batches)
        for _ in range(blank):
            asked.forward(asked.shortest())
    trainer.placement.asked(model)
    model.train()
    return trainer.ranks.total(mine) / int(rows.labelled.sum())


def is_due(training: Training, step: int, total_steps: int) -> bool:
    """Whether the rows are asked after that step: at every interval and at the end."""
    validation = training.validation
    return validation is not None and (step % validation.every_steps == 0 or step == total_steps)


def has_stopped(training: Training, state: TrainingState) -> bool:
    """Whether training has ended early, by what it has seen so far."""
    stopping, seen = training.early_stopping, state.validated
    return stopping is not None and seen is not None and seen.without_gain >= stopping.patience
