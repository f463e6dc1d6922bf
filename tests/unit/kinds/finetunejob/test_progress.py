"""Progress is lossy, and yet nothing of it is made up or goes back."""

from __future__ import annotations

from typing import Any

import pytest
from tests.support.builders import preempted
from tests.unit.kinds.finetunejob.cases import (
    ARTIFACT,
    LEFT,
    PREPARED,
    REPORT,
    STARTED,
    TRAINED,
    at,
    children_of,
    failing,
    message,
    running,
    succeeding,
    suspending,
)
from tests.unit.kinds.scenes import NOW, ago, ended, pod, terminated

from anneal.kinds.finetunejob.plan import plan

Json = dict[str, Any]
SHOWN = {
    "percent": 40,
    "etaSeconds": 90,
    "step": 40,
    "totalSteps": 100,
    "loss": "0.8",
    "tokensPerSecond": 900,
}
KNOWN = {**PREPARED, "progress": SHOWN, "checkpoint": {"step": 25, "time": ago(60)}, "usage": {"preemptions": 3}}


def test_a_report_is_shown_as_it_is() -> None:
    status = plan(running(PREPARED, pod("Running"), progress=REPORT), NOW).status
    assert status["progress"] == SHOWN
    assert status["checkpoint"] == {"step": 25, "time": ago(0)}
    assert status["usage"]["preemptions"] == 1


def test_a_new_leader_without_a_report_keeps_what_is_known() -> None:
    status = plan(running(KNOWN, pod("Running")), NOW).status
    assert status["progress"] == SHOWN
    assert status["checkpoint"] == {"step": 25, "time": ago(60)}


@pytest.mark.parametrize(("reported", "kept"), [(None, 25), (10, 25), (25, 25), (50, 50)])
def test_a_checkpoint_never_goes_back_and_keeps_its_time(reported: int | None, kept: int) -> None:
    report = REPORT.model_copy(update={"checkpoint_step": reported})
    checkpoint = plan(running(KNOWN, pod("Running"), progress=report), NOW).status["checkpoint"]
    assert checkpoint == {"step": kept, "time": ago(0) if kept == 50 else ago(60)}


@pytest.mark.parametrize(("resumes", "counted"), [(0, 3), (3, 3), (4, 4)])
def test_interruptions_are_never_counted_twice_nor_forgotten(resumes: int, counted: int) -> None:
    report = REPORT.model_copy(update={"resumes": resumes})
    status = plan(running(KNOWN, pod("Running"), progress=report), NOW).status
    assert status["usage"]["preemptions"] == counted


def test_reports_of_a_finished_training_are_not_shown_while_another_step_runs() -> None:
    assert "progress" not in plan(running(STARTED, pod("Running"), progress=REPORT), NOW).status


# Suspended


def test_a_preempted_pod_tells_its_checkpoint_even_if_its_report_was_lost() -> None:
    status = plan(suspending(PREPARED, LEFT), NOW).status
    assert status["message"].startswith("preempted at step 50; ")
    assert status["checkpoint"] == {"step": 50, "time": ago(0)}


@pytest.mark.parametrize(
    "left",
    [
        pod("Failed", containers=[terminated(75, "not a result")]),
        pod("Failed", containers=[terminated(75, message("prepare"))]),
        pod("Failed", containers=[terminated(1, preempted(50))]),
    ],
    ids=["unreadable", "of another step", "not preempted"],
)
def test_a_pod_that_cannot_tell_its_checkpoint_changes_nothing(left: Json) -> None:
    assert "checkpoint" not in plan(suspending(PREPARED, left), NOW).status


def test_a_suspended_training_has_no_expected_end_and_no_running_clock() -> None:
    status = plan(suspending(KNOWN), NOW).status
    assert status["progress"] == {k: v for k, v in SHOWN.items() if k != "etaSeconds"}
    assert status["startTime"] == PREPARED["startTime"]
    assert "activeSince" not in status


def test_suspending_and_resuming_changes_only_the_jobs_suspend() -> None:
    *_, job = children_of(PREPARED)
    (suspended,) = plan(suspending(PREPARED, job_status={"active": 1}), NOW).apply
    assert suspended["spec"] == {**job["spec"], "suspend": True}
    at_rest = plan(suspending(PREPARED), NOW).status
    resumed = plan(at(at_rest, *children_of(PREPARED, suspend=True)), NOW)
    assert resumed.apply == ()
    assert resumed.status["activeSince"] == ago(0)
    assert resumed.status["startTime"] == PREPARED["startTime"]
    going_on = plan(at(resumed.status, *children_of(PREPARED, suspend=True)), NOW)
    assert going_on.apply[-1]["spec"]["suspend"] is False


# The end


def test_a_finished_training_is_at_100_percent() -> None:
    status = plan(succeeding("fit", KNOWN), NOW).status
    assert status["progress"] == {
        "percent": 100,
        "etaSeconds": 0,
        "step": 100,
        "totalSteps": 100,
        "loss": "0.12",
        "tokensPerSecond": 1000,
        "stepSeconds": "1.2",
    }
    assert status["checkpoint"]["step"] == 100
    assert status["usage"] == {"preemptions": 3, "acceleratorSeconds": 0}


def test_accelerators_are_counted_for_as_long_as_they_trained() -> None:
    spec = {"resources": {"accelerator": {"perNode": 4}}}
    children = children_of(PREPARED, job_status=ended("Complete"), spec=spec)
    done = pod("Succeeded", containers=[terminated(0, message("fit"))])
    status = plan(at(PREPARED, *children, done, spec=spec), NOW).status
    assert status["usage"] == {"preemptions": 2, "acceleratorSeconds": 480}


def test_a_failed_training_keeps_how_far_it_came() -> None:
    status = plan(failing(KNOWN, pod("Failed", containers=[terminated(1)])), NOW).status
    assert status["progress"] == SHOWN
    assert status["completionTime"] == ago(0)


def test_the_artifact_is_made_of_what_was_recorded() -> None:
    assert plan(succeeding("publish", TRAINED), NOW).status["artifact"] == ARTIFACT
