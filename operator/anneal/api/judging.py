"""Whether a judge can be believed: what it must show, and what it showed.

Every judge errs; what is told here is how often it contradicts itself, whether it goes by length, and how often people
say the same.
"""

from __future__ import annotations

from decimal import Decimal as Number

from pydantic import Field

from anneal.api.model import ApiModel, Decimal, Rule
from anneal.api.references import PvcUri, uri_stays_in_its_claim


class HumanLabels(ApiModel):
    """Answers that people judged, to hold the judge against."""

    RULES = (uri_stays_in_its_claim("humanLabels.uri"),)

    uri: PvcUri = Field(
        description="JSON Lines file, pvc://claim/path. A line has metric, messages, reference, answer (for a"
        " preference answers, two of them), and what a person says in the judge's own words: verdict, grade or better."
    )


class JudgeQuality(ApiModel):
    """What the judge must show; below it the evaluation fails instead of judging."""

    RULES = (
        Rule(
            "!has(self.minSwapConsistency) || double(self.minSwapConsistency) <= 1.0",
            lambda quality: quality.min_swap_consistency is None or Number(quality.min_swap_consistency) <= 1,
            'minSwapConsistency must be from 0 to 1, such as "0.6"',
        ),
        Rule(
            "!has(self.minAgreement) || double(self.minAgreement) <= 1.0",
            lambda quality: quality.min_agreement is None or Number(quality.min_agreement) <= 1,
            'minAgreement must be from 0 to 1, such as "0.8"',
        ),
        Rule(
            "!has(self.minAgreement) || has(self.humanLabels)",
            lambda quality: quality.min_agreement is None or quality.human_labels is not None,
            "minAgreement needs humanLabels: without them nobody knows what people say",
        ),
    )

    min_swap_consistency: Decimal | None = Field(
        default=None,
        description="Least share of pairs, 0 to 1, that are judged the same in both orders, for each preference metric."
        " Default: none.",
    )
    human_labels: HumanLabels | None = Field(
        default=None, description="What people say of some answers; 30 to 50 for each judged metric. Default: nothing."
    )
    min_agreement: Decimal | None = Field(
        default=None,
        description="Least share of labelled answers, 0 to 1, that the judge says the same of as people, for each"
        " judged metric. Default: none.",
    )


class Corrected(ApiModel):
    """What the candidate's score would be by the judgement of people, as far as the labels tell."""

    value: str = Field(max_length=16, description="Corrected score, 0 to 1.")
    lower: str = Field(max_length=16, description="Lower confidence bound.")
    upper: str = Field(max_length=16, description="Upper confidence bound.")


#: One metric's numbers as they fit a termination message; '' and 0 for what cannot be told: (metric, answers or pairs,
#: of them without a verdict, swap consistency, ties, length bias, labels, agreement, kappa, corrected value, lower,
#: upper).
JudgedRow = tuple[int, int, int, str, str, str, int, str, str, str, str, str]


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

    labels: int | None = Field(default=None, ge=0, description="Human labels that the judge gave a verdict on.")
    agreement: str | None = Field(default=None, max_length=16, description="Share of them where both say the same.")
    kappa: str | None = Field(
        default=None,
        max_length=16,
        description="Cohen's kappa of the two, -1 to 1: agreement beyond chance, by squared distance on the scale.",
    )
    corrected: Corrected | None = Field(
        default=None,
        description="The candidate's score, corrected by the labels; gates decide on what the judge said.",
    )

    @classmethod
    def of(cls, metric: str, row: JudgedRow) -> JudgedMetric:
        """From numbers as a pod tells them."""
        _, n, errors, *told, labels, agreement, kappa, value, lower, upper = row
        consistency, ties, bias = (text or None for text in told)
        return cls(
            metric=metric,
            n=n,
            errors=errors,
            swap_consistency=consistency,
            ties=ties,
            length_bias=bias,
            labels=labels or None,
            agreement=agreement or None,
            kappa=kappa or None,
            corrected=Corrected(value=value, lower=lower, upper=upper) if value else None,
        )


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
