"""Estimates against scipy, published figures and simulation."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from anneal_evaluator.statistics import (
    Interval,
    bootstrap_mean,
    mcnemar_mid_p,
    minimum_detectable_effect,
    rows_needed,
    wilson,
)

UNIT, DIFFERENCE = Interval(0.0, 1.0), Interval(-1.0, 1.0)


@pytest.mark.parametrize("confidence", [0.90, 0.95, 0.99])
@pytest.mark.parametrize(("right", "n"), [(0, 1), (1, 1), (0, 150), (150, 150), (90, 100), (1, 3), (2500, 5000)])
def test_wilson_is_scipys(right: int, n: int, confidence: float) -> None:
    expected = stats.binomtest(right, n).proportion_ci(confidence, method="wilson")
    found = wilson(right, n, confidence)
    assert (found.lower, found.upper) == pytest.approx((expected.low, expected.high), abs=1e-9)


def test_without_rows_everything_is_possible() -> None:
    none = np.array([])
    assert wilson(0, 0, 0.95) == UNIT
    assert bootstrap_mean(none, DIFFERENCE, 0.95, 1000, 0) == DIFFERENCE
    assert minimum_detectable_effect(0.0, 0, 0.95) == 1.0


@pytest.mark.parametrize(("b", "c"), [(0, 1), (1, 0), (3, 3), (0, 9), (12, 5), (40, 61), (700, 640)])
def test_mcnemar_mid_p(b: int, c: int) -> None:
    """Twice the one-sided probability, in which what was seen counts half (Fagerland et al. 2013)."""
    one_sided = stats.binom.cdf(min(b, c) - 1, b + c, 0.5) + stats.binom.pmf(b, b + c, 0.5) / 2
    assert mcnemar_mid_p(b, c) == pytest.approx(2 * one_sided, rel=1e-9)


def test_models_that_never_differ_are_no_evidence() -> None:
    assert mcnemar_mid_p(0, 0) == 1.0


@pytest.mark.parametrize(
    ("n", "discordance", "points"),
    [(100, 0.1, 8.8), (100, 0.2, 12.4), (100, 0.3, 15.2), (150, 0.2, 10.1), (200, 0.1, 6.2), (1000, 0.3, 4.8)],
)
def test_detectable_effects_are_those_of_the_formula(n: int, discordance: float, points: float) -> None:
    """The paired-binary table at two-sided 5 % and power 0.8; 1,000 rows for 3 to 5 points, as in Miller (2024)."""
    found = minimum_detectable_effect(discordance, n, 0.95)
    assert 100 * found == pytest.approx(points, abs=0.06)
    z, power = stats.norm.ppf(0.975), stats.norm.ppf(0.8)
    assert found == pytest.approx(z * math.sqrt(discordance / n) + power * math.sqrt((discordance - found**2) / n))


@pytest.mark.parametrize(("distance", "variance", "n"), [(0.05, 0.1, 314), (0.05, 0.2, 628), (0.03, 0.1, 873)])
def test_rows_needed_for_a_margin(distance: float, variance: float, n: int) -> None:
    assert rows_needed(distance, variance, variance, 0.95) == n


def test_rows_needed_for_a_floor_when_every_row_is_right() -> None:
    """All right against a floor of 0.95: the smallest n whose Wilson bound reaches the floor."""
    n = rows_needed(0.05, 0.95 * 0.05, 0.0, 0.95)
    assert n is not None
    assert wilson(n, n, 0.95).lower >= 0.95 > wilson(n - 1, n - 1, 0.95).lower


def test_no_number_of_rows_settles_what_lies_on_the_bound() -> None:
    assert rows_needed(0.0, 0.1, 0.1, 0.95) is None
    assert rows_needed(1e-6, 0.1, 0.1, 0.95) is None


def test_with_one_row_or_no_discordant_pair_nothing_is_detected_for_free() -> None:
    assert minimum_detectable_effect(0.0, 1, 0.95) == 1.0
    assert minimum_detectable_effect(1.0, 1, 0.95) == 1.0
    assert 0.03 < minimum_detectable_effect(0.0, 100, 0.95) < 0.09


def test_the_bootstrap_is_near_scipys_where_rows_differ() -> None:
    values = np.random.default_rng(3).beta(4, 2, size=300)
    found = bootstrap_mean(values, UNIT, 0.95, 10_000, seed=1)
    reference = stats.bootstrap((values,), np.mean, method="percentile", rng=np.random.default_rng(1))
    expected = reference.confidence_interval
    assert found.lower == pytest.approx(expected.low, abs=0.004)
    assert found.upper == pytest.approx(expected.high, abs=0.004)


def test_the_seed_decides_the_bounds() -> None:
    values = np.random.default_rng(0).random(50)
    first, again, other = (bootstrap_mean(values, UNIT, 0.95, 1000, seed) for seed in (1, 1, 2))
    assert first == again != other


@pytest.mark.parametrize("value", [-1.0, 0.0, 1.0])
@pytest.mark.parametrize("n", [1, 2, 3, 4])
def test_few_rows_that_agree_prove_nothing(n: int, value: float) -> None:
    """The sign test cannot reach one-sided 2.5 % before five rows, so neither may this."""
    found = bootstrap_mean(np.full(n, value), DIFFERENCE, 0.95, 2000, seed=0)
    assert found.lower <= 0 <= found.upper
    assert found.lower <= value <= found.upper


def test_identical_models_are_not_proven_equal_by_few_rows() -> None:
    few, many = (bootstrap_mean(np.zeros(n), DIFFERENCE, 0.95, 2000, 0) for n in (20, 200))
    assert few.lower < -0.05
    assert -0.05 < many.lower < 0


def test_memory_stays_bounded_for_scores_that_are_all_different() -> None:
    values = np.random.default_rng(0).random(2000)
    found = bootstrap_mean(values, UNIT, 0.95, 1000, 0)
    assert found.upper - found.lower == pytest.approx(2 * 1.96 * values.std() / math.sqrt(2000), rel=0.15)


def simulated(n: int, discordance: float, difference: float, bound: float) -> tuple[float, float]:
    """(share of runs whose lower bound is above `bound`, coverage of the true difference) for paired 0/1 scores."""
    rng = np.random.default_rng(11)
    shares = [(discordance - difference) / 2, 1 - discordance, (discordance + difference) / 2]
    runs, above, covered = 600, 0, 0
    for run in range(runs):
        pairs = rng.choice([-1.0, 0.0, 1.0], size=n, p=shares)
        found = bootstrap_mean(pairs, DIFFERENCE, 0.95, 1000, seed=run)
        above += found.lower > bound
        covered += found.lower <= difference <= found.upper
    return above / runs, covered / runs


@pytest.mark.parametrize(
    ("n", "discordance", "difference", "bound"),
    [(100, 0.2, 0.0, 0.0), (30, 0.2, 0.0, 0.0), (150, 0.1, -0.05, -0.05), (150, 0.98, 0.97, 0.97), (8, 0.3, 0.0, 0.0)],
)
def test_errors_stay_near_the_nominal_level(n: int, discordance: float, difference: float, bound: float) -> None:
    """One-sided level 2.5 %; with 600 runs a true 2.5 % shows up to 4.4 % (three standard errors)."""
    false_passes, coverage = simulated(n, discordance, difference, bound)
    assert false_passes <= 0.044
    assert coverage >= 0.93


def test_power_at_ten_points_is_that_of_the_paired_tests() -> None:
    """150 rows, one fifth discordant, ten points better: the t test and McNemar mid-p find 78 to 80 %."""
    found, _ = simulated(150, 0.2, 0.1, 0.0)
    assert 0.70 <= found <= 0.84
