"""The data in a sentence: where rows went, and what to know before more is spent on them."""

from __future__ import annotations

import pytest
from tests.support.builders import digest

from anneal.api.dataset import (
    AugmentationStatus,
    ComparedFile,
    DatasetCounts,
    DatasetStatus,
    RowCount,
    SemanticStatus,
)
from anneal.kinds.finetunejob.examples import summary


def status(train: int, **more: list[RowCount]) -> DatasetStatus:
    counts = DatasetCounts(read=train + 152, invalid=2, train=train, held_out=150, train_tokens=1)
    return DatasetStatus(digest=digest("a"), test_digest=digest("b"), counts=counts, **more)


def test_every_reason_is_told() -> None:
    found = status(
        1200,
        left_out=[RowCount(reason="Duplicate", rows=3), RowCount(reason="Leak", rows=1)],
        flagged=[RowCount(reason="Conflict", rows=4)],
    )
    assert summary(found) == (
        "1200 rows to train on, 150 held out, 2 left out as invalid, 3 as Duplicate, 1 as Leak; Conflict in 4 rows"
    )


def test_it_says_with_what_the_rows_were_compared() -> None:
    files = [ComparedFile(digest=digest(name), rows=rows, leaks=0) for name, rows in (("a", 300), ("b", 40))]
    found = status(1200).model_copy(update={"compared": files})
    assert summary(found).endswith("; compared with the 300 and 40 rows of dataset.leakCheck.against")


def test_it_says_that_meanings_were_compared_and_for_how_much() -> None:
    made = SemanticStatus(embedder="embed-3", compared=1350, pairs=4, leaks=1, cost="0.020000")
    found = status(1200).model_copy(update={"semantic": made})
    assert summary(found).endswith("; the meaning of 1350 questions compared by embed-3 for 0.020000")


@pytest.mark.parametrize("train", [499, 5001])
def test_outside_of_what_is_usual_it_says_so(train: int) -> None:
    assert summary(status(train)).endswith("; 500 to 5000 rows to train on are usual")
    assert "usual" not in summary(status(500))
    assert "usual" not in summary(status(5000))


def test_it_says_how_many_rows_a_model_wrote_and_why_no_more() -> None:
    made = AugmentationStatus(
        generator="gpt-5", validator="claude", asked=9, written=27, accepted=20, ended="Cost", cost="4.990000"
    )
    found = status(1200).model_copy(update={"augmentation": made})
    assert summary(found).endswith(
        "; 20 of the rows to train on were written by gpt-5, until maxCost was spent, for 4.990000"
    )
