"""A person's approval: when it counts, that it is recorded once, and that nothing takes it back."""

from __future__ import annotations

from datetime import timedelta

import pytest
from tests.unit.kinds.evaluation.approvals import (
    ANNA,
    APPROVALS,
    JUDGED,
    OTHER,
    WITH_REASON,
    Case,
    after,
    annotated,
    approved,
    ended,
)
from tests.unit.kinds.scenes import NOW

from anneal.api.conditions import find
from anneal.api.evaluation import Evaluation
from anneal.kinds.evaluation.plan import plan
from anneal.kinds.evaluation.reasons import Reason


@pytest.mark.parametrize("case", APPROVALS.values(), ids=APPROVALS.keys())
def test_the_condition_says_what_counts_and_why(case: Case) -> None:
    status = approved(case).status
    condition = find(status, "Approved") or {}
    assert condition["reason"] == case.reason
    assert case.message in condition.get("message", "")
    assert (condition["status"] == "True") == ("approval" in status) == (case.reason is Reason.APPROVED)
    assert Evaluation.model_validate({"spec": ended(case).obj["spec"], "status": status}).status
    assert (status["verdict"], status["phase"]) == (ended(case).status["verdict"], "Complete")


def test_what_is_recorded_says_who_what_when_and_why() -> None:
    assert approved(APPROVALS["lifted"]).status["approval"] == {
        "digest": JUDGED,
        "by": "anna@example.com",
        "reason": "the legal team read 20 answers",
        "time": "2026-01-01T01:00:00Z",
    }


@pytest.mark.parametrize(
    "annotations", [{}, {**ANNA, "anneal.dev/approved-digest": OTHER}, {**WITH_REASON, "anneal.dev/approved-by": "bob"}]
)
def test_it_is_recorded_once_whatever_becomes_of_the_annotations(annotations: dict[str, str]) -> None:
    case = APPROVALS["lifted"]
    given = after(annotated(ended(case), case.annotations), approved(case))
    later = plan(annotated(given, annotations), NOW + timedelta(days=1))
    assert later.status == given.status


def test_the_end_itself_says_that_a_person_is_waited_for() -> None:
    """No second write is needed for it, and nothing is written while nobody answers."""
    given = ended(APPROVALS["a pass waits"])
    assert (find(given.status, "Approved") or {})["reason"] == Reason.AWAITING_APPROVAL
    assert plan(given, NOW).status == given.status


def test_what_is_too_long_is_cut() -> None:
    case = Case("all gates pass", "Required", Reason.APPROVED, "", {k: v * 300 for k, v in WITH_REASON.items()})
    long = {**case.annotations, "anneal.dev/approved-digest": JUDGED}
    given = plan(annotated(ended(case), long), NOW).status["approval"]
    assert (len(given["by"]), len(given["reason"])) == (128, 512)


def test_an_evaluation_that_ended_before_approvals_were_known_says_so_too() -> None:
    given = ended(APPROVALS["a pass waits"])
    old = [c for c in given.status["conditions"] if c["type"] != "Approved"]
    seen = after(given, plan(given, NOW))
    seen.obj["status"]["conditions"] = old
    assert (find(plan(seen, NOW).status, "Approved") or {})["reason"] == Reason.AWAITING_APPROVAL
