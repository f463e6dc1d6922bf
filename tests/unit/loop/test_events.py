"""Events come from changes, once each, and fit what the API server takes."""

from __future__ import annotations

from typing import Any

from tests.unit.loop.toy import NOW

from anneal.events import Transition, event, transitions

OBJ = {
    "apiVersion": "anneal.dev/v1alpha1",
    "kind": "FineTuneJob",
    "metadata": {"name": "x" * 253, "namespace": "team", "uid": "u-1"},
}


def status(reason: str, **conditions: str) -> dict[str, Any]:
    return {
        "reason": reason,
        "message": f"it is {reason}.",
        "conditions": [
            {"type": type_, "status": state, "reason": f"{type_}{state}", "message": "so it is."}
            for type_, state in conditions.items()
        ],
    }


def test_nothing_changed_nothing_told() -> None:
    assert transitions(status("Training", Complete="False"), status("Training", Complete="False")) == []


def test_the_first_status_tells_its_reason_but_not_every_condition_that_is_not_true_yet() -> None:
    told = transitions({}, status("Preparing", Complete="False", Failed="False", DataReady="Unknown"))
    assert told == [Transition("Normal", "Preparing", "it is Preparing.")]


def test_a_condition_that_becomes_true_or_stops_being_true_is_told() -> None:
    told = transitions(status("R", Ready="True", DataReady="False"), status("R", Ready="False", DataReady="True"))
    assert told == [
        Transition("Normal", "ReadyFalse", "Ready is False: so it is."),
        Transition("Normal", "DataReadyTrue", "DataReady is True: so it is."),
    ]


def test_the_same_reason_is_told_once() -> None:
    new = status("Completed", Complete="True")
    new["conditions"][0]["reason"] = "Completed"
    assert [t.reason for t in transitions(status("Publishing", Complete="False"), new)] == ["Completed"]


def test_failing_and_stalling_are_warnings_and_reconciling_is_silent() -> None:
    told = transitions(status("Training"), status("DataInvalid", Failed="True", Reconciling="True", Stalled="True"))
    assert [(t.type, t.reason) for t in told] == [
        ("Warning", "DataInvalid"),
        ("Warning", "FailedTrue"),
        ("Warning", "StalledTrue"),
    ]


def test_an_event_is_named_by_what_happened_and_when_and_is_bounded() -> None:
    transition = Transition("Normal", "Completed", "words " * 500)
    made = event(OBJ, transition, instance="operator-0" * 30, now=NOW)
    again = event(OBJ, transition, instance="operator-1", now=NOW)
    assert made["metadata"]["name"] == again["metadata"]["name"]
    other = event(OBJ, transition._replace(reason="Failed"), instance="", now=NOW)
    assert made["metadata"]["name"] != other["metadata"]["name"]
    assert len(made["metadata"]["name"]) <= 253
    assert len(made["note"]) <= 1024
    assert len(made["reportingInstance"]) <= 128
    assert made["regarding"]["uid"] == "u-1"
