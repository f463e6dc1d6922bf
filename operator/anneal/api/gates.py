"""What must hold for a verdict, how sure to be, and how each demand came out."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from anneal.api.model import ApiModel, Decimal, EntryName, Rule, Sentence

#: Tests of a metric's scores, and of what answers take.
METRIC_TESTS = ("absolute", "superiority", "nonInferiority")
COMPARISONS = ("superiority", "nonInferiority")
TESTS = (*METRIC_TESTS, "latency", "cost", "anyOf")
#: Claims of one gate of which any may hold. Each takes a share of the chance to err, so many see little.
MOST_CLAIMS = 8
Outcome = Literal["Passed", "Failed", "Inconclusive"]


class Absolute(ApiModel):
    """The metric itself must be high or low enough: decided on its confidence bounds, never on the point."""

    ONE_OF = ("minLowerBound", "maxUpperBound")

    min_lower_bound: Decimal | None = Field(
        default=None,
        description="The lower confidence bound must be at least this, 0 to 1: more is better. Default: none.",
    )
    max_upper_bound: Decimal | None = Field(
        default=None,
        description="The upper confidence bound must be at most this, 0 to 1: less is better. Default: none.",
    )


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


def _relative(limit: str) -> tuple[Rule, ...]:
    """`to` and `maxRatio` belong together, and stand in place of the absolute limit."""
    return (
        Rule(
            cel="has(self.to) == has(self.maxRatio)",
            holds=lambda test: (test.to is None) == (test.max_ratio is None),
            message=f"to and maxRatio need each other; set them, or {limit} alone",
        ),
    )


class Latency(ApiModel):
    """Answers must be quick: a percentile of their seconds, under the load of generation.concurrency."""

    ONE_OF = ("maxMilliseconds", "maxRatio")
    RULES = _relative("maxMilliseconds")

    percentile: int = Field(
        default=95,
        ge=50,
        le=99,
        description="Which percentile of the time from question to answer. The 95th needs 72 rows, the 99th 368."
        " Default: 95.",
    )
    max_milliseconds: int | None = Field(
        default=None,
        ge=1,
        le=3_600_000,
        description="The upper confidence bound of that percentile must be at most this, in milliseconds."
        " Default: none.",
    )
    to: EntryName | None = Field(default=None, description="Name of the baseline to compare with. Default: none.")
    max_ratio: Decimal | None = Field(
        default=None,
        description='Its upper bound must be at most this many times that of the baseline, such as "1.2".'
        " Default: none.",
    )


class Cost(ApiModel):
    """A query must be cheap: the hour of spec.servingCostPerHour over the queries that the server answers in it."""

    ONE_OF = ("maxPerQuery", "maxRatio")
    RULES = _relative("maxPerQuery")

    max_per_query: Decimal | None = Field(
        default=None,
        description="The upper bound of the price of a query must be at most this, in the currency of the prices."
        " Default: none.",
    )
    to: EntryName | None = Field(default=None, description="Name of a hosted baseline with a price. Default: none.")
    max_ratio: Decimal | None = Field(
        default=None,
        description='The upper bound must be at most this many times the price of a query there, such as "0.5".'
        " Default: none.",
    )
    queries_per_hour: int | None = Field(
        default=None,
        ge=1,
        le=1_000_000_000,
        description="Traffic to expect; what the server could answer beyond it is paid for, too. Default: as many as"
        " the server answers when it always has generation.concurrency questions.",
    )


class Claim(ApiModel):
    """A comparison with a baseline, one of several of which any may hold. Exactly one test is set."""

    ONE_OF = COMPARISONS

    metric: EntryName = Field(description="Name of a metric of this object.")
    superiority: Superiority | None = Field(default=None, description=Superiority.__doc__)
    non_inferiority: NonInferiority | None = Field(default=None, description=NonInferiority.__doc__)


class Gate(ApiModel):
    """One demand on a metric, on latency or on cost, or several claims of which any may hold. Exactly one test is set;
    all gates must pass.
    """

    ONE_OF = TESTS
    RULES = (
        Rule(
            cel=f"has(self.metric) == ({' || '.join(f'has(self.{test})' for test in METRIC_TESTS)})",
            holds=lambda gate: (gate.metric is None) == bool(gate.latency or gate.cost or gate.any_of),
            message=f"metric is what {', '.join(METRIC_TESTS)} are about; latency, cost and anyOf have none",
        ),
    )

    metric: EntryName | None = Field(
        default=None,
        description="Name of a metric of this object; required but for anyOf, latency and cost. Default: none.",
    )
    absolute: Absolute | None = Field(default=None, description=Absolute.__doc__)
    superiority: Superiority | None = Field(default=None, description=Superiority.__doc__)
    non_inferiority: NonInferiority | None = Field(default=None, description=NonInferiority.__doc__)
    any_of: list[Claim] | None = Field(
        default=None,
        min_length=2,
        max_length=MOST_CLAIMS,
        json_schema_extra={"x-kubernetes-list-type": "atomic"},
        description="Comparisons of which at least one must hold. The bounds are corrected by Holm's method, so that a"
        " candidate of which none is true passes no more often than by a single one. Default: none.",
    )
    latency: Latency | None = Field(default=None, description=Latency.__doc__)
    cost: Cost | None = Field(default=None, description=Cost.__doc__)


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


#: A gate or a claim in words.
GateName = Annotated[str, Field(max_length=160)]


class GateResult(ApiModel):
    """One gate's outcome."""

    gate: GateName = Field(description="The gate in words, such as 'accuracy superiority over base'.")
    outcome: Outcome = Field(description="Passed, Failed or Inconclusive.")
    observed: str = Field(max_length=16, description="Point estimate.")
    lower: str = Field(max_length=16, description="Lower confidence bound.")
    upper: str = Field(max_length=16, description="Upper confidence bound.")
    required: str = Field(max_length=40, description="What the gate demands.")
    rows_needed: int | None = Field(
        default=None, ge=0, description="Held-out rows that would decide an undecided gate, with power 0.8."
    )
    passed: list[GateName] | None = Field(
        default=None,
        max_length=MOST_CLAIMS,
        json_schema_extra={"x-kubernetes-list-type": "atomic"},
        description="Claims of anyOf that hold, the surest first; the numbers are the first one's.",
    )
    message: Sentence = Field(description="The outcome in one sentence.")
