"""Gates decide on bounds, and say so."""

from __future__ import annotations

from typing import Any

import pytest

from anneal.api.gates import Gate, GateResult, Outcome
from anneal.api.verdicts import bound, decide, decide_any, gate_name, required, sentence, verdict


def gate(**test: Any) -> Gate:
    return Gate.model_validate({"metric": "accuracy", **test})


ABSOLUTE = gate(absolute={"minLowerBound": "0.85"})
SUPERIOR = gate(superiority={"over": "base", "minEffect": "0.20"})
RARE = gate(absolute={"maxUpperBound": "0.01"})
NOT_WORSE = gate(nonInferiority={"to": "base", "margin": "0.05"})


@pytest.mark.parametrize(
    ("which", "lower", "upper", "outcome"),
    [
        (ABSOLUTE, 0.85, 0.99, "Passed"),
        (ABSOLUTE, 0.84, 0.99, "Inconclusive"),
        (ABSOLUTE, 0.50, 0.84, "Failed"),
        (SUPERIOR, 0.21, 0.60, "Passed"),
        (SUPERIOR, 0.20, 0.60, "Inconclusive"),
        (SUPERIOR, -0.1, 0.20, "Failed"),
        (NOT_WORSE, -0.04, 0.1, "Passed"),
        (NOT_WORSE, -0.05, 0.1, "Inconclusive"),
        (NOT_WORSE, -0.3, -0.05, "Failed"),
        (RARE, 0.0, 0.01, "Passed"),
        (RARE, 0.0, 0.02, "Inconclusive"),
        (RARE, 0.02, 0.1, "Failed"),
    ],
)
def test_a_gate_decides_on_its_bounds(which: Gate, lower: float, upper: float, outcome: Outcome) -> None:
    assert decide(which, lower, upper) == outcome


def test_one_failure_fails_and_doubt_is_not_success() -> None:
    assert verdict(["Passed", "Passed"]) == "Passed"
    assert verdict(["Passed", "Inconclusive"]) == "Inconclusive"
    assert verdict(["Inconclusive", "Failed", "Passed"]) == "Failed"
    assert verdict(["Passed", "Inconclusive"], "Fail") == "Failed"
    assert verdict(["Passed"], "Fail") == "Passed"
    with pytest.raises(ValueError, match="no gate"):
        verdict([])


def test_the_sentence_tells_what_was_seen_demanded_and_needed() -> None:
    text = sentence(SUPERIOR, "Inconclusive", "0.30", "0.10", "0.50", "0.95", 240)
    assert text == (
        "accuracy superiority over base is undecided: difference 0.30 (95% interval 0.10 to 0.50), demanded > 0.20."
        " The rows cannot tell; about 240 held-out rows would."
    )


def test_any_claim_will_do_and_all_must_fail() -> None:
    assert decide_any([False, True], [True, False]) == "Passed"
    assert decide_any([False, False], [True, True]) == "Failed"
    assert decide_any([False, False], [True, False]) == "Inconclusive"


def test_the_longest_sentence_about_claims_fits() -> None:
    names = [f"{'n' * 38}-{i}" for i in range(8)]
    claims = [{"metric": name, "nonInferiority": {"to": name, "margin": "0." + "1" * 12}} for name in names]
    gate = Gate.model_validate({"anyOf": claims})
    for outcome, held in (("Passed", list(range(8))), ("Inconclusive", [7]), ("Failed", [7])):
        text = sentence(gate, outcome, *["-0.1234"] * 3, "0.95", 1_000_000, held)  # type: ignore[arg-type]
        GateResult(gate=gate_name(gate), outcome=outcome, observed="", lower="", upper="", required="", message=text)
        assert ("99.38%" in text) == (outcome != "Failed")


@pytest.mark.parametrize(
    ("test", "name", "demand"),
    [
        ({"latency": {"percentile": 99, "maxMilliseconds": 800}}, "latency p99", "<= 800"),
        ({"latency": {"to": "base", "maxRatio": "1.2"}}, "latency p95 against base", "<= 1.2"),
        ({"cost": {"maxPerQuery": "0.002"}}, "cost per query", "<= 0.002"),
        ({"cost": {"to": "premium", "maxRatio": "0.5"}}, "cost per query against premium", "<= 0.5"),
        ({"metric": "unsafe", "absolute": {"maxUpperBound": "0.01"}}, "unsafe absolute", "<= 0.01"),
    ],
)
def test_what_answers_take_is_demanded_from_above(test: dict[str, Any], name: str, demand: str) -> None:
    demanded = Gate.model_validate(test)
    assert (gate_name(demanded), required(demanded)) == (name, demand)
    assert decide(demanded, 0.0, bound(demanded)) == "Passed"
    assert decide(demanded, bound(demanded) * 1.1, 1e9) == "Failed"
