"""Why a FineTuneJob is as it is: every reason that its own rules give, in a word.

A pod's failure has the reason that the pod gave (the trainer's own list), or one of `kinds/pods.py` and
`kinds/results.py` where it could give none.
"""

from __future__ import annotations

from enum import StrEnum


class Reason(StrEnum):
    """One word per situation; the rule that uses it writes the sentence."""

    # before the start
    INVALID_SPEC = "InvalidSpec"
    CLAIM_NOT_FOUND = "ClaimNotFound"
    CLAIM_LOST = "ClaimLost"
    STARTING = "Starting"

    # at work
    PREPARING = "Preparing"
    PREPARED = "Prepared"
    TRAINING = "Training"
    TRAINED = "Trained"
    PUBLISHING = "Publishing"
    PUBLISHED = "Published"
    TRACKED = "Tracked"
    NOT_TRACKED = "NotTracked"
    POD_STARTING = "PodStarting"
    RETRYING = "Retrying"

    # at rest
    SUSPENDING = "Suspending"
    SUSPENDED = "Suspended"
    RESUMING = "Resuming"

    # at the end
    COMPLETED = "Completed"
    DEADLINE_EXCEEDED = "DeadlineExceeded"
    DOES_NOT_FIT = "DoesNotFit"

    # of conditions whose time has not come
    NOT_REACHED = "NotReached"
    NOT_SUSPENDED = "NotSuspended"
    NOT_FINISHED = "NotFinished"
