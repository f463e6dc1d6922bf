"""Why asking can end without answers: one class, the reasons as constants."""

from __future__ import annotations

# The user's mistakes: the same run fails again.
KEY_REFUSED = "KeyRefused"
QUOTA_EXHAUSTED = "QuotaExhausted"
ENDPOINT_UNUSABLE = "EndpointUnusable"
MODEL_CHANGED = "ModelChanged"
BUDGET_EXCEEDED = "BudgetExceeded"
# The infrastructure's: the next try can succeed, and asks only what has no answer yet.
KEY_MISSING = "KeyMissing"
SERVER_UNREACHABLE = "ServerUnreachable"


class RunError(Exception):
    """A run cannot go on: `reason` is one of the constants of its program, the message a sentence with advice."""

    def __init__(self, reason: str, message: str, *, retryable: bool) -> None:
        super().__init__(message)
        self.reason = reason
        self.retryable = retryable


class PreemptedError(Exception):
    """The pod was told to go while questions were under way; what was answered is kept."""


def mistake(reason: str, message: str) -> RunError:
    """An error that trying again cannot cure."""
    return RunError(reason, message, retryable=False)
