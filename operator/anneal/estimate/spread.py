"""How a training is spread over its accelerators: as little sharding as its memory allows.

DDP: every rank has the whole model, and gradients meet once a step. HSDP: the ranks of a pod share one copy of the
weights, each keeps a part and gets the rest when a layer runs; pods exchange gradients only. FSDP: all ranks share one
copy. Each needs less memory and more of the network than the one before it, so the first that fits is taken.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from anneal.api.estimate import Strategy
from anneal.estimate.memory import PassPlan, Work, choose

#: Numbers of ranks that are tried when the smallest is asked for that would do.
_COUNTS = (2, 4, 8, 16, 32, 64, 128, 256, 512)


@dataclass(frozen=True)
class Ranks:
    """Pods, and training processes in each."""

    pods: int
    per_pod: int

    @property
    def count(self) -> int:
        return self.pods * self.per_pod


@dataclass(frozen=True)
class Spread:
    """A way to spread a training: `shards` ranks share one copy of the weights; `plan` is None when it does not fit."""

    strategy: Strategy
    shards: int
    plan: PassPlan | None


def ways(ranks: Ranks) -> Iterator[tuple[Strategy, int]]:
    """(strategy, ranks that share a copy), the least sharded first."""
    yield "DDP", 1
    if ranks.pods > 1 and ranks.per_pod > 1:
        yield "HSDP", ranks.per_pod
    if ranks.count > 1:
        yield "FSDP", ranks.count


def shards_of(strategy: Strategy, ranks: Ranks) -> int:
    """Ranks that share a copy. Raises KeyError where there are too few ranks for that strategy."""
    return dict(ways(ranks))[strategy]


def spread(work: Work, available: int, longest: int, most: int, ranks: Ranks, allowed: frozenset[Strategy]) -> Spread:
    """The first allowed way that fits `available` bytes a rank, or the one with the least memory, without a plan.

    `longest` and `most`: tokens of a pass at least and at most.
    """
    last: Spread | None = None
    for strategy, shards in ways(ranks):
        if strategy in allowed:
            plan = choose(replace(work, shards=shards), available, longest, most)
            last = Spread(strategy, shards, plan)
            if plan is not None:
                return last
    if last is None:
        raise ValueError(f"none of {', '.join(sorted(allowed))} can spread a training over {ranks.count} ranks")
    return last


def fewest_ranks(work: Work, available: int, longest: int) -> int | None:
    """The smallest power of two of ranks over which the weights can be dealt out to fit, None when no number does."""
    enough = (n for n in _COUNTS if choose(replace(work, shards=n), available, longest, longest) is not None)
    return next(enough, None)
