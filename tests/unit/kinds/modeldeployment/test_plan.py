"""What holds in every situation of a ModelDeployment."""

from __future__ import annotations

import pytest
from tests.unit.kinds.modeldeployment.situations import SITUATIONS

from anneal.api.modeldeployment import ModelDeployment
from anneal.kinds.modeldeployment import KIND_ROW
from anneal.kinds.modeldeployment.reasons import Reason

CONDITIONS = ["GatePassed", "Ready", "Progressing", "Reconciling", "Stalled"]
every_situation = pytest.mark.parametrize("reason", SITUATIONS, ids=str)
#: Reasons of the gate when it is open: status.reason speaks of the rollout then.
OPEN = (Reason.EVALUATION_PASSED, Reason.GATE_SKIPPED)
#: Situations that nothing but a change by somebody ends.
STUCK = {
    Reason.INVALID_SPEC,
    Reason.NAME_TAKEN,
    Reason.REVISION_NOT_FOUND,
    Reason.FINE_TUNE_JOB_FAILED,
    Reason.EVALUATION_FAILED,
    Reason.EVALUATION_TOO_OLD,
    Reason.VERDICT_FAILED,
    Reason.VERDICT_INCONCLUSIVE,
    Reason.DIGEST_MISMATCH,
    Reason.REVISION_NOT_READY,
}
AT_REST = {Reason.SERVING, Reason.SCALED_TO_ZERO}


def test_every_reason_is_produced() -> None:
    assert set(SITUATIONS) == set(Reason)


@every_situation
def test_the_reason_is_told(reason: Reason) -> None:
    made = SITUATIONS[reason]()
    assert (made.reason("GatePassed") if reason in OPEN else made.status["reason"]) == reason


@every_situation
def test_a_status_is_whole_and_valid(reason: Reason) -> None:
    made = SITUATIONS[reason]()
    assert [c["type"] for c in made.status["conditions"]] == CONDITIONS
    assert {c["observedGeneration"] for c in made.status["conditions"]} == {made.obj["metadata"]["generation"]}
    spec = SITUATIONS[Reason.SERVING]().obj["spec"]
    assert ModelDeployment.model_validate({"spec": spec, "status": made.status}).status is not None
    assert 0 < len(made.status["message"]) <= 1024


@every_situation
def test_health_is_right_at_every_moment(reason: Reason) -> None:
    made = SITUATIONS[reason]()
    assert made.is_true("Stalled") == (reason in STUCK)
    assert made.is_true("Reconciling") == (reason not in STUCK | AT_REST)


@every_situation
def test_nothing_is_served_without_an_open_gate(reason: Reason) -> None:
    made = SITUATIONS[reason]()
    if made.traffic is None:
        assert not made.is_true("Ready")
    assert made.status["gate"] in ("Passed", "Skipped") or not made.status["revisions"]


@every_situation
def test_the_same_observation_gives_the_same_plan(reason: Reason) -> None:
    made = SITUATIONS[reason]()
    assert KIND_ROW.plan(made.seen(), made.now) == KIND_ROW.plan(made.seen(), made.now)
