"""What prepare found, for people and for the model card; the short of it is what status shows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from anneal.api.dataset import CategoryCount, DatasetStatus, RowCount, SourceFound
from anneal.api.finetunejob import BaseModelStatus
from anneal.api.runs import PrepareRun
from anneal.api.sources import Resolved
from anneal_trainer import sources
from anneal_trainer.prepare.choose import Choice
from anneal_trainer.prepare.store import Places, Store

_SHOWN_CATEGORIES = 6
_SHOWN_SOURCES = 4
_SHOWN_CONFLICTS = 1000
_NAME_BYTES = 24


def row_counts(counted: Mapping[str, int]) -> list[RowCount] | None:
    """For status: by reason, or None when there is nothing to tell."""
    found = [RowCount(reason=reason, rows=rows) for reason, rows in sorted(counted.items()) if rows]
    return found or None


def source_kinds(detected: Sequence[SourceFound]) -> list[SourceFound]:
    """For status: sources of one kind together, those with the most rows first."""
    files = Counter(source.detected for source in detected)
    rows: Counter[str] = Counter()
    for source in detected:
        rows[source.detected] += source.rows
    ordered = sorted(files, key=lambda kind: (-rows[kind], kind))[:_SHOWN_SOURCES]
    return [SourceFound(detected=kind, files=files[kind], rows=rows[kind]) for kind in ordered]


def categories(store: Store, choice: Choice) -> list[tuple[str, int, int]]:
    """(name, rows to train on, rows held out) of every category, the largest first."""
    train = Counter(store.labels[row][0] for row in choice.train)
    held_out = Counter(store.labels[row][0] for row in choice.held_out)
    names = sorted({*train, *held_out}, key=lambda name: (-train[name] - held_out[name], name))
    return [(name, train[name], held_out[name]) for name in names]


def category_counts(counted: Sequence[tuple[str, int, int]]) -> list[CategoryCount]:
    """For status: the largest few, by names that fit."""
    return [
        CategoryCount(name=_fitting(name), train=train, held_out=held_out)
        for name, train, held_out in counted[:_SHOWN_CATEGORIES]
    ]


def _fitting(name: str) -> str:
    return name.encode()[:_NAME_BYTES].decode(errors="ignore")


def document(
    run: PrepareRun,
    status: DatasetStatus,
    base: BaseModelStatus,
    resolved: Resolved,
    store: Store,
    choice: Choice,
    places: Places,
    detected: Sequence[SourceFound],
) -> dict[str, Any]:
    """Everything, as JSON."""
    lengths = np.sort(store.lengths()[choice.train])
    counted = categories(store, choice) if run.category else []
    return {
        "sources": [
            {"uri": name, "detected": found.detected, "rows": found.rows}
            for name, found in zip(places.sources, detected, strict=False)
        ],
        **({"against": [sources.shown(source.uri) for source in run.against]} if run.against else {}),
        "seed": run.split.seed,
        "resolved": resolved.to_json(),
        "model": {"source": run.model.uri, **base.to_json()},
        "dataset": status.to_json(),
        "heldOutPrompts": len({store.prompts[row] for row in choice.held_out}),
        "conflicts": [[places.where(row) for row in group] for group in choice.conflicts[:_SHOWN_CONFLICTS]],
        "categories": [{"name": name, "train": train, "heldOut": held_out} for name, train, held_out in counted],
        "tokensPerRow": {
            "p50": int(lengths[len(lengths) // 2]),
            "p95": int(lengths[len(lengths) * 95 // 100]),
            "max": int(lengths[-1]),
        },
    }
