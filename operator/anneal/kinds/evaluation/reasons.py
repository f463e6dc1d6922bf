"""Why an Evaluation is where it is: every reason that its plan gives.

A pod's own reasons come on top: those of `kinds.pods` and `kinds.results`, and what the evaluator and the layout
container write in their results.
"""

from __future__ import annotations

from enum import StrEnum


class Reason(StrEnum):
    """Reasons in conditions and in status.reason."""

    INVALID_SPEC = "InvalidSpec"
    CANDIDATE_NOT_FOUND = "CandidateNotFound"
    CANDIDATE_NOT_FINISHED = "CandidateNotFinished"
    CANDIDATE_FAILED = "CandidateFailed"
    CANDIDATE_RECORDED = "CandidateRecorded"
    INCUMBENT_NOT_FOUND = "IncumbentNotFound"
    JUDGE_IS_CONTESTANT = "JudgeIsContestant"
    HELD_OUT_EMPTY = "HeldOutEmpty"
    HELD_OUT_SUFFICES = "HeldOutSuffices"
    UNDER_POWERED = "UnderPowered"
    SEALED_ROWS_USED = "SealedRowsUsed"
    HELD_OUT_FRESH = "HeldOutFresh"
    HELD_OUT_WORN = "HeldOutWorn"
    CLAIM_NOT_FOUND = "ClaimNotFound"
    STARTING = "Starting"
    SERVER_STARTING = "ServerStarting"
    SERVER_FAILED = "ServerFailed"
    EVALUATING = "Evaluating"
    SCORING = "Scoring"
    PLUGIN_TIMED_OUT = "PluginTimedOut"
    RETRYING = "Retrying"
    DEADLINE_EXCEEDED = "DeadlineExceeded"
    RESULT_UNREADABLE = "ResultUnreadable"
    NOT_JUDGED = "NotJudged"
    GATES_PASSED = "GatesPassed"
    GATES_FAILED = "GatesFailed"
    GATES_INCONCLUSIVE = "GatesInconclusive"
    # the condition Approved
    APPROVAL_NOT_ASKED = "ApprovalNotAsked"
    AWAITING_APPROVAL = "AwaitingApproval"
    APPROVAL_MISMATCH = "ApprovalMismatch"
    APPROVAL_INCOMPLETE = "ApprovalIncomplete"
    APPROVED = "Approved"
