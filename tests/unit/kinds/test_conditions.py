"""A verdict becomes a status that kstatus, kubectl and people read alike."""

from __future__ import annotations

import pytest
from tests.support.builders import as_stored, fine_tune_job
from tests.unit.kinds.scenes import seen

from anneal.api.conditions import find
from anneal.kinds.conditions import Health, Verdict, no, status_of, unknown, yes

MARKS = {"Complete": no("NotFinished"), "DataReady": unknown("NotReached"), "Failed": yes("Broken", "it broke")}


@pytest.mark.parametrize(
    ("health", "reconciling", "stalled"),
    [(Health.MOVING, "True", "False"), (Health.STUCK, "False", "True"), (Health.SETTLED, "False", "False")],
)
def test_health_is_told_in_the_two_conditions_of_kstatus(health: Health, reconciling: str, stalled: str) -> None:
    verdict = Verdict("Phase", "Because", "of this", health)
    status = status_of(seen(), verdict, MARKS, {})
    assert [c["status"] for c in status["conditions"][-2:]] == [reconciling, stalled]
    assert {c["reason"] for c in status["conditions"][-2:]} == {"Because"}
    assert [c["type"] for c in status["conditions"]] == [*MARKS, "Reconciling", "Stalled"]


def test_every_condition_speaks_of_the_generation_that_was_seen() -> None:
    obj = as_stored(fine_tune_job(), generation=7)
    status = status_of(seen(obj), Verdict("Phase", "Because", "of this"), MARKS, {"startTime": "then"})
    assert status["observedGeneration"] == 7
    assert {c["observedGeneration"] for c in status["conditions"]} == {7}
    assert status["startTime"] == "then"
    assert (status["phase"], status["reason"], status["message"]) == ("Phase", "Because", "of this")


def test_messages_are_bounded() -> None:
    status = status_of(seen(), Verdict("Phase", "Because", "x" * 5000), {"Failed": yes("Broken", "y" * 5000)}, {})
    failed = find(status, "Failed")
    assert failed is not None
    assert len(status["message"]) == len(failed["message"]) == 1024
    assert status["message"].endswith("…")
