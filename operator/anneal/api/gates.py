"""What must hold for a verdict, how sure to be, and how each demand came out."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from anneal.api.model import ApiModel, Decimal, EntryName, Sentence

TESTS = ("absolute", "superiority", "nonInferiority")
Outcome = Literal["Passed", "Failed", "Inconclusive"]


class Absolute(ApiModel):
    """The metric itself must be high enough: decided on its confidence bounds, never on the point."""

    min_lower_bound: Decimal = Field(description="The lower confidence bound must be at least this, 0 to 1.")


class Superiority(ApiModel):
    """The candidate must beat a baseline on the same rows."""

    over: EntryName = Field(description="Name of the baseline.")
    min_effect: Decimal = Field(
        default="0",
        description="The lower bound of the paired difference must be above this, 0 to 1. Default: 0.",
    )


class NonInferiority(ApiModel):
    """The candidate must not be worse than a baseline by more than a margin."""

    to: EntryName = Field(description="Name of the baseline.")
    margin: Decimal = Field(description="Largest loss that is acceptable, 0 to 1.")


class Gate(ApiModel):
    """One demand on one metric. Exactly one test is set; all gates must pass."""

    ONE_OF = TESTS

    metric: EntryName = Field(description="Name of a metric of this object.")
    absolute: Absolute | None = Field(default=None, description=Absolute.__doc__)
    superiority: Superiority | None = Field(default=None, description=Superiority.__doc__)
    non_inferiority: NonInferiority | None = Field(default=None, description=NonInferiority.__doc__)


class Statistics(ApiModel):
    """How sure to be."""

    confidence: Literal["0.90", "0.95", "0.99"] = Field(
        default="0.95", description="Confidence of every interval, two-sided. Default: 0.95."
    )
    resamples: int = Field(default=10_000, ge=1000, le=100_000, description="Bootstrap resamples. Default: 10000.")
    seed: int = Field(default=0, ge=0, le=2_147_483_647, description="Seed of the resampling. Default: 0.")


class Comparison(ApiModel):
    """Candidate against one baseline on one metric, paired by row."""

    metric: str = Field(max_length=40, description="Name of the metric.")
    baseline: str = Field(max_length=40, description="Name of the baseline.")
    n: int = Field(ge=0, description="Rows that both answered.")
    delta: str = Field(max_length=16, description="Mean paired difference, candidate minus baseline.")
    lower: str = Field(max_length=16, description="Lower confidence bound of the difference.")
    upper: str = Field(max_length=16, description="Upper confidence bound of the difference.")
    p: str | None = Field(
        default=None, max_length=16, description="McNemar mid-p; only for 0/1 metrics and rows without groups."
    )
    mde: str = Field(max_length=16, description="Smallest true difference that this many rows detect with power 0.8.")


class GateResult(ApiModel):
    """One gate's outcome."""

    gate: str = Field(max_length=160, description="The gate in words, such as 'accuracy superiority over base'.")
    outcome: Outcome = Field(description="Passed, Failed or Inconclusive.")
    observed: str = Field(max_length=16, description="Point estimate.")
    lower: str = Field(max_length=16, description="Lower confidence bound.")
    upper: str = Field(max_length=16, description="Upper confidence bound.")
    required: str = Field(max_length=40, description="What the gate demands.")
    rows_needed: int | None = Field(
        default=None, ge=0, description="Held-out rows that would decide an undecided gate, with power 0.8."
    )
    message: Sentence = Field(description="The outcome in one sentence.")
