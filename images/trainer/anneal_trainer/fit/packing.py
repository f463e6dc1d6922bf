"""Rows one after the other in as few passes as their tokens need: no padding, nothing computed that is not data.

A pass is one line of tokens. Positions begin anew for every row, and attention (`attention.py`) lets a row see itself
and the beginning that it shares with others, nothing else.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray

from anneal_trainer.fit.attention import Layout, Span
from anneal_trainer.fit.batches import Batch
from anneal_trainer.fit.prefix import Group
from anneal_trainer.rows import TrainingRows


def best_fit(sizes: Sequence[int], capacity: int) -> list[list[int]]:
    """Items into bins of `capacity`, the largest first, each where it leaves the least room (best fit, decreasing).

    An item larger than a bin gets one for itself. Equal sizes give equal bins.
    """
    bins: list[list[int]] = []
    room: list[tuple[int, int]] = []
    for item in sorted(range(len(sizes)), key=lambda i: -sizes[i]):
        at = bisect_left(room, (sizes[item], 0))
        free, number = room.pop(at) if at < len(room) else (max(capacity, sizes[item]), len(bins))
        if number == len(bins):
            bins.append([])
        bins[number].append(item)
        insort(room, (free - sizes[item], number))
    return bins


def passes_of(groups: Iterable[Group], rows: TrainingRows, best: int, most: int) -> list[list[Group]]:
    """The groups in passes of about `best` tokens, and never of more than `most` (or one row).

    A group larger than a pass is cut, but not so small that its shared beginning is more than an eighth of each piece.
    """
    lengths = rows.lengths
    pieces = []
    for group in groups:
        own = [_fed(int(lengths[row]), group.shared) for row in group.rows]
        for part in best_fit(own, min(most, max(best, 8 * group.shared)) - group.shared):
            shared = group.shared if len(part) > 1 else 0
            pieces.append(Group(tuple(group.rows[i] for i in sorted(part)), shared))
    sizes = [p.shared + sum(_fed(int(lengths[row]), p.shared) for row in p.rows) for p in pieces]
    return [[pieces[i] for i in sorted(part)] for part in best_fit(sizes, min(best, most))]


def _fed(length: int, shared: int) -> int:
    """Tokens of a row that go through the model after its shared ones; the last predicts nothing."""
    return length - shared - 1


def collate(groups: Iterable[Group], rows: TrainingRows, device: torch.device) -> Batch:
    """The pass of `groups`: each shared beginning, then the rows that have it."""
    line = _Line()
    for group in groups:
        after = None
        if group.shared:
            after = line.add(rows.row(group.rows[0])[0][: group.shared], 0, None)
        for row in group.rows:
            tokens, labelled = rows.row(row)
            line.label(tokens, labelled, group.shared)
            line.add(tokens[group.shared : -1], group.shared, after)
    return line.batch(device)


@dataclass
class _Line:
    """A pass in the making."""

    length: int = 0
    tokens: list[NDArray[np.int32]] = field(default_factory=list)
    positions: list[NDArray[np.int64]] = field(default_factory=list)
    spans: list[Span] = field(default_factory=list)
    where: list[NDArray[np.int64]] = field(default_factory=list)
    targets: list[NDArray[np.int32]] = field(default_factory=list)

    def add(self, tokens: NDArray[np.int32], position: int, after: int | None) -> int:
        """Adds a span whose first token has `position` and which sees span number `after`; returns its number."""
        self.spans.append(Span(len(tokens), after))
        self.tokens.append(tokens)
        self.positions.append(np.arange(position, position + len(tokens)))
        self.length += len(tokens)
        return len(self.spans) - 1

    def label(self, tokens: NDArray[np.int32], labelled: NDArray[np.bool_], shared: int) -> None:
        """Notes what the row that is added next has to predict, and from where."""
        learned = np.flatnonzero(labelled)
        self.where.append(self.length + learned - shared - 1)
        self.targets.append(tokens[learned])

    def batch(self, device: torch.device) -> Batch:
        return Batch(
            tokens=_tensor(self.tokens, device)[None],
            where=_tensor(self.where, device),
            targets=_tensor(self.targets, device),
            inputs={
                "position_ids": _tensor(self.positions, device)[None],
                "layout": Layout(tuple(self.spans), device),
            },
        )


def _tensor(parts: Sequence[NDArray[np.int32] | NDArray[np.int64]], device: torch.device) -> torch.Tensor:
    return torch.from_numpy(np.concatenate(parts).astype(np.int64)).to(device)
