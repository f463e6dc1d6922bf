"""The life of an Evaluation as a table, and what holds in every line of it."""

from __future__ import annotations

import pytest
from tests.unit.kinds.evaluation.approvals import APPROVALS, approved
from tests.unit.kinds.evaluation.cases import CASES, Case
from tests.unit.kinds.evaluation.custody_cases import CASES as CUSTODY
from tests.unit.kinds.evaluation.objects import RECORDED
from tests.unit.kinds.scenes import NOW

from anneal.api.evaluation import Evaluation
from anneal.kinds.contract import Plan
from anneal.kinds.evaluation.plan import plan
from anneal.kinds.evaluation.reasons import Reason
from anneal.kinds.times import timestamp

CONDITIONS = ["Complete", "Failed", "CandidateReady", "UnderPowered", "Worn", "Approved", "Reconciling", "Stalled"]
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
def test_children_are_asked_for_only_while_there_is_work_for_them(case: Case) -> None:
    decided = decide(case)
    assert [o["kind"] for o in decided.apply] == (["ConfigMap", "Job"] if case.makes else [])
    assert decided.delete == ()
    assert decided.requeue_after == case.requeue_after


@every_case
def test_a_status_is_whole_and_valid(case: Case) -> None:
    status = decide(case).status
    assert [c["type"] for c in status["conditions"]] == CONDITIONS
    assert all(c["observedGeneration"] == case.seen.generation for c in status["conditions"])
    assert Evaluation.model_validate({"spec": CASES["all gates pass"].seen.obj["spec"], "status": status}).status


@every_case
def test_what_is_recorded_is_never_lost(case: Case) -> None:
    status = decide(case).status
    assert {f: status[f] for f in RECORDED if f in case.seen.status} == {
        f: case.seen.status[f] for f in RECORDED if f in case.seen.status
    }


@every_case
def test_an_end_has_its_time(case: Case) -> None:
    status = decide(case).status
    assert status.get("completionTime") == (timestamp(NOW) if case.phase in ("Complete", "Failed") else None)


def test_every_reason_is_produced() -> None:
    statuses = [decide(case).status for case in CASES.values()] + [approved(c).status for c in APPROVALS.values()]
    statuses += [case.decided.status for case in CUSTODY.values()]
    produced = {s["reason"] for s in statuses} | {c["reason"] for s in statuses for c in s["conditions"]}
    assert set(Reason) <= produced
