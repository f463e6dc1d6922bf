"""Closed-form intervals against scipy, statsmodels, published figures and the definitions themselves."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import optimize, stats
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.proportion import proportion_confint

from anneal_evaluator.statistics.interval import Interval
from anneal_evaluator.statistics.shares import exact, mcnemar_mid_p, paired_difference, wilson

SEEN = [(0, 1), (1, 1), (0, 150), (150, 150), (90, 100), (1, 3), (2500, 5000), (4999, 5000)]


@pytest.mark.parametrize("confidence", [0.90, 0.95, 0.99])
@pytest.mark.parametrize(("right", "n"), SEEN)
def test_shares_are_those_of_scipy_and_statsmodels(right: int, n: int, confidence: float) -> None:
    for found, scipys, statsmodels in ((wilson, "wilson", "wilson"), (exact, "exact", "beta")):
        bounds = found(right, n, confidence)
        expected = stats.binomtest(right, n).proportion_ci(confidence, method=scipys)
        assert (bounds.lower, bounds.upper) == pytest.approx((expected.low, expected.high), abs=1e-9)
        again = proportion_confint(right, n, alpha=1 - confidence, method=statsmodels)
        assert (bounds.lower, bounds.upper) == pytest.approx(again, abs=1e-9)


def test_without_rows_everything_is_possible() -> None:
    assert wilson(0, 0, 0.95) == exact(0, 0, 0.95) == Interval(0.0, 1.0)
    assert paired_difference(0, 0, 0, 0.95) == Interval(-1.0, 1.0)


def test_no_failure_in_300_rows_shows_less_than_one_percent_one_sided() -> None:
    assert 1 - exact(300, 300, 0.90).lower == pytest.approx(0.0099, abs=5e-5)


def test_a_published_paired_interval() -> None:
    """Airway hyper-responsiveness before and after transplantation, 21 children: Tango's interval as printed in
    Fagerland, Lydersen & Laake (2014)."""
    found = paired_difference(1, 7, 21, 0.95)
    assert (round(found.lower, 3), round(found.upper, 3)) == (-0.517, -0.026)


@pytest.mark.parametrize(("b", "c", "n"), [(12, 5, 100), (0, 9, 150), (40, 21, 200), (3, 3, 30), (1, 0, 10)])
def test_paired_bounds_solve_the_score_equation(b: int, c: int, n: int) -> None:
    """At each bound the score statistic, with its nuisance share fitted numerically, is the normal quantile."""

    def statistic(difference: float) -> float:
        def unlikely(q: float) -> float:
            p, rest = q + difference, 1 - 2 * q - difference
            terms = ((b, p), (c, q), (n - b - c, rest))
            return -sum(k * math.log(max(x, 1e-300)) for k, x in terms if k)

        low, high = max(0.0, -difference), (1 - difference) / 2
        q = optimize.minimize_scalar(unlikely, bounds=(low, high), method="bounded", options={"xatol": 1e-12}).x
        return float((b - c - n * difference) / math.sqrt(n * (2 * q + difference - difference**2)))

    found = paired_difference(b, c, n, 0.95)
    assert statistic(found.lower) == pytest.approx(1.959964, abs=1e-3)
    assert statistic(found.upper) == pytest.approx(-1.959964, abs=1e-3)
    mirrored = paired_difference(c, b, n, 0.95)
    assert (mirrored.lower, mirrored.upper) == pytest.approx((-found.upper, -found.lower), abs=1e-9)


@pytest.mark.parametrize("b", range(30))
def test_zero_is_inside_just_when_mcnemar_does_not_reject(b: int) -> None:
    c, n = 10, 120
    p = mcnemar([[50, b], [c, n - 50 - b - c]], exact=False, correction=False).pvalue
    found = paired_difference(b, c, n, 0.95)
    assert (found.lower <= 0 <= found.upper) == (p >= 0.05)


@pytest.mark.parametrize("n", [1, 2, 3])
@pytest.mark.parametrize("right", [0, 1])
def test_few_rows_that_agree_prove_nothing(n: int, right: int) -> None:
    found = paired_difference(right * n, 0, n, 0.95)
    assert found.lower < 0 < found.upper
    assert found.lower <= right <= found.upper


def test_identical_models_are_not_proven_equal_by_few_rows() -> None:
    few, many = (paired_difference(0, 0, n, 0.95) for n in (20, 200))
    assert few.lower < -0.05 < many.lower < 0


@pytest.mark.parametrize(("b", "c"), [(0, 1), (1, 0), (3, 3), (0, 9), (12, 5), (40, 61), (700, 640)])
def test_mcnemar_mid_p(b: int, c: int) -> None:
    """Twice the one-sided probability, in which what was seen counts half; half a point below the exact p."""
    one_sided = stats.binom.cdf(min(b, c) - 1, b + c, 0.5) + stats.binom.pmf(b, b + c, 0.5) / 2
    assert mcnemar_mid_p(b, c) == pytest.approx(2 * one_sided, rel=1e-9)
    if b != c:
        exactly = mcnemar([[0, b], [c, 0]], exact=True).pvalue
        assert mcnemar_mid_p(b, c) == pytest.approx(exactly - stats.binom.pmf(b, b + c, 0.5), rel=1e-6, abs=1e-12)


def test_models_that_never_differ_are_no_evidence() -> None:
    assert mcnemar_mid_p(0, 0) == 1.0


def test_the_exact_bound_is_wrong_no_more_often_than_stated() -> None:
    """Over all counts at once, not by simulation: P(lower bound ≥ true share) ≤ 2.5 %. Wilson's is not."""
    counts = np.arange(101)
    shares = np.linspace(0.02, 0.98, 97)
    worst = {}
    for method in (wilson, exact):
        lowers = np.array([method(int(k), 100, 0.95).lower for k in counts])
        worst[method] = max(float(stats.binom.pmf(counts, 100, p)[lowers >= p].sum()) for p in shares)
    assert worst[exact] <= 0.025 < worst[wilson]
