"""Which artifact is served, and on what proof."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest
from tests.support.builders import as_stored, digest, evaluation
from tests.unit.kinds.modeldeployment.situations import REF, SELECTOR, job, settled, unjudged
from tests.unit.kinds.modeldeployment.stage import Json, judged, stage, trained, true

from anneal.kinds.modeldeployment.reasons import Reason


@dataclass(frozen=True)
class Case:
    """What there is, and what the gate says of it."""

    others: list[Json]
    gate: str
    reason: Reason
    message: str
    spec: dict[str, Any] = field(default_factory=dict)


V1, V2 = digest("intents-v1")[:19], digest("intents-v0")[:19]
OTHER_V1 = {"subjectDigest": digest("intents-v1")}


def with_policy(obj: Json, **policy: Any) -> Json:
    """An Evaluation whose spec has that policy."""
    return {**obj, "spec": {**obj["spec"], "policy": policy}}


def approved(obj: Json, version: str = "intents-v1") -> Json:
    """An Evaluation that has recorded somebody's approval of that version's artifact."""
    approval = {"digest": digest(version), "by": "anna", "time": "2026-01-01T00:50:00Z"}
    return {**obj, "status": {**obj["status"], "approval": approval}}


CASES: dict[str, Case] = {
    "no job": Case([judged()], "Waiting", Reason.FINE_TUNE_JOB_NOT_FOUND, "There is no FineTuneJob 'intents-v1'"),
    "a job at work": Case([job(phase="Training")], "Waiting", Reason.FINE_TUNE_JOB_NOT_FINISHED, "(phase Training)"),
    "a job that failed": Case(
        [job(true("Failed", "line 17: not JSON"))], "Refused", Reason.FINE_TUNE_JOB_FAILED, "failed: line 17: not JSON"
    ),
    "no evaluation at all": Case(
        [trained()], "Waiting", Reason.EVALUATION_NOT_FOUND, f"No Evaluation in this namespace has judged artifact {V1}"
    ),
    "the named evaluation is missing": Case(
        [trained()],
        "Waiting",
        Reason.EVALUATION_NOT_FOUND,
        "There is no Evaluation 'intents-v1' (spec.gate.evaluationRef)",
        {"gate": REF},
    ),
    "the named evaluation is at work": Case(
        [trained(), unjudged(phase="Evaluating", **OTHER_V1)],
        "Waiting",
        Reason.EVALUATION_NOT_FINISHED,
        "is not finished (phase Evaluating)",
        {"gate": REF},
    ),
    "the named evaluation is for another digest": Case(
        [trained(), judged("intents-v0", name="intents-v1")],
        "Refused",
        Reason.DIGEST_MISMATCH,
        f"Evaluation 'intents-v1' judged artifact {V2}, but the one to serve is {V1}; evaluate that one.",
        {"gate": REF},
    ),
    "the named evaluation broke": Case(
        [trained(), unjudged(true("Failed", "the server did not stay up"))],
        "Refused",
        Reason.EVALUATION_FAILED,
        "Evaluation 'intents-v1' reached no verdict: the server did not stay up",
        {"gate": REF},
    ),
    "the verdict is Failed": Case(
        [trained(), judged(verdict="Failed")],
        "Refused",
        Reason.VERDICT_FAILED,
        f"Evaluation 'intents-v1' did not pass artifact {V1}: The candidate failed.",
    ),
    "the verdict is Inconclusive": Case(
        [trained(), judged(verdict="Inconclusive")], "Refused", Reason.VERDICT_INCONCLUSIVE, "did not pass"
    ),
    "a pass waits for a person": Case(
        [trained(), with_policy(judged(), approval="Required")],
        "Waiting",
        Reason.AWAITING_APPROVAL,
        f"Evaluation 'intents-v1' of artifact {V1} ended Passed and waits for a person's approval",
    ),
    "an undecided verdict waits for a person": Case(
        [trained(), with_policy(judged(verdict="Inconclusive"), approval="WhenInconclusive")],
        "Waiting",
        Reason.AWAITING_APPROVAL,
        "ended Inconclusive and waits for a person's approval; its condition Approved says how.",
    ),
    "a person lifted what was undecided": Case(
        [trained(), with_policy(approved(judged(verdict="Inconclusive")), approval="WhenInconclusive")],
        "Passed",
        Reason.EVALUATION_PASSED,
        f"Evaluation 'intents-v1', approved by anna, lets artifact {V1} be served.",
    ),
    "an approval of another digest": Case(
        [trained(), with_policy(approved(judged(), "intents-v0"), approval="Required")],
        "Waiting",
        Reason.AWAITING_APPROVAL,
        "waits for a person's approval",
    ),
    "nobody lifts a failure": Case(
        [trained(), with_policy(approved(judged(verdict="Failed")), approval="WhenInconclusive")],
        "Refused",
        Reason.VERDICT_FAILED,
        "did not pass",
    ),
    "an approval that no policy asks for lifts nothing": Case(
        [trained(), approved(judged(verdict="Inconclusive"))],
        "Refused",
        Reason.VERDICT_INCONCLUSIVE,
        "did not pass",
    ),
    "an approved verdict ages": Case(
        [trained(), with_policy(approved(judged(age=61)), approval="Required", validForSeconds=60)],
        "Refused",
        Reason.EVALUATION_TOO_OLD,
        "evaluate it again.",
    ),
    "the verdict is too old": Case(
        [trained(), judged(age=61)],
        "Refused",
        Reason.EVALUATION_TOO_OLD,
        "which is longer ago than 60 s (spec.gate.maxAgeSeconds); evaluate it again.",
        {"gate": {"maxAgeSeconds": 60}},
    ),
    "the verdict is no longer valid": Case(
        [trained(), with_policy(judged(age=61), validForSeconds=60)],
        "Refused",
        Reason.EVALUATION_TOO_OLD,
        "which is longer ago than 60 s (its policy.validForSeconds); evaluate it again.",
        {"gate": {"maxAgeSeconds": 3600}},
    ),
    "the verdict is still valid": Case(
        [trained(), with_policy(judged(age=59), validForSeconds=60)],
        "Passed",
        Reason.EVALUATION_PASSED,
        f"Evaluation 'intents-v1' passed artifact {V1}.",
    ),
    "the verdict is young enough": Case(
        [trained(), judged(age=59)],
        "Passed",
        Reason.EVALUATION_PASSED,
        f"Evaluation 'intents-v1' passed artifact {V1}.",
        {"gate": {"maxAgeSeconds": 60}},
    ),
    "evaluations of other digests do not count": Case(
        [trained(), judged("intents-v0")], "Waiting", Reason.EVALUATION_NOT_FOUND, f"has judged artifact {V1}"
    ),
    "one pass among many is enough": Case(
        [trained(), judged(verdict="Failed", name="a"), judged(name="b"), judged(verdict="Inconclusive", name="c")],
        "Passed",
        Reason.EVALUATION_PASSED,
        "Evaluation 'b' passed",
    ),
    "what may still pass tells more than what did not": Case(
        [trained(), judged(verdict="Failed", name="a"), as_stored(evaluation("b"), **OTHER_V1)],
        "Waiting",
        Reason.EVALUATION_NOT_FINISHED,
        "Evaluation 'b' is not finished (phase Pending)",
    ),
    "the gate is skipped in the open": Case(
        [trained()], "Skipped", Reason.GATE_SKIPPED, "Served without proof", {"gate": {"skip": True}}
    ),
    "nothing is selected": Case(
        [trained("other") | {"metadata": {"name": "other", "labels": {"app": "other"}}}, job(phase="Training")],
        "Waiting",
        Reason.NOTHING_SELECTED,
        "No FineTuneJob with labels app=intents is complete (1 have them).",
        {"model": SELECTOR},
    ),
    "the newest that passed is selected": Case(
        [trained("a", age=300), trained("b", age=200), trained("c", age=100), judged("a"), judged("b")],
        "Passed",
        Reason.EVALUATION_PASSED,
        "Evaluation 'b' passed",
        {"model": SELECTOR},
    ),
    "the newest says why, when none passed": Case(
        [trained("a", age=300), trained("b", age=200), judged("a", "Failed"), judged("b", "Inconclusive")],
        "Refused",
        Reason.VERDICT_INCONCLUSIVE,
        "Evaluation 'b' did not pass",
        {"model": SELECTOR},
    ),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_the_gate_says(case: Case) -> None:
    made = stage(*case.others, **case.spec)
    made.step()
    condition = next(c for c in made.status["conditions"] if c["type"] == "GatePassed")
    assert (made.status["gate"], condition["reason"]) == (case.gate, case.reason)
    assert case.message in condition["message"]
    assert made.is_true("GatePassed") == (case.gate in ("Passed", "Skipped"))
    assert bool(made.status["revisions"]) == made.is_true("GatePassed")


def test_a_refused_digest_leaves_the_old_one_serving() -> None:
    made = stage()
    first = made.serve()
    made.replace(trained("intents-v2"), judged("intents-v2", "Failed"))
    made.edit(model={"fineTuneJobRef": {"name": "intents-v2"}})
    made.settle()
    assert (made.traffic, made.replicas(first), made.revisions) == (first, 1, [first])
    assert (made.status["phase"], made.status["reason"]) == ("Ready", Reason.VERDICT_FAILED)
    assert made.status["message"].endswith(f"Revision {first} keeps serving.")
    assert (made.is_true("Ready"), made.is_true("Stalled"), made.is_true("GatePassed")) == (True, True, False)
    assert made.status["digest"] == digest("intents-v1")


def test_a_better_model_is_promoted_without_anyone_editing() -> None:
    made = stage(trained("a", age=300), judged("a"), model=SELECTOR)
    made.serve()
    made.replace(trained("b", age=100))
    made.settle()
    assert (made.status["reason"], made.status["digest"]) == (Reason.SERVING, digest("a"))
    made.replace(judged("b"))
    made.serve()
    assert made.status["digest"] == digest("b")


def test_what_serves_needs_its_job_and_its_evaluation_no_more() -> None:
    made = stage()
    revision = made.serve()
    made.remove("FineTuneJob")
    made.remove("Evaluation")
    made.wait(10**8)
    made.settle()
    assert (made.status["reason"], made.traffic, made.is_true("GatePassed")) == (Reason.SERVING, revision, True)
    made.edit(resources={"memory": "8Gi"})
    made.serve()
    assert made.status["digest"] == digest("intents-v1")
    assert made.status["revisions"][0]["evaluation"] == "intents-v1"


def test_who_approved_is_kept_with_the_revision() -> None:
    made = stage(trained(), with_policy(approved(judged(verdict="Inconclusive")), approval="WhenInconclusive"))
    made.serve()
    made.remove("Evaluation")
    made.settle()
    assert made.status["revisions"][0]["approvedBy"] == "anna"
    said = next(c["message"] for c in made.status["conditions"] if c["type"] == "GatePassed")
    assert said == f"Evaluation 'intents-v1', approved by anna, lets artifact {V1} be served."
    made.edit(revision=made.revisions[0])
    made.settle()
    assert said == next(c["message"] for c in made.status["conditions"] if c["type"] == "GatePassed")


def test_a_proof_does_not_age_for_what_serves_but_for_what_is_new() -> None:
    made = stage(trained(), judged(age=0), gate={"maxAgeSeconds": 3600})
    revision = made.serve()
    made.wait(7200)
    made.settle()
    assert (made.is_true("GatePassed"), made.status["reason"]) == (True, Reason.SERVING)
    made.edit(resources={"memory": "8Gi"})
    made.settle()
    assert (made.status["reason"], made.traffic) == (Reason.EVALUATION_TOO_OLD, revision)


def test_another_evaluation_that_is_demanded_is_asked() -> None:
    made = stage()
    revision = made.serve()
    made.edit(gate={"evaluationRef": {"name": "stricter"}})
    made.settle()
    assert (made.status["reason"], made.traffic) == (Reason.EVALUATION_NOT_FOUND, revision)
    made.replace(judged(name="stricter"))
    made.settle()
    assert (made.status["reason"], made.status["revisions"][0]["evaluation"]) == (Reason.SERVING, "stricter")


def test_an_unproven_revision_stops_when_the_gate_is_not_skipped_any_more() -> None:
    made = settled(stage(trained(), gate={"skip": True}))
    revision = made.revisions[0]
    made.edit(gate={"skip": False})
    made.pods_answer(revision)
    made.settle()
    assert (made.traffic, made.status["reason"]) == (None, Reason.EVALUATION_NOT_FOUND)
    made.replace(judged())
    made.settle()
    assert made.status["revisions"][0]["evaluation"] == "intents-v1"
    made.pods_answer(revision)
    made.settle()
    assert (made.traffic, made.status["gate"]) == (revision, "Passed")


def test_a_started_rollout_goes_on_while_a_newer_artifact_waits() -> None:
    made = settled(stage())
    revision = made.revisions[0]
    made.edit(model={"fineTuneJobRef": {"name": "intents-v2"}})
    made.settle()
    assert made.status["reason"] == Reason.FINE_TUNE_JOB_NOT_FOUND
    made.pods_answer(revision)
    made.settle()
    assert (made.traffic, made.status["phase"]) == (revision, "Ready")


def test_a_deadline_does_not_run_while_claims_are_missing() -> None:
    made = stage()
    claims = [o for o in made.others if o["kind"] == "PersistentVolumeClaim"]
    made.remove("PersistentVolumeClaim")
    decided = made.settle()
    assert (decided.requeue_after, made.status["revisions"]) == (15.0, [])
    assert "PersistentVolumeClaim 'hub' does not exist" in made.status["message"]
    made.wait(10_000)
    made.replace(*claims)
    made.settle()
    assert made.status["reason"] == Reason.ROLLING_OUT
