"""Several claims of which any may hold: as sure of the whole as of one claim, and it is said which of them holds."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.multitest import multipletests
from tests.support.simulated_verdicts import any_of, monte_carlo_error
from tests.unit.evaluator.builders import BASE_DIGEST, CANDIDATE_DIGEST, answered, evaluate_run
from tests.unit.kinds.evaluation.objects import RECORDED

from anneal.api.artifacts import digest_of_json
from anneal.api.evaluation import EvaluationSpec
from anneal.api.gates import Gate
from anneal.api.runs import EvaluateData, EvaluateRun
from anneal.kinds.evaluation.children import Subject
from anneal.kinds.evaluation.judgement import judge as told
from anneal_evaluator.decide import GateDecision, Judgement, judge
from anneal_evaluator.metrics import scorer_of
from anneal_evaluator.page.gates import gates as shown
from anneal_evaluator.report import data, document, gate_sentence
from anneal_evaluator.statistics.multiplicity import holm

ROWS = 150
METRICS = ("accuracy", "tone", "form", "brevity")


def claim(metric: str, **test: Any) -> dict[str, Any]:
    return {"metric": metric, **(test or {"superiority": {"over": "untuned"}})}


def claims_run(*claims: dict[str, Any], kind: str = "exactMatch", **changes: Any) -> EvaluateRun:
    metrics = [{"name": name, kind: {}} for name in METRICS[: len(claims)]]
    return evaluate_run(metrics=metrics, gates=[{"anyOf": list(claims)}], **changes)


def pair(better: int, worse: int, rows: int = ROWS) -> tuple[list[float], list[float]]:
    """0/1 scores of candidate and baseline: so many rows where only one of the two is right, the rest both."""
    same = [1.0] * (rows - better - worse)
    return [1.0] * better + [0.0] * worse + same, [0.0] * better + [1.0] * worse + same


def judged(run: EvaluateRun, *pairs: tuple[list[float], list[float]]) -> Judgement:
    scores = np.array(pairs, dtype=np.float64)
    return judge(run, [scorer_of(metric) for metric in run.metrics], scores, np.arange(scores.shape[2]))


def decided(*pairs: tuple[list[float], list[float]]) -> GateDecision:
    return judged(claims_run(*(claim(name) for name in METRICS[: len(pairs)])), *pairs).gates[0]


def test_holm_is_that_of_statsmodels() -> None:
    rng = np.random.default_rng(1)
    for claims in (2, 3, 5, 8):
        p = rng.beta(0.2, 2, size=claims)
        wanted = multipletests(p, alpha=0.025, method="holm")[0]
        found = holm(p.size, lambda i, among, p=p: p[i] <= 0.025 / among)  # type: ignore[misc]
        assert sorted(found) == list(np.flatnonzero(wanted))


def closed(p: Sequence[float]) -> list[bool]:
    """What Holm's method is made from: a claim holds if Bonferroni rejects every set of nulls with its own."""
    sets = [s for size in range(1, len(p) + 1) for s in itertools.combinations(range(len(p)), size)]
    return [all(min(p[i] for i in s) <= 0.025 / len(s) for s in sets if claim in s) for claim in range(len(p))]


def test_claims_that_hold_are_those_of_the_p_values() -> None:
    """Tango's interval lies above 0 where the score statistic of McNemar's test, (b − c)/√(b + c), says so."""
    rng = np.random.default_rng(2)
    held = set()
    for _ in range(60):
        drawn = rng.multinomial(ROWS, [0.15, 0.07, 0.78], size=3)
        decision = decided(*(pair(better, worse) for better, worse, _ in drawn))
        z = (drawn[:, 0] - drawn[:, 1]) / np.sqrt(drawn[:, 0] + drawn[:, 1])
        wanted = closed(stats.norm.sf(z))
        assert [c.outcome == "Passed" for c in decision.claims] == wanted
        assert (decision.outcome == "Passed") == any(wanted)
        held.add(sum(wanted))
    assert held >= {0, 1, 2, 3}, "all numbers of claims were seen to hold"


def test_uncorrected_claims_pass_falsely_and_corrected_ones_do_not() -> None:
    """Of four metrics, none of them better: 1 − 0.975⁴ is 9.6 %."""
    uncorrected, corrected = any_of(ROWS, 500)
    assert 0.07 - monte_carlo_error(0.07, 500) <= uncorrected <= 0.096 + monte_carlo_error(0.096, 500)
    assert uncorrected > 0.025 + monte_carlo_error(0.025, 500)
    assert corrected <= 0.025 + monte_carlo_error(0.025, 500)


def test_what_holds_leaves_the_others_more() -> None:
    """p 0.0117 is within the share of one of two claims, 0.0125, and of one of three only once another holds."""
    sure, near, nothing = pair(40, 5), pair(20, 8), pair(10, 10)
    both = decided(near, sure)
    assert (both.outcome, both.rests_on) == ("Passed", (1, 0))
    assert [round(c.confidence, 4) for c in both.claims] == [0.975, 0.975]
    three = decided(near, sure, nothing)
    assert (three.outcome, three.rests_on) == ("Passed", (1, 0)), "0.0117 of the 0.0125 that are left of three"
    assert [round(c.confidence, 4) for c in three.claims] == [0.975, 0.9833, 0.95]
    alone = decided(near, nothing, nothing)
    assert (alone.outcome, alone.rests_on) == ("Inconclusive", (0,))
    assert judged(evaluate_run(gates=[claim("accuracy")]), near).verdict == "Passed", "by itself it would do"


