"""What the loop adds to a plan's status."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from tests.unit.loop.toy import NOW

from anneal.reconcile.apply import Obstacle
from anneal.reconcile.status import broken, differs, obstructed, rfc3339, stamped

LATER = NOW + timedelta(hours=1)


def condition(type_: str, status: str, **more: Any) -> dict[str, Any]:
    return {"type": type_, "status": status, "reason": "Because", "message": "", "observedGeneration": 1, **more}


def test_the_time_changes_only_with_the_status_of_the_condition() -> None:
    old = stamped({"conditions": [condition("Complete", "False"), condition("Training", "True")]}, {}, NOW)
    new = stamped(
        {"conditions": [condition("Complete", "True"), condition("Training", "True", message="step 7")]}, old, LATER
    )
    times = {c["type"]: c["lastTransitionTime"] for c in new["conditions"]}
    assert times == {"Complete": rfc3339(LATER), "Training": rfc3339(NOW)}


def test_a_new_condition_starts_now_and_a_missing_time_is_given() -> None:
    old = {"conditions": [condition("Complete", "False")]}
    new = stamped({"conditions": [condition("Complete", "False"), condition("Failed", "True")]}, old, NOW)
    assert [c["lastTransitionTime"] for c in new["conditions"]] == [rfc3339(NOW)] * 2


def test_without_conditions_nothing_is_added() -> None:
    assert stamped({"phase": "Pending"}, {}, NOW) == {"phase": "Pending"}


def test_the_order_of_conditions_is_no_difference_but_their_words_are() -> None:
    a, b = condition("A", "True"), condition("B", "False")
    assert not differs({"conditions": [a, b]}, {"conditions": [b, a]})
    assert differs({"conditions": [a, b]}, {"conditions": [a]})
    assert differs({"conditions": [a]}, {"conditions": [{**a, "message": "new"}]})
    assert differs({"phase": "A"}, {"phase": "B"})
    assert not differs({}, {})


def test_a_condition_of_somebody_else_is_no_difference() -> None:
    ours, theirs = condition("Complete", "False"), condition("example.com/Approved", "True")
    assert not differs({"conditions": [ours]}, {"conditions": [ours, theirs]})


def test_an_obstacle_is_stalled_for_programs_and_the_reason_for_people() -> None:
    status = {"phase": "Preparing", "reason": "X", "conditions": [condition("Reconciling", "True")]}
    result = obstructed(status, Obstacle("ApplyRefused", "exceeded quota: gpu" + "!" * 2000), generation=3)
    assert result["reason"] == "ApplyRefused"
    assert result["phase"] == "Preparing"
    states = {c["type"]: (c["status"], c["reason"], c["observedGeneration"]) for c in result["conditions"]}
    assert states == {"Reconciling": ("False", "ApplyRefused", 3), "Stalled": ("True", "ApplyRefused", 3)}
    assert all(len(c["message"]) <= 1024 for c in result["conditions"])
    assert len(result["message"]) <= 1024


def test_a_defect_leaves_the_rest_of_the_status_as_it_was() -> None:
    status = {"phase": "Training", "artifact": {"digest": "d"}, "conditions": [condition("Training", "True")]}
    result = broken(status, KeyError("spec"), generation=2)
    assert {k: v for k, v in result.items() if k != "conditions"} == {"phase": "Training", "artifact": {"digest": "d"}}
    assert result["conditions"][0] == condition("Training", "True")
    assert (result["conditions"][1]["type"], result["conditions"][1]["reason"]) == ("Reconciling", "InternalError")
    assert "KeyError" in result["conditions"][1]["message"]
