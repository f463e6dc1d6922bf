"""What rows can tell, against published figures and scipy's quantiles."""

from __future__ import annotations

import math

import pytest
from scipy import stats
from statsmodels.stats.power import NormalIndPower

from anneal.api.power import hidden_share, minimum_detectable_effect, rows_needed


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
def test_rows_needed_for_a_margin_are_statsmodels(distance: float, variance: float, n: int) -> None:
    """One sample of differences: ratio 0 drops the second sample. The tail beyond the other bound is negligible."""
    effect = distance / math.sqrt(variance)
    expected = NormalIndPower().solve_power(effect, alpha=0.05, power=0.8, ratio=0, alternative="two-sided")
    assert rows_needed(distance, variance, variance, 0.95) == math.ceil(expected) == n


def test_no_number_of_rows_settles_what_lies_on_the_bound() -> None:
    assert rows_needed(0.0, 0.1, 0.1, 0.95) is None
    assert rows_needed(1e-6, 0.1, 0.1, 0.95) is None


def test_with_one_row_or_no_discordant_pair_nothing_is_detected_for_free() -> None:
    assert minimum_detectable_effect(0.0, 0, 0.95) == 1.0
    assert minimum_detectable_effect(0.0, 1, 0.95) == 1.0
    assert minimum_detectable_effect(1.0, 1, 0.95) == 1.0
    assert 0.03 < minimum_detectable_effect(0.0, 100, 0.95) < 0.09


def test_the_rule_of_three() -> None:
    assert [round(hidden_share(n, 0.95), 4) for n in (100, 200, 300, 500)] == [0.0295, 0.0149, 0.0099, 0.0060]
