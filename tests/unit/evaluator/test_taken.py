"""Gates on what answers take: percentiles by order statistics, prices by the hour and by the token."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from scipy import stats
from tests.unit.evaluator.builders import answered, evaluate_run

from anneal_evaluator.decide import GateDecision, judge
from anneal_evaluator.metrics import scorer_of
from anneal_evaluator.report import gate_sentence
from anneal_evaluator.statistics.interval import Interval
from anneal_evaluator.statistics.quantiles import quantile_bounds, ratio_bounds
from anneal_evaluator.taken import Taken
from anneal_hosted.answers import StoredAnswer

HOSTED = {"openAI": {"model": "gpt-5"}, "price": {"inputPerMillion": "1", "outputPerMillion": "10"}}
PREMIUM = {"models": ["candidate", "premium"], "baselines": [{"name": "premium", "hosted": HOSTED}]}


def decided(gate: dict[str, Any], *seconds: Sequence[float], **changes: Any) -> GateDecision:
    """One gate on answers that took so long, candidate first; 100 tokens were read and 10 written for each."""
    run = evaluate_run(**({"gates": [gate], "baselines": [], "models": ["candidate"]} | changes))
    tokens = {"inputTokens": 100, "outputTokens": 10}
    answers: dict[str, list[StoredAnswer]] = {
        model: [answered(f"r{i}", seconds=s, **tokens) for i, s in enumerate(given)]
        for model, given in zip(run.models, seconds, strict=True)
    }
    groups = np.arange(len(seconds[0]))
    scores = np.ones((1, len(run.models), len(groups)))
    found = judge(run, [scorer_of(m) for m in run.metrics], scores, groups, Taken.of(run, answers, groups))
    return found.gates[0]


def spread(n: int, middle: float = 0.5) -> list[float]:
    return list(np.random.default_rng(1).gamma(20, middle / 20, n))


@pytest.mark.parametrize(("n", "share"), [(20, 0.5), (150, 0.95), (400, 0.99)])
def test_a_percentile_has_the_bounds_that_the_binomial_gives(n: int, share: float) -> None:
    bounds = quantile_bounds(np.arange(1.0, n + 1), share, 0.95)
    assert stats.binom.cdf(bounds.lower - 1, n, share) <= 0.025 < stats.binom.cdf(bounds.lower, n, share)
    assert stats.binom.cdf(bounds.upper - 2, n, share) < 0.975 <= stats.binom.cdf(bounds.upper - 1, n, share)


def test_few_answers_bound_no_percentile_from_above() -> None:
    assert quantile_bounds(np.ones(71), 0.95, 0.95) == Interval(1.0, math.inf)
    assert quantile_bounds(np.ones(72), 0.95, 0.95).upper == 1.0
    assert quantile_bounds(np.ones(0), 0.95, 0.95) == Interval(0.0, math.inf)


def test_bounds_of_percentiles_and_their_ratio_hold_the_truth_as_often_as_they_say() -> None:
    rng = np.random.default_rng(3)
    truth, held, held_ratio = stats.gamma(4).ppf(0.9), 0, 0
    for _ in range(600):
        one, other = rng.gamma(4, size=(2, 150))
        a, b = quantile_bounds(one, 0.9, 0.95), quantile_bounds(other, 0.9, 0.95)
        held += a.lower <= truth <= a.upper
        ratio = ratio_bounds(np.quantile(one, 0.9), a, np.quantile(other, 0.9), b)
        held_ratio += ratio.lower <= 1 <= ratio.upper
    assert held / 600 > 0.935
    assert 0.935 < held_ratio / 600 < 0.995


@pytest.mark.parametrize(("limit", "outcome"), [(900, "Passed"), (400, "Failed"), (700, "Inconclusive")])
def test_latency_decides_on_the_bounds_of_its_percentile(limit: int, outcome: str) -> None:
    gate = decided({"latency": {"maxMilliseconds": limit}}, spread(150))
    assert gate.outcome == outcome, gate.estimate
    assert (gate.rows_needed is not None) == (outcome == "Inconclusive")


def test_too_few_answers_leave_a_percentile_undecided_and_say_so() -> None:
    gate = decided({"latency": {"maxMilliseconds": 60_000}}, spread(40))
    assert gate.outcome == "Inconclusive"
    said = gate_sentence(evaluate_run(), gate)
    assert said.startswith("latency p95 is undecided: milliseconds ")
    assert "to inf), demanded <= 60000." in said


def test_an_answer_that_came_too_late_took_the_whole_timeout() -> None:
    run = evaluate_run(models=["candidate"], baselines=[])
    answers = {
        "candidate": [answered("a", seconds=0.1), answered("b", outcome="timedOut"), answered("c", outcome="empty")]
    }
    seconds = Taken.of(run, answers, np.arange(3)).seconds[0]
    assert seconds[:2].tolist() == [0.1, 5.0]
    assert np.isnan(seconds[2])


@pytest.mark.parametrize(("ratio", "outcome"), [("3", "Passed"), ("1.5", "Failed"), ("2", "Inconclusive")])
def test_latency_against_a_baseline_is_a_ratio(ratio: str, outcome: str) -> None:
    gate = {"latency": {"percentile": 50, "to": "untuned", "maxRatio": ratio}}
    both = {"models": ["candidate", "base"], "baselines": [{"name": "untuned", "fromCandidate": {}}]}
    assert decided(gate, spread(150, 1.0), spread(150, 0.5), **both).outcome == outcome


def test_a_query_costs_its_share_of_the_hour_at_full_load() -> None:
    """Four questions under way, half a second each: 28,800 an hour, of which each pays for a share of 7.20."""
    gate = decided({"cost": {"maxPerQuery": "0.0003"}}, [0.5] * 75 + [0.4999] * 75, servingCostPerHour="7.2")
    assert gate.estimate.value == pytest.approx(7.2 / 28_800, rel=1e-3)
    assert gate.outcome == "Passed"


def test_idle_hours_are_paid_for() -> None:
    test = {"maxPerQuery": "0.0003", "queriesPerHour": 100}
    gate = decided({"cost": test}, spread(150), servingCostPerHour="7.2")
    assert gate.estimate.value == pytest.approx(0.072)
    assert gate.outcome == "Failed"


def test_cost_against_a_hosted_model_is_a_ratio_of_two_prices() -> None:
    """There 100 tokens read and 10 written are 0.0002, here a query is 0.00025."""
    cost = {"cost": {"to": "premium", "maxRatio": "1"}}
    gate = decided(cost, spread(150), [0.9] * 150, servingCostPerHour="7.2", **PREMIUM)
    assert gate.estimate.value == pytest.approx(1.25, rel=0.05)
    assert gate.outcome == "Failed"
    assert decided(cost, spread(150), [0.9] * 150, servingCostPerHour="1", **PREMIUM).outcome == "Passed"


def test_a_ratio_to_nothing_is_unbounded() -> None:
    assert ratio_bounds(1.0, Interval(0.5, 2.0), 0.0, Interval(0.0, 0.0)) == Interval(0.0, math.inf)
