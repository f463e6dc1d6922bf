"""The promises of a verdict, on simulated evaluations: few here, ten thousand a cell in `make bench-verdicts`."""

from __future__ import annotations

import pytest
from tests.support.simulated_verdicts import documents, graded_pairs, monte_carlo_error, pairs, shares

SIMULATIONS = 2000
BETTER = {"superiority": {"over": "base"}}
NOT_WORSE = {"nonInferiority": {"to": "base", "margin": "0.05"}}


def at_most(rate: float, limit: float, simulations: int = SIMULATIONS) -> bool:
    return rate <= limit + monte_carlo_error(limit, simulations)


def at_least(rate: float, limit: float, simulations: int = SIMULATIONS) -> bool:
    return rate >= limit - monte_carlo_error(limit, simulations)


@pytest.mark.parametrize(("n", "discordance"), [(100, 0.1), (100, 0.3), (150, 0.2), (200, 0.1)])
def test_false_passes_are_rare_and_the_truth_is_covered(n: int, discordance: float) -> None:
    no_better = pairs(n, discordance, 0.0, BETTER).simulate(SIMULATIONS)
    worse = pairs(n, discordance, -0.05, NOT_WORSE).simulate(SIMULATIONS)
    for found in (no_better, worse):
        assert at_most(found.pass_rate, 0.025)
        assert at_least(found.coverage, 0.935)
        assert at_most(found.coverage, 0.965)


@pytest.mark.parametrize(("n", "power"), [(100, 0.63), (150, 0.78), (200, 0.89)])
def test_ten_points_are_seen(n: int, power: float) -> None:
    assert at_least(pairs(n, 0.2, 0.1, BETTER).simulate(SIMULATIONS).pass_rate, power)


@pytest.mark.parametrize("floor", [0.5, 0.85, 0.9])
def test_at_the_floor_few_pass(floor: float) -> None:
    found = shares(100, floor, floor, floor, SIMULATIONS).simulate(SIMULATIONS)
    assert at_most(found.pass_rate, 0.025)


def test_shares_are_covered_on_average() -> None:
    found = shares(150, 0.7, 1.0, 0.9, SIMULATIONS).simulate(SIMULATIONS)
    assert at_least(found.coverage, 0.935)
    assert at_most(found.coverage, 0.965)


def test_the_bootstrap_covers_graded_differences() -> None:
    found = graded_pairs(100, 0.0).simulate(300)
    assert at_most(found.pass_rate, 0.025, 300)
    assert at_least(found.coverage, 0.935, 300)


def test_groups_are_what_keeps_documents_covered() -> None:
    told, not_told = (documents(60, 0.0, keeps).simulate(300).coverage for keeps in (True, False))
    assert at_least(told, 0.935, 300)
    assert not at_least(not_told, 0.935, 300)
