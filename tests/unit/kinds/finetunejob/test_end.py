"""Complete and Failed are final: nothing begins again, what runs is stopped, and in time children go."""

from __future__ import annotations

from typing import Any

import pytest
from tests.support.builders import as_stored, fine_tune_job
from tests.unit.kinds.finetunejob.cases import (
    PREPARED,
    PUBLISHED,
    STARTED,
    at,
    children_of,
    failing,
)
from tests.unit.kinds.scenes import NOW, ago, ended, pod, seen

from anneal.kinds.contract import Delete, Plan, Reference
from anneal.kinds.finetunejob import KIND_ROW
from anneal.kinds.finetunejob.plan import plan, references

Json = dict[str, Any]
COMPLETE: Json = dict(plan(at(PUBLISHED), NOW).status)
FAILED: Json = dict(plan(failing(PREPARED), NOW).status)


def over(status: Json, *children: Any, since: float = 0, **spec: Any) -> Plan:
    return plan(at({**status, "completionTime": ago(since)}, *children, spec=spec), NOW)


def names(decided: Plan) -> list[str]:
    return [d.kind for d in decided.delete]


@pytest.mark.parametrize("status", [COMPLETE, FAILED], ids=["complete", "failed"])
def test_a_finished_object_is_never_written_again(status: Json) -> None:
    children = children_of(PREPARED, job_status=ended("Complete"))
    decided = over(status, *children)
    assert decided == Plan(status={**status, "completionTime": ago(0)})


def test_an_edit_after_the_end_is_acknowledged_and_changes_nothing_else() -> None:
    decided = plan(at(COMPLETE, generation=5), NOW)
    assert decided.apply == ()
    assert decided.status["observedGeneration"] == 5
    assert {c["observedGeneration"] for c in decided.status["conditions"]} == {5}
    assert [(c["type"], c["status"]) for c in decided.status["conditions"]] == [
        (c["type"], c["status"]) for c in COMPLETE["conditions"]
    ]


def test_after_the_end_a_broken_spec_does_not_matter() -> None:
    assert over(COMPLETE, training={"learningRate": "0"}).status["phase"] == "Complete"


def test_a_deadline_is_recorded_before_anything_is_stopped() -> None:
    spec = {"activeDeadlineSeconds": 600}
    children = children_of(PREPARED, job_status={"active": 1})
    recorded = plan(at(PREPARED, *children, pod("Running"), spec=spec), NOW)
    assert recorded.status["reason"] == "DeadlineExceeded"
    assert recorded.delete == ()
    stopped = plan(at(dict(recorded.status), *children, pod("Running"), spec=spec), NOW)
    *_, job = children
    assert stopped.delete == (Delete("batch/v1", "Job", job["metadata"]["name"], "uid-of-job"),)
    assert stopped.status == recorded.status


def test_children_stay_for_their_logs_until_their_time_is_over() -> None:
    children = children_of(PREPARED, job_status=ended("Failed"))
    early = over(FAILED, *children, since=100, ttlSecondsAfterFinished=300)
    assert early.delete == ()
    assert early.requeue_after == 200.0
    late = over(FAILED, *children, since=300, ttlSecondsAfterFinished=300)
    assert names(late) == ["Job", "ConfigMap", "PersistentVolumeClaim"]
    assert {d.uid for d in late.delete} == {c["metadata"]["uid"] for c in children}
    assert over(FAILED, since=300, ttlSecondsAfterFinished=300) == Plan(status={**FAILED, "completionTime": ago(300)})


def test_without_children_there_is_nothing_to_wait_for() -> None:
    assert over(COMPLETE, since=100, ttlSecondsAfterFinished=300).requeue_after is None


def test_an_object_that_is_being_deleted_makes_nothing() -> None:
    obj = as_stored(fine_tune_job(), **STARTED)
    going = {**obj, "metadata": {**obj["metadata"], "deletionTimestamp": ago(0)}}
    assert plan(seen(going), NOW) == Plan(status=STARTED)


def test_the_claims_of_a_job_are_looked_at_while_they_matter() -> None:
    obj = as_stored(
        fine_tune_job(dataset={"sources": [{"uri": "pvc://data/a.jsonl"}, {"uri": "https://data.test/b.jsonl"}]})
    )
    assert references(obj, {}) == {Reference("PersistentVolumeClaim", c) for c in ("hub", "data", "models")}
    assert references(as_stored(fine_tune_job(), **COMPLETE), {}) == frozenset()
    assert references(as_stored(fine_tune_job(), **FAILED), {}) == frozenset()


def test_the_row_lists_all_that_a_plan_makes_and_reads() -> None:
    spread = {"resources": {"nodes": 2}, "workspace": {"accessMode": "ReadWriteMany"}}
    made = {(o["apiVersion"], o["kind"]) for o in plan(at(PREPARED, spec=spread), NOW).apply}
    assert set(KIND_ROW.owns) == made | {("v1", "Pod")}
    assert KIND_ROW.info.kind == "FineTuneJob"
