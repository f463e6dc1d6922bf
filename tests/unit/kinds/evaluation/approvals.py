"""What people say of a verdict by annotation, and what becomes of it. Read it as a table."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from tests.support.builders import digest
from tests.unit.kinds.evaluation.cases import CASES
from tests.unit.kinds.scenes import NOW

from anneal.kinds.contract import Plan, Seen
from anneal.kinds.evaluation.plan import plan
from anneal.kinds.evaluation.reasons import Reason

JUDGED, OTHER = digest("intents-v1"), digest("intents-v0")
ANNA = {"anneal.dev/approved-digest": JUDGED, "anneal.dev/approved-by": "anna@example.com"}
WITH_REASON = {**ANNA, "anneal.dev/approval-reason": "the legal team read 20 answers"}


@dataclass(frozen=True)
class Case:
    """An Evaluation that ended, its policy, its annotations, and what the condition Approved says."""

    end: str
    approval: str
    reason: Reason
    message: str
    annotations: dict[str, str] = field(default_factory=dict)


PASSED, UNDECIDED, FAILED = "all gates pass", "a gate is undecided", "a gate fails"
APPROVALS: dict[str, Case] = {
    "nobody is asked": Case(PASSED, "Never", Reason.APPROVAL_NOT_ASKED, "", ANNA),
    "a pass needs no approval": Case(PASSED, "WhenInconclusive", Reason.APPROVAL_NOT_ASKED, "", ANNA),
    "an undecided verdict is not lifted": Case(UNDECIDED, "Required", Reason.APPROVAL_NOT_ASKED, "", ANNA),
    "nothing lifts a failure": Case(FAILED, "WhenInconclusive", Reason.APPROVAL_NOT_ASKED, "", ANNA),
    "nothing makes a failure count": Case(FAILED, "Required", Reason.APPROVAL_NOT_ASKED, "", ANNA),
    "a pass waits": Case(
        PASSED,
        "Required",
        Reason.AWAITING_APPROVAL,
        f"waits for a person (policy.approval): kubectl -n team annotate evaluation intents-v1"
        f" anneal.dev/approved-digest={JUDGED} anneal.dev/approved-by=NAME anneal.dev/approval-reason=WHY",
    ),
    "an undecided verdict waits": Case(
        UNDECIDED, "WhenInconclusive", Reason.AWAITING_APPROVAL, "The verdict Inconclusive waits for a person"
    ),
    "another digest": Case(
        PASSED,
        "Required",
        Reason.APPROVAL_MISMATCH,
        f"names {OTHER}, but judged is {JUDGED}, so nothing is approved",
        {**ANNA, "anneal.dev/approved-digest": OTHER},
    ),
    "nobody's name": Case(
        PASSED,
        "Required",
        Reason.APPROVAL_INCOMPLETE,
        "anneal.dev/approved-by does not say who approves",
        {**ANNA, "anneal.dev/approved-by": " "},
    ),
    "approved": Case(
        PASSED, "Required", Reason.APPROVED, "Approved by anna@example.com at 2026-01-01T01:00:00Z.", ANNA
    ),
    "lifted": Case(
        UNDECIDED,
        "WhenInconclusive",
        Reason.APPROVED,
        "Approved by anna@example.com at 2026-01-01T01:00:00Z: the legal team read 20 answers",
        WITH_REASON,
    ),
}


def annotated(seen: Seen, annotations: dict[str, str]) -> Seen:
    """The same with exactly these annotations."""
    return replace(seen, obj={**seen.obj, "metadata": {**seen.obj["metadata"], "annotations": annotations}})


def after(seen: Seen, decided: Plan) -> Seen:
    """The same once that status is written."""
    return replace(seen, obj={**seen.obj, "status": dict(decided.status)})


def ended(case: Case) -> Seen:
    """An Evaluation that has just ended under that policy, without annotations."""
    given = CASES[case.end].seen
    spec: dict[str, Any] = {**given.obj["spec"], "policy": {"approval": case.approval}}
    judged = replace(given, obj={**given.obj, "spec": spec})
    return after(judged, plan(judged, NOW))


def approved(case: Case) -> Plan:
    """What is planned once the annotations are seen."""
    return plan(annotated(ended(case), case.annotations), NOW)
