"""The decision of a gate, and its sentence: shared by the evaluator's report and the operator's status.

A gate decides on confidence bounds, never on a point estimate, so it has three outcomes:
superiority passes when the lower bound of the paired difference is above the wanted effect, fails when the upper bound
is not; non-inferiority passes when the lower bound is above minus the margin; an absolute gate passes when the lower
bound reaches the demand and fails when the upper bound does not. Where less is better (a ceiling of a metric, latency,
cost) the bounds change places. In between the data cannot tell: Inconclusive.

A gate of several claims, of which any may hold, passes when one does after Holm's correction (1979) for their number,
fails when every one fails by itself, and is undecided in between.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal

from anneal.api import power
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


def claims_of(gate: Gate) -> list[Gate]:
    """The claims of which any may hold, each as a gate of its own; for any other gate, that gate."""
    if gate.any_of is None:
        return [gate]
    return [Gate(metric=c.metric, superiority=c.superiority, non_inferiority=c.non_inferiority) for c in gate.any_of]


def gate_name(gate: Gate) -> str:
    """The gate in words, such as 'accuracy superiority over base' or 'latency p95 against base'."""
    if gate.any_of is not None:
        return f"any of {len(gate.any_of)} claims"
    if gate.superiority is not None:
        return f"{gate.metric} superiority over {gate.superiority.over}"
    if gate.non_inferiority is not None:
        return f"{gate.metric} non-inferiority to {gate.non_inferiority.to}"
    against = f" against {baseline_of(gate)}" if baseline_of(gate) else ""
    if gate.latency is not None:
        return f"latency p{gate.latency.percentile}{against}"
    return f"{gate.metric} absolute" if gate.cost is None else f"cost per query{against}"


def baseline_of(gate: Gate) -> str | None:
    """Name of the baseline that the gate compares with; None for an absolute gate, and for one of several claims."""
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


def decide_any(holds: Iterable[bool], fails: Iterable[bool]) -> Outcome:
    """Outcome of a gate of several claims: `holds` says of each whether it does after correction, `fails` whether it
    fails by itself. That all are false needs no correction: each of them would have to fail falsely.
    """
    return "Passed" if any(holds) else "Failed" if all(fails) else "Inconclusive"


def told_confidence(gate: Gate, outcome: Outcome, confidence: str) -> float:
    """Confidence of the interval that is told of a gate: that of the surest of several claims is corrected for their
    number, unless all failed.
    """
    return float(confidence) if outcome == "Failed" else power.shared(float(confidence), len(claims_of(gate)))


def verdict(outcomes: Iterable[Outcome], on_inconclusive: Literal["Hold", "Fail"] = "Hold") -> Outcome:
    """All gates must pass; one failure fails. An intersection-union test, so no correction for their number."""
    seen = set(outcomes)
    if not seen:
        raise ValueError("no gate, no verdict")
    if "Failed" in seen or ("Inconclusive" in seen and on_inconclusive == "Fail"):
        return "Failed"
    return "Inconclusive" if "Inconclusive" in seen else "Passed"


def sentence(
    gate: Gate,
    outcome: Outcome,
    observed: str,
    lower: str,
    upper: str,
    confidence: str,
    rows_needed: int | None,
    claims: Sequence[int] = (),
) -> str:
    """The outcome for people: what was seen, what was demanded, and what to do when it is undecided.

    Of a gate of several claims, `claims` are the indices of those that hold, the surest first, or of the surest one
    where none does; the numbers are that one's.
    """
    verb = {"Passed": "passed", "Failed": "failed", "Inconclusive": "is undecided"}[outcome]
    each = claims_of(gate)
    surest = each[claims[0] if claims else 0]
    percent = f"{100 * told_confidence(gate, outcome, confidence):.4g}%"
    what = f"{_WORDS[measure_of(surest)]} {observed} ({percent} interval {lower} to {upper})"
    found = f"{what}, demanded {required(surest)}"
    if gate.any_of is None:
        text = f"{gate_name(gate)} {verb}: {found}."
    elif outcome == "Passed":
        others = "".join(f", and {gate_name(each[claim])}" for claim in claims[1:])
        text = f"{gate_name(gate)} {verb}: {gate_name(surest)} ({found}){others}; corrected for their number by Holm."
    else:
        text = f"{gate_name(gate)} {verb}: none holds, the closest is {gate_name(surest)}, {found}."
    if outcome == "Inconclusive":
        more = f"about {rows_needed} held-out rows" if rows_needed else "more held-out rows"
        text += f" The rows cannot tell; {more} would."
    return text
