"""What a FineTuneJob says of its data: mistakes in `spec.dataset` that no schema sees, and the result in a sentence."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal

from anneal.api.dataset import Dataset, DatasetSource, DatasetStatus

#: Between these, in rows to train on, fine-tuning on a task is at home; outside, the user is told.
USUAL_ROWS = (500, 5000)


def sources(dataset: Dataset) -> tuple[tuple[str, DatasetSource], ...]:
    """(field, source) of every file that is read."""
    files = tuple((f"spec.dataset.sources[{i}]", source) for i, source in enumerate(dataset.sources))
    held_out = dataset.split.held_out_source
    return files if held_out is None else (*files, ("spec.dataset.split.heldOutSource", held_out))


def problems(dataset: Dataset) -> Iterator[str]:
    """What cannot work, each in a sentence with its field."""
    for field, threshold in (
        ("deduplication", dataset.deduplication.threshold),
        ("leakCheck", dataset.leak_check.threshold),
    ):
        if not Decimal("0.3") <= Decimal(threshold) <= 1:
            yield f"spec.dataset.{field}.threshold is '{threshold}': it must be from 0.3 to 1, such as \"0.8\""


def summary(data: DatasetStatus) -> str:
    """Where the rows went, and what to know before more is spent on them."""
    counts = data.counts
    said = f"{counts.train} rows to train on, {counts.held_out} held out, {counts.invalid} left out as invalid"
    for left_out in data.left_out or ():
        said += f", {left_out.rows} as {left_out.reason}"
    if data.flagged:
        said += "; " + ", ".join(f"{flag.reason} in {flag.rows} rows" for flag in data.flagged)
    least, most = USUAL_ROWS
    if not least <= counts.train <= most:
        said += f"; {least} to {most} rows to train on are usual"
    return said
