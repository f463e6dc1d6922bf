"""Which rows begin alike, so that what they have in common is run once for all of them.

Chat data nearly always begins with a system prompt, often one of a few. Within a step the weights do not change,
attention is causal and nothing in the beginning is labelled, so its hidden states are the same for every row that has
it. They are computed once, every row attends to them, and what all rows send back is summed there: loss and gradients
are those of whole rows up to rounding.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from anneal_trainer.rows import TrainingRows

#: Sharing that saves less of a group's tokens than this is not worth the two-part attention that it takes.
LEAST_SAVING = 0.1

Indices = NDArray[np.int64]


@dataclass(frozen=True)
class Group:
    """Rows that are run with their first `shared` tokens in common; 0 for a row by itself."""

    rows: tuple[int, ...]
    shared: int = 0


def alone(indices: Indices) -> list[Group]:
    """Every row by itself."""
    return [Group((int(i),)) for i in indices]


def groups(rows: TrainingRows, indices: Indices) -> list[Group]:
    """The rows at `indices` in groups that share their beginnings, so that the most tokens are saved.

    Rows form a tree of common beginnings. From its leaves up, each branch either shares its own beginning among the
    rows for which that saves more than they save so far, or leaves them as they are.
    """
    if not len(indices):
        return []
    keys = {int(i): _sharable(rows, int(i)) for i in indices}
    # Big-endian bytes are ordered as their numbers are.
    order = sorted(keys, key=lambda i: (keys[i].astype(">i4").tobytes(), i))
    lengths = rows.lengths
    open_branches: list[tuple[int, list[_Branch]]] = [(0, [])]
    branch = _leaf(order[0], lengths)
    for row, common in [*zip(order[1:], _in_common([keys[i] for i in order]), strict=True), (None, -1)]:
        while open_branches and open_branches[-1][0] > common:
            shared, parts = open_branches.pop()
            branch = _joined(shared, [*parts, branch])
        if row is None:
            break
        if open_branches[-1][0] < common:
            open_branches.append((common, []))
        open_branches[-1][1].append(branch)
        branch = _leaf(row, lengths)
    return list(branch.groups)


@dataclass(frozen=True)
class _Branch:
    """Part of the tree: how many rows and tokens it has, its groups, and the tokens that these save."""

    rows: int
    tokens: int
    groups: tuple[Group, ...]
    saved: int = 0


def _leaf(row: int, lengths: Indices) -> _Branch:
    return _Branch(1, int(lengths[row]), (Group((row,)),))


def _joined(shared: int, parts: list[_Branch]) -> _Branch:
    """The branch of parts that all begin with the same `shared` tokens, as it saves the most."""
    gaining = [p for p in parts if p.saved < shared * p.rows]
    content = [p for p in parts if p.saved >= shared * p.rows]
    ways = [_Branch(_rows(parts), _tokens(parts), _groups(parts), sum(p.saved for p in parts))]
    # All of them, too: a long row may save too little of a few rows' tokens, and enough of many rows'.
    for joining, staying in ((gaining, content), (parts, [])):
        if shared * (_rows(joining) - 1) >= max(1, LEAST_SAVING * _tokens(joining)):
            ways.append(_shared_by(joining, staying, shared))
    return max(ways, key=lambda way: way.saved)


def _shared_by(joining: list[_Branch], staying: list[_Branch], shared: int) -> _Branch:
    """The rows of `joining` as one group, beside the groups of `staying`."""
    parts = [*joining, *staying]
    together = Group(tuple(row for group in _groups(joining) for row in group.rows), shared)
    saved = shared * (len(together.rows) - 1) + sum(p.saved for p in staying)
    return _Branch(_rows(parts), _tokens(parts), (together, *_groups(staying)), saved)


def _rows(parts: list[_Branch]) -> int:
    return sum(p.rows for p in parts)


def _tokens(parts: list[_Branch]) -> int:
    return sum(p.tokens for p in parts)


def _groups(parts: list[_Branch]) -> tuple[Group, ...]:
    return tuple(group for p in parts for group in p.groups)


def _sharable(rows: TrainingRows, index: int) -> NDArray[np.int32]:
    """The tokens of a row that may be shared: they leave it a first token of its own that is not labelled."""
    tokens, labelled = rows.row(index)
    return tokens[: max(0, int(np.argmax(labelled)) - 1)]


def _in_common(keys: list[NDArray[np.int32]]) -> list[int]:
    """How many tokens each key and the next begin with alike."""
    found = []
    for first, second in pairwise(keys):
        length = min(len(first), len(second))
        differs = np.flatnonzero(first[:length] != second[:length])
        found.append(int(differs[0]) if len(differs) else length)
    return found
