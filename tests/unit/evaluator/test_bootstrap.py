"""The bootstrap against scipy, and where groups and few rows make the plain one wrong."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from anneal_evaluator.statistics.bootstrap import Grouped, bootstrap_mean, t_two_sided
from anneal_evaluator.statistics.interval import Interval

UNIT, DIFFERENCE = Interval(0.0, 1.0), Interval(-1.0, 1.0)


def alone(values: NDArray[np.float64]) -> Grouped:
    return Grouped.of(values, np.arange(values.size))


@pytest.mark.parametrize("confidence", [0.90, 0.95, 0.99])
@pytest.mark.parametrize("degrees", [5, 10, 49, 149, 5000])
def test_students_quantile_is_scipys(confidence: float, degrees: int) -> None:
    assert t_two_sided(confidence, degrees) == pytest.approx(stats.t.ppf((1 + confidence) / 2, degrees), rel=0.01)


def test_without_rows_everything_is_possible() -> None:
    assert bootstrap_mean(alone(np.array([])), DIFFERENCE, 0.95, 1000, 0) == DIFFERENCE


def test_it_is_scipys_at_the_expanded_confidence() -> None:
    values = np.random.default_rng(3).beta(4, 2, size=300)
    found = bootstrap_mean(alone(values), UNIT, 0.95, 10_000, seed=1)
    tail = stats.norm.cdf(-stats.t.ppf(0.975, 299) * math.sqrt(300 / 299))
    reference = stats.bootstrap(
        (values,), np.mean, method="percentile", confidence_level=1 - 2 * tail, rng=np.random.default_rng(1)
    ).confidence_interval
    assert found.lower == pytest.approx(reference.low, abs=0.004)
    assert found.upper == pytest.approx(reference.high, abs=0.004)


def test_the_seed_decides_the_bounds() -> None:
    values = alone(np.random.default_rng(0).random(50))
    first, again, other = (bootstrap_mean(values, UNIT, 0.95, 1000, seed) for seed in (1, 1, 2))
    assert first == again != other


@pytest.mark.parametrize("value", [-1.0, 0.0, 1.0])
@pytest.mark.parametrize("n", [1, 2, 3, 4])
def test_few_rows_that_agree_prove_nothing(n: int, value: float) -> None:
    """The sign test cannot reach one-sided 2.5 % before five rows, so neither may this."""
    found = bootstrap_mean(alone(np.full(n, value)), DIFFERENCE, 0.95, 2000, seed=0)
    assert found.lower <= 0 <= found.upper
    assert found.lower <= value <= found.upper


def test_identical_models_are_not_proven_equal_by_few_rows() -> None:
    few, many = (bootstrap_mean(alone(np.zeros(n)), DIFFERENCE, 0.95, 2000, 0) for n in (20, 200))
    assert few.lower < -0.05
    assert -0.05 < many.lower < 0


def test_memory_stays_bounded_for_scores_that_are_all_different() -> None:
    values = np.random.default_rng(0).random(2000)
    found = bootstrap_mean(alone(values), UNIT, 0.95, 1000, 0)
    assert found.upper - found.lower == pytest.approx(2 * 1.96 * values.std() / math.sqrt(2000), rel=0.15)


def test_what_rows_share_within_a_group_does_not_make_the_interval_narrower() -> None:
    """Each row ten times over, in a group, says no more than the row once; as independent rows it would seem to."""
    values = np.random.default_rng(1).random(60)
    repeated, group = np.repeat(values, 10), np.repeat(np.arange(60), 10)
    once = bootstrap_mean(alone(values), UNIT, 0.95, 10_000, 0)
    grouped = bootstrap_mean(Grouped.of(repeated, group), UNIT, 0.95, 10_000, 0)
    naive = bootstrap_mean(alone(repeated), UNIT, 0.95, 10_000, 0)
    assert (grouped.lower, grouped.upper) == pytest.approx((once.lower, once.upper), abs=1e-12)
    assert naive.upper - naive.lower < 0.4 * (grouped.upper - grouped.lower)


def test_groups_of_all_sizes_have_the_mean_over_rows_and_the_spread_of_the_ratio() -> None:
    rng = np.random.default_rng(2)
    group = np.repeat(np.arange(80), rng.integers(1, 6, size=80))
    values = (rng.random(80)[group] + rng.random(group.size)) / 2
    sample = Grouped.of(values, group)
    assert (sample.n, sample.mean) == (values.size, pytest.approx(values.mean()))
    found = bootstrap_mean(sample, UNIT, 0.95, 10_000, 0)
    standard_error = math.sqrt(sample.square_around(sample.mean) / sample.n)
    assert found.upper - found.lower == pytest.approx(2 * 1.99 * standard_error, rel=0.06)


def test_the_order_of_rows_and_the_names_of_groups_do_not_matter() -> None:
    rng = np.random.default_rng(4)
    values, group = rng.random(90), rng.integers(0, 30, size=90)
    order = rng.permutation(90)
    first = bootstrap_mean(Grouped.of(values, group), UNIT, 0.95, 2000, 0)
    second = bootstrap_mean(Grouped.of(values[order], 1000 - group[order]), UNIT, 0.95, 2000, 0)
    assert (first.lower, first.upper) == pytest.approx((second.lower, second.upper), abs=0.01)
