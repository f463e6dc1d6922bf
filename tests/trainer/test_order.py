"""The order of the data is that of the seed, whatever was interrupted and however many ranks go on."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytest
import torch
import torch.distributed as dist
from torch.testing._internal.distributed.fake_pg import FakeStore

from anneal.api.training import Training
from anneal_trainer.fit.batches import Indices, StepPlan
from anneal_trainer.fit.ranks import Ranks, Together

LENGTHS: Indices = np.random.default_rng(0).integers(5, 120, size=97)
PLAN = StepPlan(LENGTHS, Training(epochs=3, tokens_per_step=512, seed=7))


@contextmanager
def rank(number: int, count: int) -> Iterator[Ranks]:
    """One of many ranks; what it takes of a step needs no word from the others."""
    dist.init_process_group("fake", store=FakeStore(), rank=number, world_size=count)
    try:
        yield Together(torch.device("cpu"))
    finally:
        dist.destroy_process_group()


def taken(count: int, step: int) -> list[list[set[int]]]:
    """What each of `count` ranks takes of each step after `step`."""
    each = []
    for number in range(count):
        with rank(number, count) as mine:
            each.append([set(mine.share(s.rows, LENGTHS).tolist()) for s in PLAN.after(step)])
    return each


@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_training_goes_on_with_the_same_rows_whatever_the_number_of_ranks(count: int) -> None:
    stopped = PLAN.total_steps // 2
    expected = [set(step.rows.tolist()) for step in PLAN.after(0)][stopped:]
    each = taken(count, stopped)
    for number, rows in enumerate(expected):
        parts = [of_rank[number] for of_rank in each]
        assert set.union(*parts) == rows
        assert sum(map(len, parts)) == len(rows), "no row twice"
        tokens = [int(LENGTHS[list(part)].sum()) if part else 0 for part in parts]
        assert max(tokens) - min(tokens) <= LENGTHS[list(rows)].max(), "within one row of each other"


def test_every_epoch_has_every_row_once() -> None:
    for epoch in range(3):
        rows = [row for step in PLAN.after(0) if step.epoch == epoch for row in step.rows.tolist()]
        assert sorted(rows) == list(range(len(LENGTHS)))
