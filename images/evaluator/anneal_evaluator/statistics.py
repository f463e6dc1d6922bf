"""Estimates with bounds, and what it would take to be surer.

Choices, with their sources:
- A mean of 0/1 scores has a Wilson score interval (Wilson 1927; recommended by Brown, Cai & DasGupta 2001): closed
  form, and of sensible width where all rows are right or all wrong, where a bootstrap has none.
- A difference between two models is bootstrapped over rows (paired: the same rows, so what is common to both
  cancels), by percentiles. Rows that all agree would have an interval of width zero, which "proves" anything. So rows
  are resampled a second time with two pseudo-rows, one at each end of the scale, as Bonett & Price (2012) add them for
  paired proportions; of the two intervals the wider bound counts on each side, since the plain one is too narrow when
  few rows differ and the other leans to zero. Means of scores that are not 0/1 are bootstrapped alike.
- McNemar's test with the mid-p value (Fagerland, Lydersen & Laake 2013) is reported beside, for 0/1 scores.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

POWER = 0.8
#: Beyond this, "more rows" is no advice.
MOST_ROWS = 1_000_000
_CELLS = 4_000_000  # of one block of resamples, to bound memory


@dataclass(frozen=True)
class Interval:
    """Two-sided confidence bounds."""

    lower: float
    upper: float


def wilson(right: int, n: int, confidence: float) -> Interval:
    """Bounds of a share of which `right` of `n` were seen; [0, 1] when nothing was."""
    if n == 0:
        return Interval(0.0, 1.0)
    z, share = _z_two_sided(confidence), right / n
    centre = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    return Interval(max(0.0, centre - half) if right else 0.0, min(1.0, centre + half) if right < n else 1.0)


def bootstrap_mean(
    values: NDArray[np.float64], scale: Interval, confidence: float, resamples: int, seed: int
) -> Interval:
    """Bounds of the mean of `values` (shape [n]), whose possible range is `scale`; see the module for the method."""
    if values.size == 0:
        return scale
    alone = _percentiles(values, confidence, resamples, seed)
    widened = _percentiles(np.append(values, [scale.lower, scale.upper]), confidence, resamples, seed)
    return Interval(min(alone.lower, widened.lower), max(alone.upper, widened.upper))


def _percentiles(values: NDArray[np.float64], confidence: float, resamples: int, seed: int) -> Interval:
    """Percentiles of the means of resamples. Equal values share a cell of a multinomial, which is the same
    distribution as drawing rows one by one and much less work for 0/1 scores.
    """
    levels, counts = np.unique(values, return_counts=True)
    rng = np.random.default_rng(seed)
    block = max(1, _CELLS // levels.size)
    means = np.concatenate(
        [
            rng.multinomial(values.size, counts / values.size, size=min(block, resamples - done)) @ levels / values.size
            for done in range(0, resamples, block)
        ]
    )
    lower, upper = np.quantile(means, [(1 - confidence) / 2, (1 + confidence) / 2])
    return Interval(float(lower), float(upper))


def mcnemar_mid_p(only_first: int, only_second: int) -> float:
    """Two-sided mid-p that two models are right equally often, from the rows where exactly one of them is.

    Half the probability of what was seen counts, so that the level is close to nominal where the exact test is not.
    """
    n, fewer = only_first + only_second, min(only_first, only_second)
    if n == 0:
        return 1.0
    tail = sum(math.comb(n, k) for k in range(fewer + 1))
    return float(min(1.0, (2 * tail - math.comb(n, fewer)) / 2**n))


def minimum_detectable_effect(discordance: float, n: int, confidence: float) -> float:
    """Smallest true difference that `n` pairs show with power 0.8; 1 when there is none.

    `discordance` is the mean square of the paired differences, which for 0/1 scores is the share of rows where the
    models differ. d = z_confidence·√(ψ/n) + z_power·√((ψ − d²)/n), solved for d. Where no row differed, ψ is what may
    still be hidden: the upper bound of a share that was never seen in n rows.
    """
    if n == 0:
        return 1.0
    psi = max(discordance, hidden_share(n, confidence))
    a = _z_two_sided(confidence) * math.sqrt(psi / n)
    b = NormalDist().inv_cdf(POWER) ** 2 / n
    root = a * a - (1 + b) * (a * a - b * psi)
    return min(1.0, (a + math.sqrt(root)) / (1 + b)) if root >= 0 else 1.0


def rows_needed(distance: float, variance_at_bound: float, variance: float, confidence: float) -> int | None:
    """Rows that settle, with power 0.8, whether an estimate `distance` away from a bound is beyond it.

    n = (z_confidence·√v₀ + z_power·√v)² / distance², with the variances of one row if the bound is the truth (v₀) and
    if the estimate is (v). None when no practical number does.
    """
    if distance == 0:
        return None
    spread = _z_two_sided(confidence) * math.sqrt(variance_at_bound) + NormalDist().inv_cdf(POWER) * math.sqrt(variance)
    needed = math.ceil((spread / distance) ** 2)
    return needed if needed <= MOST_ROWS else None


def hidden_share(n: int, confidence: float) -> float:
    """One-sided upper bound of a share that was never seen in `n` rows: 1 − (1 − confidence)^(1/n)."""
    return float(1 - (1 - confidence) ** (1 / n)) if n else 1.0


def _z_two_sided(confidence: float) -> float:
    return float(NormalDist().inv_cdf((1 + confidence) / 2))
