"""Whether a judge can be believed: what it must show, and what it showed.

Every judge errs; what is told here is how often it contradicts itself, and whether it goes by length.
"""

from __future__ import annotations

from decimal import Decimal as Number

from pydantic import Field

from anneal.api.model import ApiModel, Decimal, Rule


class JudgeQuality(ApiModel):
    """What the judge must show; below it the evaluation fails instead of judging."""

    RULES = (
        Rule(
            "!has(self.minSwapConsistency) || double(self.minSwapConsistency) <= 1.0",
            lambda quality: quality.min_swap_consistency is None or Number(quality.min_swap_consistency) <= 1,
            'minSwapConsistency must be from 0 to 1, such as "0.6"',
        ),
    )

    min_swap_consistency: Decimal | None = Field(
        default=None,
        description="Least share of pairs, 0 to 1, that are judged the same in both orders, for each preference metric."
        " Default: none.",
    )


class JudgedMetric(ApiModel):
    """The judge's work on one metric."""

    metric: str = Field(max_length=40, description="Name of the metric.")
    n: int = Field(ge=0, description="Answers judged, or pairs of answers; equal answers make no pair.")
    errors: int = Field(ge=0, description="Of them without a verdict; they count for nobody.")
    swap_consistency: str | None = Field(
        default=None, max_length=16, description="Share of pairs that were judged the same in both orders."
    )
    ties: str | None = Field(default=None, max_length=16, description="Share of pairs that ended in a tie.")
    length_bias: str | None = Field(
        default=None,
        max_length=16,
        description="Rank correlation, -1 to 1, of how much longer the candidate's answer is than a baseline's with how"
        " much better it was found; far above 0 the judge may go by length.",
    )

    @classmethod
    def of(cls, metric: str, row: tuple[int, int, int, str, str, str]) -> JudgedMetric:
        """From numbers as a pod tells them: (index, n, errors, consistency, ties, bias), '' for what is not known."""
        _, n, errors, consistency, ties, bias = row
        told = {"swap_consistency": consistency, "ties": ties, "length_bias": bias}
        return cls(metric=metric, n=n, errors=errors, **{name: value or None for name, value in told.items()})


class JudgeResult(ApiModel):
    """The judge's work, counted."""

    model: str = Field(max_length=128, description="What the judge called itself.")
    n: int = Field(ge=0, description="Answers and pairs judged.")
    errors: int = Field(ge=0, description="Of them without a verdict; they count for nobody.")
    cost: str | None = Field(default=None, max_length=24, description="Spent on the judge; only with a price.")
    metrics: list[JudgedMetric] = Field(
        default_factory=list,
        max_length=4,
        json_schema_extra={"x-kubernetes-list-type": "atomic"},
        description="Its work on each metric.",
    )
