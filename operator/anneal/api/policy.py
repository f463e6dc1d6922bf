"""What an Evaluation does where numbers end: errors, too few rows, undecided gates, and a person's approval."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from anneal.api.model import ApiModel, Decimal, Digest, Rule, Timestamp


class Policy(ApiModel):
    """What to do where answers could not be had, or rows cannot tell, and whether a person has the last word."""

    RULES = (
        Rule(
            cel="!has(self.approval) || self.approval != 'WhenInconclusive' || !has(self.onInconclusive) ||"
            " self.onInconclusive != 'Fail'",
            holds=lambda policy: (policy.approval, policy.on_inconclusive) != ("WhenInconclusive", "Fail"),
            message="approval WhenInconclusive and onInconclusive Fail contradict each other",
        ),
    )

    max_error_rate: Decimal = Field(
        default="0.02",
        description="Share of failed or cut-off answers of any model above which the evaluation fails instead of"
        " judging, 0 to 1. Default: 0.02.",
    )
    on_under_powered: Literal["Warn", "Fail"] = Field(
        default="Warn",
        description="When the held-out rows are too few for a gate, known before any model answers: only say so in the"
        " condition UnderPowered, or fail at once. Default: Warn.",
    )
    on_inconclusive: Literal["Hold", "Fail"] = Field(
        default="Hold",
        description="When no gate failed but one is undecided: the verdict is Inconclusive, or Failed. Neither is"
        " promoted. Default: Hold.",
    )
    valid_for_seconds: int | None = Field(
        default=None,
        ge=1,
        le=31_536_000,
        description="How long after its end a verdict still lets a model be served for the first time, in seconds."
        " What is served already stays. Default: for good.",
    )
    approval: Literal["Never", "Required", "WhenInconclusive"] = Field(
        default="Never",
        description="Whether a person must approve before a ModelDeployment serves: Required, every verdict Passed;"
        " WhenInconclusive, only an Inconclusive one, which is served then. Nothing lifts Failed. A person approves by"
        " the annotations anneal.dev/approved-digest (status.subjectDigest), anneal.dev/approved-by and"
        " anneal.dev/approval-reason. Default: Never.",
    )


class Approval(ApiModel):
    """What a person said of a verdict: recorded once, it stays when the annotations go."""

    digest: Digest = Field(description="Digest of the artifact that was approved.")
    by: str = Field(min_length=1, max_length=128, description="Who approved, as the annotation says.")
    reason: str | None = Field(default=None, max_length=512, description="Why, as the annotation says.")
    time: Timestamp = Field(description="When the approval was recorded, RFC 3339.")


def asks_for_approval(approval: str | None, verdict: str | None) -> bool:
    """Whether a policy's `approval` leaves that verdict to a person."""
    return (approval, verdict) in (("Required", "Passed"), ("WhenInconclusive", "Inconclusive"))
