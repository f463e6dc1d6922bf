"""The ranks of a training: which rows each takes in a step, and how what they learn becomes one.

The gradient of a step is a sum over its rows, so ranks that take disjoint rows and add up have the gradient that one
process would have, and all make the same update. Where ranks share the weights (`sharding.py`), gradients of what is
dealt out are summed there. Nothing else passes between them: which rows come next follows from the step's number alone,
so a training goes on with any number of ranks.

A rank that was asked to go must not leave the others waiting. Its wish travels with the gradients, so that all ranks
see it after the same step, save once and leave together.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Protocol, TypeVar

import numpy as np
import torch
import torch.distributed as dist
from torch.distributed.tensor import DTensor

from anneal_trainer.errors import Preempted
from anneal_trainer.fit.batches import Indices
from anneal_trainer.preemption import Preemption

Loaded = TypeVar("Loaded")

#: A rank that is silent for this long is taken for lost. Loading a large model takes minutes on some ranks.
_SILENCE = timedelta(minutes=30)


class Ranks(Protocol):
    """What one rank needs of all ranks."""

    @property
    def leads(self) -> bool:
        """Whether this is the rank that saves and reports."""

    def share(self, rows: Indices, lengths: Indices) -> Indices:
        """The rows of a step that this rank runs; `lengths` are the tokens of every row of the dataset."""

    def may_leave(self, preemption: Preemption) -> bool:
        """Whether this rank may leave in the middle of a step."""

    def add_up(self, parameters: Sequence[torch.Tensor], total: torch.Tensor, preemption: Preemption) -> bool:
        """Makes gradients and `total` those of all ranks, in place. Returns whether all leave after this step."""

    def agreed(self, step: int) -> int:
        """The leading rank's `step`, on every rank."""

    def least(self, number: int) -> int:
        """The smallest of all ranks' numbers."""

    def total(self, number: float) -> float:
        """The sum of all ranks' numbers."""

    def in_turn(self, load: Callable[[], Loaded]) -> Loaded:
        """What `load` gives, which is called on one rank of a pod after the other."""


class Alone:
    """One process is all there is."""

    leads = True

    def share(self, rows: Indices, lengths: Indices) -> Indices:
        del lengths
        return rows

    def may_leave(self, preemption: Preemption) -> bool:
        return preemption.requested

    def add_up(self, parameters: Sequence[torch.Tensor], total: torch.Tensor, preemption: Preemption) -> bool:
        del parameters, total, preemption
        return False

    def agreed(self, step: int) -> int:
        return step

    def least(self, number: int) -> int:
        return number

    def total(self, number: float) -> float:
        return number

    def in_turn(self, load: Callable[[], Loaded]) -> Loaded:
        return load()


class Together:
    """One rank of several, over gloo on CPU and NCCL on accelerators."""

    def __init__(self, device: torch.device) -> None:
        self._rank = dist.get_rank()
        self._count = dist.get_world_size()
        self._device = device

    @property
    def leads(self) -> bool:
        return self._rank == 0

    def share(self, rows: Indices, lengths: Indices) -> Indices:
        """The longest row first, each to the rank that has the fewest tokens so far."""
        loads = np.zeros(self._count, dtype=np.int64)
        mine = []
        for row in rows[np.argsort(-lengths[rows], kind="stable")]:
            rank = int(np.argmin(loads))
            loads[rank] += lengths[row]
            if rank == self._rank:
                mine.append(row)
        return np.array(mine, dtype=np.int64)

    def may_leave(self, preemption: Preemption) -> bool:
        del preemption
        return False

    def add_up(self, parameters: Sequence[torch.Tensor], total: torch.Tensor, preemption: Preemption) -> bool:
        wish = torch.tensor(float(preemption.requested), device=self._device)
        # Of weights that are dealt out, gradients are sums over all ranks already.
        mine = [p for p in parameters if not isinstance(p, DTensor)]
        for p in mine:
            if p.grad is None:  # this rank had no row in the step
                p.grad = torch.zeros_like(p)
        gradients = [p.grad for p in mine if p.grad is not None]
        flat = torch.cat([t.detach().flatten().float() for t in (*gradients, total, wish)])
        dist.all_reduce(flat)
        begin = 0
        for tensor in (*gradients, total, wish):
            tensor.copy_(flat[begin : begin + tensor.numel()].view_as(tensor))
            begin += tensor.numel()
        return bool(wish.item())

    def agreed(self, step: int) -> int:
        return int(self.total(step if self.leads else 0))

    def least(self, number: int) -> int:
        told = torch.tensor(number, device=self._device)
        dist.all_reduce(told, dist.ReduceOp.MIN)
        return int(told.item())

    def total(self, number: float) -> float:
        told = torch.tensor(number, dtype=torch.float64, device=self._device)
        dist.all_reduce(told)
        return float(told.item())

    def in_turn(self, load: Callable[[], Loaded]) -> Loaded:
        loaded: list[Loaded] = []
        for turn in range(int(os.environ["LOCAL_WORLD_SIZE"])):
            if turn == int(os.environ["LOCAL_RANK"]):
                loaded.append(load())
            self.total(0)
        return loaded[0]


@contextmanager
def joined(device: torch.device) -> Iterator[Ranks]:
    """All ranks that torchrun started, or this process alone when it did not start any.

    Raises Preempted when another rank is lost: whatever ended it is told by its own pod; this one did nothing wrong.
    """
    if "RANK" not in os.environ:
        yield Alone()
        return
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=_SILENCE)
    ranks = Together(device)
    try:
        yield ranks
    except RuntimeError as error:
        if not _tells_of_a_loss(error):
            raise
        count, rank = dist.get_world_size(), dist.get_rank()
        said = f"rank {rank} lost another of {count} ranks; all go on from the last checkpoint ({error})"
        raise Preempted(said) from error
    finally:
        dist.destroy_process_group()


def _tells_of_a_loss(error: RuntimeError) -> bool:
    """Whether a collective failed; gloo says so with an error of no class of its own."""
    return isinstance(error, dist.DistError) or "gloo" in str(error).lower()
