"""The Job of a step: retried where that helps, and never asked to change what a Job cannot change."""

from __future__ import annotations

from typing import Any

from tests.unit.kinds.scenes import live, seen

from anneal.kinds.jobs import job, spread, suspended
from anneal.reconcile.apply import contains

TEMPLATE = {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "trainer", "image": "trainer:1"}]}}


def wanted(*children: Any, image: str = "trainer:1", backoff_limit: int = 3) -> Any:
    template = {**TEMPLATE, "spec": {"containers": [{"name": "trainer", "image": image}]}}
    return job(seen(None, *children), "work", "fit", template, backoff_limit)


def test_mistakes_are_not_retried_and_preemptions_do_not_count() -> None:
    spec = wanted()["spec"]
    actions = [(r["action"], r.get("onExitCodes", r.get("onPodConditions"))) for r in spec["podFailurePolicy"]["rules"]]
    assert actions == [
        ("FailJob", {"operator": "In", "values": [42]}),
        ("Ignore", {"operator": "In", "values": [75]}),
        ("Ignore", [{"type": "DisruptionTarget", "status": "True"}]),
    ]
    assert spec["backoffLimit"] == 3
    assert spec["podReplacementPolicy"] == "Failed"
    assert spec["template"]["spec"]["restartPolicy"] == "Never"


def test_an_upgraded_operator_asks_nothing_new_of_a_job_that_exists() -> None:
    before = live(wanted())
    after = wanted(before, image="trainer:2")
    assert after["spec"]["template"] == before["spec"]["template"]
    assert contains(before, after)


def test_what_others_wrote_into_the_template_is_kept() -> None:
    before = live(wanted())
    before["spec"]["template"]["spec"]["nodeSelector"] = {"pool": "spot"}
    assert wanted(before)["spec"]["template"]["spec"]["nodeSelector"] == {"pool": "spot"}


def test_the_retry_limit_of_a_job_that_exists_can_change() -> None:
    before = live(wanted())
    assert not contains(before, wanted(before, backoff_limit=9))


def test_suspending_changes_nothing_else() -> None:
    before = wanted()
    after = suspended(before)
    assert after["spec"]["suspend"] is True
    assert {**after["spec"], "suspend": False} == before["spec"]


def test_the_pods_of_a_job_wait_for_a_try_of_theirs_and_not_for_every_pod_of_it() -> None:
    spec = spread(wanted(), 8, "meeting", None)["spec"]
    assert spec["completionMode"] == "Indexed"
    assert spec["backoffLimitPerIndex"] > spec["backoffLimit"] == 3


def test_a_job_that_waits_for_every_pod_is_not_asked_for_what_cannot_change() -> None:
    before = live(spread(wanted(), 2, "meeting", None))
    del before["spec"]["backoffLimitPerIndex"]
    after = spread(wanted(before), 2, "meeting", before)
    assert contains(before, after)
