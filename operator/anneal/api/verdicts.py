"""The decision of a gate, and its sentence: shared by the evaluator's report and the operator's status.

A gate decides on confidence bounds, never on a point estimate, so it has three outcomes:
superiority passes when the lower bound of the paired difference is above the wanted effect, fails when the upper bound
is not; non-inferiority passes when the lower bound is above minus the margin; an absolute gate passes when the lower
bound reaches the demand and fails when the upper bound does not. Where less is better (a ceiling of a metric, latency,
cost) the bounds change places. In between the data cannot tell: Inconclusive.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from anneal.api.gates import Gate, Outcome

#: What the numbers of a gate are: a mean score, a difference of two, milliseconds, a ratio of two, or money.
Measure = Literal["Score", "Difference", "Milliseconds", "Ratio", "Cost"]
_WORDS: dict[Measure, str] = {
    "Score": "score",
    "Difference": "difference",
    "Milliseconds": "milliseconds",
    "Ratio": "ratio",
    "Cost": "price of a query",
}


def gate_name(gate: Gate) -> str:
    """The gate in words, such as 'accuracy superiority over base' or 'latency p95 against base'."""
    if gate.superiority is not None:
        return f"{gate.metric} superiority over {gate.superiority.over}"
    if gate.non_inferiority is not None:
        return f"{gate.metric} non-inferiority to {gate.non_inferiority.to}"
    against = f" against {baseline_of(gate)}" if baseline_of(gate) else ""
    if gate.latency is not None:
        return f"latency p{gate.latency.percentile}{against}"
    return f"{gate.metric} absolute" if gate.cost is None else f"cost per query{against}"


def baseline_of(gate: Gate) -> str | None:
    """Name of the baseline that the gate compares with; None for an absolute gate."""
    if gate.superiority is not None:
        return gate.superiority.over
    comparing = gate.non_inferiority or gate.latency or gate.cost
    return comparing.to if comparing is not None else None


def measure_of(gate: Gate) -> Measure:
    """What the gate's numbers are."""
    if gate.absolute is not None:
        return "Score"
    if (gate.latency or gate.cost) is None:
        return "Difference"
    if baseline_of(gate) is not None:
        return "Ratio"
    return "Cost" if gate.latency is None else "Milliseconds"


def is_ceiling(gate: Gate) -> bool:
    """Whether less is better."""
    if gate.absolute is not None:
        return gate.absolute.max_upper_bound is not None
    return gate.latency is not None or gate.cost is not None


def required(gate: Gate) -> str:
    """What the gate demands, such as '> 0.20', '> -0.05', '>= 0.85' or '<= 800'."""
    sign = "<=" if is_ceiling(gate) else ">" if gate.absolute is None else ">="
    return f"{sign} {_demand(gate)}"


def bound(gate: Gate) -> float:
    """The value that the interval must lie beyond."""
    return float(_demand(gate))


def _demand(gate: Gate) -> str:
    """The demanded value as the spec writes it."""
    if gate.superiority is not None:
        return str(gate.superiority.min_effect)
    if gate.non_inferiority is not None:
        return f"-{gate.non_inferiority.margin}"
    limits = [
        *((gate.absolute.min_lower_bound, gate.absolute.max_upper_bound) if gate.absolute else ()),
        *((gate.latency.max_milliseconds, gate.latency.max_ratio) if gate.latency else ()),
        *((gate.cost.max_per_query, gate.cost.max_ratio) if gate.cost else ()),
    ]
    return str(next(limit for limit in limits if limit is not None))


def decide(gate: Gate, lower: float, upper: float) -> Outcome:
    """Outcome of a gate whose estimate has these confidence bounds (see `measure_of`)."""
    demanded = bound(gate)
    if is_ceiling(gate):
        return "Passed" if upper <= demanded else "Failed" if lower > demanded else "Inconclusive"
    if gate.absolute is not None:
        return "Passed" if lower >= demanded else "Failed" if upper < demanded else "Inconclusive"
    return "Passed" if lower > demanded else "Failed" if upper <= demanded else "Inconclusive"


def verdict(outcomes: Iterable[Outcome], on_inconclusive: Literal["Hold", "Fail"] = "Hold") -> Outcome:
    """All gates must pass; one failure fails. An intersection-union test, so no correction for their number."""
    seen = set(outcomes)
    if not seen:
        raise ValueError("no gate, no verdict")
    if "Failed" in seen or ("Inconclusive" in seen and on_inconclusive == "Fail"):
        return "Failed"
    return "Inconclusive" if "Inconclusive" in seen else "Passed"


def sentence(
    gate: Gate, outcome: Outcome, observed: str, lower: str, upper: str, confidence: str, rows_needed: int | None
) -> str:
    """The outcome for people: what was seen, what was demanded, and what to do when it is undecided."""
    what = _WORDS[measure_of(gate)]
    interval = f"{observed} ({float(confidence):.0%} interval {lower} to {upper})"
    verb = {"Passed": "passed", "Failed": "failed", "Inconclusive": "is undecided"}[outcome]
    text = f"{gate_name(gate)} {verb}: {what} {interval}, demanded {required(gate)}."
    if outcome == "Inconclusive":
        more = f"about {rows_needed} held-out rows" if rows_needed else "more held-out rows"
        text += f" The rows cannot tell; {more} would."
    return text
