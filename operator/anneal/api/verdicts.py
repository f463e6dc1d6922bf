"""The decision of a gate, and its sentence: shared by the evaluator's report and the operator's status.

A gate decides on confidence bounds, never on a point estimate, so it has three outcomes:
superiority passes when the lower bound of the paired difference is above the wanted effect, fails when the upper bound
is not; non-inferiority passes when the lower bound is above minus the margin; an absolute gate passes when the lower
bound reaches the demand and fails when the upper bound does not. In between the data cannot tell: Inconclusive.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from anneal.api.gates import Gate, Outcome


def gate_name(gate: Gate) -> str:
    """The gate in words, such as 'accuracy superiority over base'."""
    if gate.superiority is not None:
        return f"{gate.metric} superiority over {gate.superiority.over}"
    if gate.non_inferiority is not None:
        return f"{gate.metric} non-inferiority to {gate.non_inferiority.to}"
    return f"{gate.metric} absolute"


def baseline_of(gate: Gate) -> str | None:
    """Name of the baseline that the gate compares with; None for an absolute gate."""
    if gate.superiority is not None:
        return gate.superiority.over
    return gate.non_inferiority.to if gate.non_inferiority is not None else None


def required(gate: Gate) -> str:
    """What the gate demands, such as '> 0.20', '> -0.05' or '>= 0.85'."""
    if gate.superiority is not None:
        return f"> {gate.superiority.min_effect}"
    if gate.non_inferiority is not None:
        return f"> -{gate.non_inferiority.margin}"
    if gate.absolute is not None:
        return f">= {gate.absolute.min_lower_bound}"
    raise ValueError(f"the gate on metric {gate.metric} has no test")


def bound(gate: Gate) -> float:
    """The value that the interval must lie beyond."""
    if gate.superiority is not None:
        return float(gate.superiority.min_effect)
    if gate.non_inferiority is not None:
        return -float(gate.non_inferiority.margin)
    if gate.absolute is not None:
        return float(gate.absolute.min_lower_bound)
    raise ValueError(f"the gate on metric {gate.metric} has no test")


def decide(gate: Gate, lower: float, upper: float) -> Outcome:
    """Outcome of a gate whose estimate has these confidence bounds (of the metric, or of the paired difference)."""
    demanded = bound(gate)
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
    what = "difference" if baseline_of(gate) else "score"
    interval = f"{observed} ({float(confidence):.0%} interval {lower} to {upper})"
    verb = {"Passed": "passed", "Failed": "failed", "Inconclusive": "is undecided"}[outcome]
    text = f"{gate_name(gate)} {verb}: {what} {interval}, demanded {required(gate)}."
    if outcome == "Inconclusive":
        more = f"about {rows_needed} held-out rows" if rows_needed else "more held-out rows"
        text += f" The rows cannot tell; {more} would."
    return text
