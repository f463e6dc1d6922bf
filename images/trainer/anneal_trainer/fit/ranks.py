"""The ranks of a training: which rows each takes in a step, and how what they learn becomes one.

Every rank holds the whole model. The gradient of a step is a sum over its rows, so ranks that take disjoint rows and
add up have the gradient that one process would have, and all make the same update. Nothing else passes between them:
which rows come next follows from the step's number alone, so a training goes on with any number of ranks.

A rank that was asked to go must not leave the others waiting. Its wish travels with the gradients, so that all ranks
see it after the same step, save once and leave together.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Protocol

import numpy as np
import torch
import torch.distributed as dist

from anneal_trainer.errors import Preempted
from anneal_trainer.fit.batches import Indices
from anneal_trainer.preemption import Preemption

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
        for p in parameters:
            if p.grad is None:  # this rank had no row in the step
                p.grad = torch.zeros_like(p)
        gradients = [p.grad for p in parameters if p.grad is not None]
        flat = torch.cat([t.detach().flatten().float() for t in (*gradients, total, wish)])
        self._sum(flat)
        begin = 0
        for tensor in (*gradients, total, wish):
            tensor.copy_(flat[begin : begin + tensor.numel()].view_as(tensor))
            begin += tensor.numel()
        return bool(wish.item())

    def agreed(self, step: int) -> int:
        told = torch.tensor(float(step if self.leads else 0), device=self._device)
        self._sum(told)
        return int(told.item())

    def _sum(self, tensor: torch.Tensor) -> None:
        try:
            dist.all_reduce(tensor)
        except RuntimeError as error:
            # Whatever ended the other rank is told by its own pod; this one did nothing wrong.
            raise Preempted(
                f"rank {self._rank} lost another of {self._count} ranks; all go on from the last checkpoint ({error})"
            ) from error


@contextmanager
def joined(device: torch.device) -> Iterator[Ranks]:
    """All ranks that torchrun started, or this process alone when it did not start any."""
    if "RANK" not in os.environ:
        yield Alone()
        return
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=_SILENCE)
    try:
        yield Together(device)
    finally:
        dist.destroy_process_group()
