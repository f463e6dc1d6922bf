"""Which rows make up each optimizer step, and in which micro-batches they run.

A step holds rows drawn at random until it has `tokensPerStep` tokens, so that its size does not depend on how long rows
happen to be. Inside a step the order is free: rows are sorted by length and cut where padding would cost more than
another pass through the model. Everything is a function of (seed, epoch), so a resumed run sees the rows that the
uninterrupted one would have seen, and the number of steps is known before the first.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import count
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from anneal.api.training import Training
from anneal_trainer.rows import TrainingRows

#: What one more pass through the model costs beside its tokens, in tokens; measured on CPU with 135 M parameters.
PASS_COST_TOKENS = 24

Indices = NDArray[np.int64]


@dataclass(frozen=True)
class Step:
    """One optimizer step: its number from 1, the epoch from 0, and the rows that it learns from."""

    number: int
    epoch: int
    rows: Indices


class StepPlan:
    """All steps of a run, in order, without holding them."""

    def __init__(self, lengths: Indices, training: Training) -> None:
        self._lengths = lengths
        self._seed = training.seed
        self._tokens_per_step = training.tokens_per_step
        self._epochs = training.epochs or (None if training.max_steps else 1)
        self.total_steps = self._count(training.max_steps)

    def after(self, step: int) -> Iterator[Step]:
        """The steps that follow step number `step`; 0 gives all."""
        number = 0
        for epoch in count():
            for rows in self._cut(epoch):
                number += 1
                if number > self.total_steps:
                    return
                if number > step:
                    yield Step(number, epoch, rows)

    def _count(self, max_steps: int | None) -> int:
        if self._epochs is None:
            return max_steps or 0
        total = sum(len(self._cut(epoch)) for epoch in range(self._epochs))
        return min(total, max_steps) if max_steps else total

    def _cut(self, epoch: int) -> list[Indices]:
        """The rows of an epoch in random order, cut so that no step exceeds its tokens unless one row alone does."""
        order = np.random.default_rng((self._seed, epoch)).permutation(len(self._lengths))
        ends = np.cumsum(self._lengths[order])
        steps: list[Indices] = []
        start = 0
        while start < len(order):
            room = self._tokens_per_step + (ends[start - 1] if start else 0)
            stop = max(start + 1, int(np.searchsorted(ends, room, side="right")))
            steps.append(order[start:stop])
            start = stop
        return steps


def micro_batches(rows: Indices, lengths: Indices, max_tokens: int) -> list[Indices]:
    """`rows` cut into passes of at most `max_tokens` padded tokens (or one row), the cheapest way that there is.

    Cost of a pass: rows times the longest of them, plus PASS_COST_TOKENS. With rows sorted by falling length the best
    cut into passes is found exactly, by dynamic programming over where the last pass begins.
    """
    order = rows[np.argsort(-lengths[rows], kind="stable")]
    longest = lengths[order].astype(np.float64)
    best = np.zeros(len(order) + 1)
    began = np.zeros(len(order) + 1, dtype=np.int64)
    for stop in range(1, len(order) + 1):
        padded = longest[:stop] * np.arange(stop, 0, -1)
        cost = best[:stop] + padded + PASS_COST_TOKENS
        cost[:-1][padded[:-1] > max_tokens] = np.inf
        began[stop] = int(np.argmin(cost))
        best[stop] = cost[began[stop]]
    passes: list[Indices] = []
    stop = len(order)
    while stop:
        passes.append(order[began[stop] : stop])
        stop = int(began[stop])
    return passes[::-1]


@dataclass(frozen=True)
class Batch:
    """What goes through the model at once, and what it has to predict.

    Attributes:
        tokens: (lines, length) int64.
        where: (labels,) int64: places in the flattened tokens from which a label is predicted.
        targets: (labels,) int64: the labels.
        inputs: what the model is given beside the tokens.
    """

    tokens: torch.Tensor
    where: torch.Tensor
    targets: torch.Tensor
    inputs: dict[str, Any] = field(default_factory=dict)


def padded(rows: TrainingRows, indices: Indices, device: torch.device) -> Batch:
    """The batch of the rows at `indices`, one a line, padded at the right with token 0.

    The last token of a row predicts nothing, so it is not fed. There is no attention mask: with causal attention no
    token sees the padding to its right, and nothing is predicted from padding.
    """
    longest = int(rows.lengths[indices].max()) - 1
    tokens = np.zeros((len(indices), longest), dtype=np.int64)
    where, targets = [], []
    for line, index in enumerate(indices):
        row, labelled = rows.row(int(index))
        learned = np.flatnonzero(labelled)
        tokens[line, : len(row) - 1] = row[:-1]
        where.append(line * longest + learned - 1)
        targets.append(row[learned].astype(np.int64))
    places, labels = (torch.from_numpy(np.concatenate(parts)).to(device) for parts in (where, targets))
    return Batch(torch.from_numpy(tokens).to(device), places, labels)
