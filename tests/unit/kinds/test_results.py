"""A Job and its pods, and how its run went."""

from __future__ import annotations

from typing import Any

import pytest
from tests.support.builders import failed, preempted, succeeded
from tests.unit.kinds.scenes import NOW, condition, ended, job, pod, seen, terminated, waiting

from anneal.kinds import results
from anneal.kinds.pods import PodReason
from anneal.kinds.results import Failed, NotStarted, ResultReason, Running, Succeeded

RUN = {"role": "publish", "baseDigest": "b", "testDigest": "t", "output": {"uri": "pvc://m/x"}, "trained": {"steps": 1}}
GOOD = succeeded(RUN)
MISTAKE = failed("prepare", "DataInvalid", "line 17 is not JSON")


def read(*children: Any) -> results.StepResult:
    return results.read(seen(None, *children), "work", NOW, "raise spec.resources.memory")


def test_without_a_job_nothing_was_started() -> None:
    assert read() == NotStarted()
    assert read(job("another")) == NotStarted()


# Running


def test_a_job_without_a_pod_gets_time_to_make_one() -> None:
    assert read(job(age=10)) == Running("Pending", recheck_after=20)


def test_a_job_that_is_refused_a_pod_says_where_to_look() -> None:
    found = read(job(age=60))
    assert isinstance(found, Running)
    assert found.waiting is not None
    assert found.waiting.reason == ResultReason.NO_POD
    assert "a quota or an admission policy may refuse it; `kubectl describe job work`" in found.waiting.message


def test_a_suspended_job_needs_no_pod() -> None:
    assert read(job(suspend=True)) == Running("Pending")


def test_a_pod_that_starts_is_looked_at_again() -> None:
    assert read(job(), pod()) == Running("Pending", recheck_after=90)


def test_a_pod_that_runs_needs_no_look() -> None:
    assert read(job(), pod("Running")) == Running("Running")


def test_the_newest_pod_speaks_while_an_older_one_still_ends() -> None:
    assert read(job(), pod("Running", name="work-a", age=200), pod(name="work-b", age=1)) == Running(
        "Pending", recheck_after=90
    )


def test_a_pod_that_waits_says_why() -> None:
    found = read(job(), pod(containers=[waiting("ImagePullBackOff", "not found")]))
    assert isinstance(found, Running)
    assert found.waiting is not None
    assert found.waiting.reason == PodReason.IMAGE_PULL_FAILED
    assert found.recheck_after is None


def test_after_a_failed_pod_the_job_tries_again() -> None:
    bad = pod("Failed", name="work-a", age=200, containers=[terminated(1, failed("fit", "IoError", "disk is full"))])
    found = read(job(), bad, pod("Running", name="work-b"))
    assert isinstance(found, Running)
    assert found.phase == "Running"
    assert found.failed is not None
    assert found.failed.message == "disk is full"


def test_a_preempted_pod_is_no_failure() -> None:
    gone = pod("Failed", containers=[terminated(75, preempted(50))])
    assert read(job(), gone) == Running("Pending")


def test_a_pod_that_just_succeeded_is_not_waited_for_as_if_it_were_new() -> None:
    assert read(job(), pod("Succeeded", containers=[terminated(0, GOOD)])) == Running("Running")


def test_pods_of_an_earlier_job_of_the_same_name_do_not_count() -> None:
    stranger = pod("Failed", of="uid-of-earlier", containers=[terminated(42, MISTAKE)])
    assert read(job(age=0), stranger) == Running("Pending", recheck_after=30)


# Succeeded


def test_the_result_of_a_complete_job_is_its_pods() -> None:
    bad = pod("Failed", name="work-a", age=200, containers=[terminated(1, MISTAKE)])
    good = pod("Succeeded", name="work-b", containers=[terminated(0, GOOD)])
    found = read(job(**ended("Complete")), bad, good)
    assert isinstance(found, Succeeded)
    assert found.result.publish is not None


def test_a_complete_job_whose_pod_is_not_yet_seen_to_be_is_waited_for() -> None:
    assert read(job(**ended("Complete", since=10)), pod("Running")) == Running("Running", recheck_after=50)


