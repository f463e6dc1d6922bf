"""Why a ModelDeployment is where it is: every reason that its plan gives.

What a pod waits for or ends with is told in messages; its reasons (`kinds.pods`) are not among these.
"""

from __future__ import annotations

from enum import StrEnum


class Reason(StrEnum):
    """Reasons in conditions and in status.reason."""

    INVALID_SPEC = "InvalidSpec"
    NAME_TAKEN = "NameTaken"
    REVISION_NOT_FOUND = "RevisionNotFound"
    # the artifact
    FINE_TUNE_JOB_NOT_FOUND = "FineTuneJobNotFound"
    FINE_TUNE_JOB_NOT_FINISHED = "FineTuneJobNotFinished"
    FINE_TUNE_JOB_FAILED = "FineTuneJobFailed"
    NOTHING_SELECTED = "NothingSelected"
    CLAIM_NOT_FOUND = "ClaimNotFound"
    # the gate
    EVALUATION_PASSED = "EvaluationPassed"
    GATE_SKIPPED = "GateSkipped"
    EVALUATION_NOT_FOUND = "EvaluationNotFound"
    EVALUATION_NOT_FINISHED = "EvaluationNotFinished"
    AWAITING_APPROVAL = "AwaitingApproval"
    EVALUATION_FAILED = "EvaluationFailed"
    EVALUATION_TOO_OLD = "EvaluationTooOld"
    VERDICT_FAILED = "VerdictFailed"
    VERDICT_INCONCLUSIVE = "VerdictInconclusive"
    DIGEST_MISMATCH = "DigestMismatch"
    # the rollout
    REVISION_RECORDED = "RevisionRecorded"
    ROLLING_OUT = "RollingOut"
    REVISION_NOT_READY = "RevisionNotReady"
    SWITCHING = "Switching"
    DRAINING = "Draining"
    # what serves
    SCALED_TO_ZERO = "ScaledToZero"
    SCALING = "Scaling"
    NOT_ANSWERING = "NotAnswering"
    SERVING = "Serving"