def test_all_must_fail_for_the_gate_to_fail() -> None:
    worse, even = pair(2, 30), pair(8, 8)
    assert decided(worse, worse).outcome == "Failed"
    assert decided(worse, even).outcome == "Inconclusive"
    failed = decided(worse, pair(2, 40))
    assert (failed.rests_on, failed.rows_needed, failed.claims[0].confidence) == ((0,), None, 0.95)


def test_rows_needed_and_mde_are_at_the_share_of_a_claim() -> None:
    promising, even = pair(14, 8), pair(8, 8)
    several, single = decided(promising, even, even, even), judged(evaluate_run(gates=[claim("accuracy")]), promising)
    assert several.outcome == single.gates[0].outcome == "Inconclusive"
    assert several.rows_needed is not None
    assert single.gates[0].rows_needed is not None
    # (z(0.99375) + z(0.8))² / (z(0.975) + z(0.8))² = 11.15 / 7.85
    assert several.rows_needed / single.gates[0].rows_needed == pytest.approx(11.15 / 7.85, abs=0.03)
    assert several.claims[0].mde > single.comparisons[0].mde
    hopeless = decided(even, pair(7, 8))
    assert (hopeless.outcome, hopeless.rests_on) == ("Inconclusive", (0,))
    assert hopeless.rows_needed is None, "a difference of nothing is never decided"


def test_graded_scores_are_corrected_too() -> None:
    rng = np.random.default_rng(3)
    scores = np.clip(rng.normal([[[0.64], [0.6]], [[0.6], [0.6]]], 0.2, (2, 2, 100)), 0, 1)
    run = claims_run(claim("accuracy"), claim("tone"), kind="f1")
    found = judge(run, [scorer_of(metric) for metric in run.metrics], scores, np.arange(100))
    (gate,) = found.gates
    plain, shared = found.comparisons[0].difference.bounds, gate.claims[0].estimate.bounds
    assert (gate.claims[0].estimate.method, gate.claims[0].confidence) == ("Bootstrap", 0.975)
    ratio = (shared.upper - shared.lower) / (plain.upper - plain.lower)
    assert ratio == pytest.approx(stats.norm.ppf(0.9875) / stats.norm.ppf(0.975), abs=0.05)


def test_a_result_that_does_not_fit_the_claims_is_an_error() -> None:
    run = claims_run(claim("accuracy"), claim("tone"))
    found = data(
        run, {"candidate": [], "base": []}, judged(run, pair(20, 8), pair(40, 5)), NOTHING_SPENT, digest_of_json(1)
    )
    assert found.claims == ["10"]
    for claims in ([], [""], ["2"], ["x"], ["1", "0"]):
        with pytest.raises(ValueError, match=r"the result speaks of|zip\(\)|invalid literal"):
            status_of(run, found.model_copy(update={"claims": claims}))
    plain = run.model_copy(update={"gates": [Gate.model_validate(claim("accuracy"))]})
    with pytest.raises(ValueError, match="speaks of the claims '10'"):
        status_of(plain, found)


def status_of(run: EvaluateRun, found: EvaluateData) -> dict[str, Any]:
    """What the operator makes of it."""
    spec = {
        "candidate": {"fineTuneJobRef": {"name": "a"}},
        "baselines": [b.to_json() for b in run.baselines],
        "metrics": [m.to_json() for m in run.metrics],
        "gates": [g.to_json() for g in run.gates],
    }
    subject = Subject.model_validate({**RECORDED, "subjectDigest": CANDIDATE_DIGEST, "baseDigest": BASE_DIGEST})
    return told(EvaluationSpec.model_validate(spec), subject, found).fields


NOTHING_SPENT = {"candidate": Decimal(0), "base": Decimal(0)}
NOT_WORSE = {"nonInferiority": {"to": "untuned", "margin": "0.05"}}


@pytest.mark.parametrize(
    ("pairs", "words"),
    [
        ([pair(20, 8), pair(40, 5)], ["passed: tone superiority", "97.5% interval", ", and accuracy non-inferiority"]),
        ([pair(2, 40), pair(2, 30)], ["failed: none holds, the closest is tone superiority", "95% interval"]),
        ([pair(8, 12), pair(14, 8)], ["is undecided: none holds", "tone superiority", "97.5% interval", "rows would"]),
    ],
    ids=["passed", "failed", "undecided"],
)
def test_page_report_and_status_say_which(pairs: list[tuple[list[float], list[float]]], words: list[str]) -> None:
    run = claims_run(claim("accuracy", **NOT_WORSE), claim("tone"))
    found = judged(run, *pairs)
    answers = {model: [answered(f"r{i}") for i in range(ROWS)] for model in run.models}
    report = document(run, answers, found, "vllm 1", NOTHING_SPENT, {})
    status = status_of(run, data(run, answers, found, NOTHING_SPENT, digest_of_json(1)))
    (gate,) = status["gates"]
    assert gate["message"] == report["gates"][0]["message"] == gate_sentence(run, found.gates[0])
    assert gate["gate"] == "any of 2 claims"
    for word in words:
        assert word in gate["message"]
    holding = [report["gates"][0]["claims"][i]["claim"] for i in found.gates[0].rests_on]
    assert gate.get("passed") == (holding if gate["outcome"] == "Passed" else None)
    html = shown(report)
    assert "accuracy non-inferiority to untuned" in html
    assert "tone superiority over untuned" in html