def test_a_lost_result_is_a_failure() -> None:
    found = read(job(**ended("Complete")))
    assert isinstance(found, Failed)
    assert found.reason == ResultReason.RESULT_LOST
    assert "its pod was deleted before its result could be read" in found.message


def test_an_unreadable_result_is_a_failure_never_a_zero() -> None:
    found = read(job(**ended("Complete")), pod("Succeeded", containers=[terminated(0, "all fine")]))
    assert isinstance(found, Failed)
    assert found.reason == PodReason.RESULT_UNREADABLE
    assert found.message.startswith("pod work-x succeeded, but the pod ended without a readable result")
    assert "all fine" in found.message


def test_a_pod_that_succeeds_and_says_that_it_failed_has_failed() -> None:
    found = read(job(**ended("Complete")), pod("Succeeded", containers=[terminated(0, MISTAKE)]))
    assert isinstance(found, Failed)
    assert found.reason == PodReason.RESULT_UNREADABLE
    assert found.message == "pod work-x succeeded, but its result says Failed: line 17 is not JSON"


# Failed


def test_a_mistake_of_the_user_is_told_in_the_pods_words() -> None:
    found = read(job(**ended("Failed", "PodFailurePolicy")), pod("Failed", containers=[terminated(42, MISTAKE)]))
    assert isinstance(found, Failed)
    assert (found.reason, found.message) == ("DataInvalid", "line 17 is not JSON")
    assert found.result is not None


@pytest.mark.parametrize(("tries", "said"), [(1, "1 failed pod"), (4, "4 failed pods")])
def test_giving_up_says_after_how_many_pods(tries: int, said: str) -> None:
    given = job(failed=tries, **ended("Failed", "BackoffLimitExceeded"))
    found = read(given, pod("Failed", containers=[terminated(137, reason="OOMKilled")]))
    assert isinstance(found, Failed)
    assert found.reason == PodReason.OUT_OF_MEMORY
    assert found.message == (
        "container trainer of pod work-x used more than its memory limit of 6Gi; raise spec.resources.memory"
        f" (given up after {said})"
    )


def test_the_pod_at_fault_is_the_last_that_was_not_preempted() -> None:
    found = read(
        job(**ended("Failed", "PodFailurePolicy")),
        pod("Failed", name="work-a", age=300, containers=[terminated(1, failed("fit", "IoError", "disk is full"))]),
        pod("Failed", name="work-b", age=200, containers=[terminated(42, MISTAKE)]),
        pod("Failed", name="work-c", age=100, conditions=[condition("DisruptionTarget", "True")]),
    )
    assert isinstance(found, Failed)
    assert found.reason == "DataInvalid"


def test_if_all_were_preempted_the_last_one_is_told_of() -> None:
    evicted = pod("Failed", conditions=[condition("DisruptionTarget", "True")], reason="Evicted", message="drained")
    found = read(job(**ended("Failed", "FailIndexes")), evicted)
    assert isinstance(found, Failed)
    assert found.message == "pod work-x was evicted from its node: drained"


def test_a_failed_job_whose_pod_is_not_yet_seen_to_be_is_waited_for() -> None:
    assert read(job(**ended("Failed", since=10)), pod("Running")) == Running("Running", recheck_after=50)


@pytest.mark.parametrize(
    ("end", "said"),
    [
        (ended("Failed", "BackoffLimitExceeded", message="Job has reached the limit"), "Job has reached the limit"),
        (ended("Failed", "DeadlineExceeded"), "DeadlineExceeded"),
        (ended("Failed"), "it gives no reason"),
    ],
)
def test_without_a_pod_the_job_itself_is_quoted(end: dict[str, Any], said: str) -> None:
    found = read(job(**end))
    assert isinstance(found, Failed)
    assert found.reason == ResultReason.RESULT_LOST
    assert f"Job work failed ({said}), and no pod is left to say why" in found.message


# At rest


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ((job(),), True),
        ((job(active=1),), False),
        ((job(active=0, terminating=1),), False),
        ((job(), pod("Running")), False),
        ((job(), pod("Failed", containers=[terminated(75, preempted(50))])), True),
    ],
)
def test_a_job_is_at_rest_when_it_counts_no_pod_and_none_is_seen(given: tuple[Any, ...], expected: bool) -> None:
    assert results.is_at_rest(seen(None, *given), given[0]) is expected
