"""The life of a FineTuneJob as a table, and what holds in every line of it."""

from __future__ import annotations

import pytest
from tests.unit.kinds.finetunejob.cases import CASES, Case
from tests.unit.kinds.scenes import NOW

from anneal.api.finetunejob import FineTuneJob
from anneal.kinds.contract import Plan
from anneal.kinds.finetunejob.plan import plan
from anneal.kinds.finetunejob.reasons import Reason

CONDITIONS = ["Complete", "Failed", "Suspended", "DataReady", "Training", "Published", "Reconciling", "Stalled"]
every_case = pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())


def decide(case: Case) -> Plan:
    return plan(case.seen, NOW)


@every_case
def test_status_says_what_is_so_and_why(case: Case) -> None:
    status = decide(case).status
    assert (status["phase"], status["reason"]) == (case.phase, case.reason)
    assert case.message in status["message"]
    assert {c["type"] for c in status["conditions"] if c["status"] == "True"} == case.true


@every_case
def test_only_the_step_at_hand_is_asked_for(case: Case) -> None:
    decided = decide(case)
    jobs = [o for o in decided.apply if o["kind"] == "Job"]
    assert tuple(j["metadata"]["labels"]["anneal.dev/role"] for j in jobs) == case.applied
    assert decided.requeue_after == case.requeue_after
    assert decided.delete == ()


@every_case
def test_a_status_is_whole_and_valid(case: Case) -> None:
    status = decide(case).status
    found = [c["type"] for c in status["conditions"]]
    assert [kind for kind in found if kind != "Tracked"] == CONDITIONS
    assert ("Tracked" in found) == ("tracking" in case.seen.status)
    assert status["observedGeneration"] == case.seen.generation
    assert FineTuneJob.model_validate({**case.seen.obj, "status": status}).status is not None


@every_case
def test_what_is_recorded_is_never_lost(case: Case) -> None:
    status = decide(case).status
    for recorded in ("startTime", "model", "dataset", "training", "artifact"):
        if recorded in case.seen.status:
            assert status[recorded] == case.seen.status[recorded]


@every_case
def test_the_same_observation_gives_the_same_plan(case: Case) -> None:
    assert decide(case) == decide(case)


@every_case
def test_messages_end_in_a_word_and_say_something(case: Case) -> None:
    said = decide(case).status["message"]
    assert 0 < len(said) <= 1024
    assert said == said.strip()


def test_every_reason_is_produced() -> None:
    statuses = [decide(case).status for case in CASES.values()]
    produced = {s["reason"] for s in statuses} | {c["reason"] for s in statuses for c in s["conditions"]}
    assert set(Reason) <= produced
