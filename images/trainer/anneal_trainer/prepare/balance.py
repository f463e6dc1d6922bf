"""Evens the categories that a model trains on. What it is judged on keeps the shares that the data has."""

from __future__ import annotations

from collections.abc import Sequence

from anneal.api.dataset import Balance

#: A row that is seen more often in one pass is learned by heart rather than learned from.
MAX_REPEATS = 3


def even(train: Sequence[int], categories: Sequence[str], wanted: Balance) -> tuple[list[int], list[int]]:
    """(rows to train on, rows left out). `train` is in a random order; `categories[i]` is the one of row i."""
    by_category: dict[str, list[int]] = {}
    for row in train:
        by_category.setdefault(categories[row], []).append(row)
    sizes = [len(rows) for rows in by_category.values()]
    if len(sizes) < 2:
        return list(train), []
    if wanted.strategy == "Downsample":
        most = min(sizes) * wanted.max_ratio
        dropped = {row for rows in by_category.values() for row in rows[most:]}
        return [row for row in train if row not in dropped], sorted(dropped)
    least = -(-max(sizes) // wanted.max_ratio)
    repeated = [row for rows in by_category.values() for row in _more(rows, least)]
    return [*train, *repeated], []


def _more(rows: Sequence[int], least: int) -> list[int]:
    """The repetitions that bring `rows` to `least`, as far as MAX_REPEATS allows."""
    missing = min(least, MAX_REPEATS * len(rows)) - len(rows)
    return [rows[i % len(rows)] for i in range(missing)]
