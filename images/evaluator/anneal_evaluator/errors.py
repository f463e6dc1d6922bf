"""Why an evaluation can end without a judgement: one class, the reasons as constants.

None of these is a verdict: a model is never failed by a fault of its data, its server or its settings.
"""

from __future__ import annotations

# The user's mistakes: the same run fails again.
INVALID_RUN = "InvalidRun"
DIGEST_MISMATCH = "DigestMismatch"
HELD_OUT_EMPTY = "HeldOutEmpty"
HELD_OUT_INVALID = "HeldOutInvalid"
METRIC_UNUSABLE = "MetricUnusable"
PROMPTS_DIFFER = "PromptsDiffer"
KEY_REFUSED = "KeyRefused"
QUOTA_EXHAUSTED = "QuotaExhausted"
ENDPOINT_UNUSABLE = "EndpointUnusable"
MODEL_CHANGED = "ModelChanged"
JUDGE_UNUSABLE = "JudgeUnusable"
BUDGET_EXCEEDED = "BudgetExceeded"
# The user's mistake or not, by what the errors were.
TOO_MANY_ERRORS = "TooManyErrors"
# The infrastructure's: the next try can succeed, and asks only what has no answer yet.
KEY_MISSING = "KeyMissing"
SERVER_UNREACHABLE = "ServerUnreachable"
STORAGE_FAILED = "StorageFailed"
INTERNAL_ERROR = "InternalError"


class EvaluationError(Exception):
    """The evaluation cannot be judged: `reason` is one of the constants above, the message a sentence with advice."""

    def __init__(self, reason: str, message: str, *, retryable: bool) -> None:
        super().__init__(message)
        self.reason = reason
        self.retryable = retryable


class PreemptedError(Exception):
    """The pod was told to go while questions were under way; what was answered is kept."""


def mistake(reason: str, message: str) -> EvaluationError:
    """An error that trying again cannot cure."""
    return EvaluationError(reason, message, retryable=False)
