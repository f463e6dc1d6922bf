"""Every way in which a run ends badly, on one page.

What decides the class is the only thing that the operator does with it: whether the same run can succeed when it is
tried again. Messages are sentences for the person who reads `status.message`: what is wrong, where, what to do.
"""

from __future__ import annotations

from anneal.api.runs import FitData


class TrainerError(Exception):
    """A run that ended badly for a known reason.

    Attributes:
        reason: one CamelCase word, stable: dashboards and tests name it.
        retryable: whether the same run can succeed when tried again.
    """

    retryable = True

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message


# --- the same run fails again ------------------------------------------------------------------------------------


class UserMistake(TrainerError):  # noqa: N818 - it is named for what it is to the reader
    """Data, model or settings that cannot work. Never retried."""

    retryable = False


# --- the same run may succeed later ------------------------------------------------------------------------------


class Unavailable(TrainerError):  # noqa: N818
    """Something outside did not answer, or there was no room. Retried within the job's backoff limit."""


# --- no failure at all -------------------------------------------------------------------------------------------


class Preempted(Exception):  # noqa: N818
    """The pod was asked to go (SIGTERM). What was done is saved; `fit` says how far training is, if it began."""

    def __init__(self, message: str, fit: FitData | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.fit = fit
