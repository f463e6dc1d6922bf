"""What a FineTuneJob says of its data: mistakes in `spec.dataset` that no schema sees, and the result in a sentence."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal

from anneal.api.augmentation import Augmentation
from anneal.api.dataset import AugmentationStatus, Dataset, DatasetSource, DatasetStatus
from anneal.api.runs import EMBEDDER, GENERATOR, VALIDATOR, VERIFIER
from anneal.api.subjects import Hosted
from anneal.kinds.vendors import vendor_of

#: Between these, in rows to train on, fine-tuning on a task is at home; outside, the user is told.
USUAL_ROWS = (500, 5000)


def sources(dataset: Dataset) -> tuple[tuple[str, DatasetSource], ...]:
    """(field, source) of every file that is read."""
    files = tuple((f"spec.dataset.sources[{i}]", source) for i, source in enumerate(dataset.sources))
    held_out = dataset.split.held_out_source
    files += () if held_out is None else (("spec.dataset.split.heldOutSource", held_out),)
    return files + tuple((f"spec.dataset.leakCheck.against[{i}]", file) for i, file in enumerate(against(dataset)))


def against(dataset: Dataset) -> list[DatasetSource]:
    """The files that training rows must not be in."""
    return dataset.leak_check.against or []


def problems(dataset: Dataset) -> Iterator[str]:
    """What cannot work, each in a sentence with its field."""
    thresholds = {"deduplication": dataset.deduplication.threshold, "leakCheck": dataset.leak_check.threshold}
    if dataset.leak_check.semantic is not None:
        thresholds["leakCheck.semantic"] = dataset.leak_check.semantic.threshold
    for field, threshold in thresholds.items():
        if not Decimal("0.3") <= Decimal(threshold) <= 1:
            yield f"spec.dataset.{field}.threshold is '{threshold}': it must be from 0.3 to 1, such as \"0.8\""

    if dataset.augmentation is not None:
        yield from _problems_of(dataset.augmentation)


def _problems_of(wanted: Augmentation) -> Iterator[str]:
    field = "spec.dataset.augmentation"
    writer, checker = wanted.generator.model, wanted.validator.model
    if (family := vendor_of(writer)) == vendor_of(checker):
        yield (
            f"{field}: the generator {writer} and the validator {checker} are of one family, {family}, and models"
            " prefer what their own wrote: choose a validator of another family"
        )
    if not 0 < Decimal(wanted.max_share) <= Decimal("0.9"):
        yield f"{field}.maxShare is '{wanted.max_share}': it must be more than 0 and at most 0.9, such as \"0.5\""


def hosted(dataset: Dataset) -> tuple[tuple[str, Hosted], ...]:
    """(name, model) of everyone who is asked while the data is prepared."""
    asked: list[tuple[str, Hosted]] = []
    if (wanted := dataset.augmentation) is not None:
        asked += [(GENERATOR, wanted.generator), (VALIDATOR, wanted.validator)]
    if (check := dataset.leak_check.semantic) is not None:
        asked += [(EMBEDDER, check.embedder.hosted)]
        asked += [(VERIFIER, check.verifier)] if check.verifier is not None else []
    return tuple(asked)


def summary(data: DatasetStatus) -> str:
    """Where the rows went, and what to know before more is spent on them."""
    counts = data.counts
    said = f"{counts.train} rows to train on, {counts.held_out} held out, {counts.invalid} left out as invalid"
    for left_out in data.left_out or ():
        said += f", {left_out.rows} as {left_out.reason}"
    if data.compared:
        rows = " and ".join(str(file.rows) for file in data.compared)
        said += f"; compared with the {rows} rows of dataset.leakCheck.against"
    if (found := data.semantic) is not None:
        said += f"; the meaning of {found.compared} questions compared by {found.embedder} for {found.cost}"
    if data.augmentation is not None:
        said += f"; {_augmented(data.augmentation)}"
    if data.flagged:
        said += "; " + ", ".join(f"{flag.reason} in {flag.rows} rows" for flag in data.flagged)
    least, most = USUAL_ROWS
    if not least <= counts.train <= most:
        said += f"; {least} to {most} rows to train on are usual"
    return said


def _augmented(made: AugmentationStatus) -> str:
    why = {
        "Enough": "as many as were wanted",
        "Share": "as many as maxShare allows",
        "Cost": "until maxCost was spent",
        "Seeds": "after every training row",
    }[made.ended]
    written = f"{made.accepted} of the rows to train on were written by {made.generator or 'nobody'}"
    return f"{written}, {why}, for {made.cost}"
