"""What a number of rows can tell: shared by the operator, which asks before anything runs, and the evaluator's report.

All formulas are the normal approximations of sample size planning; power is 0.8 throughout.
"""

from __future__ import annotations

import math
from statistics import NormalDist

POWER = 0.8
#: Beyond this, "more rows" is no advice.
MOST_ROWS = 1_000_000


def z_two_sided(confidence: float) -> float:
    """Normal quantile of a two-sided interval: 1.96 for 0.95."""
    return NormalDist().inv_cdf((1 + confidence) / 2)


def minimum_detectable_effect(discordance: float, n: int, confidence: float) -> float:
    """Smallest true difference that `n` pairs show with power 0.8; 1 when there is none.

    `discordance` is the mean square of the paired differences, which for 0/1 scores is the share of rows where the
    models differ. d = z_confidence·√(ψ/n) + z_power·√((ψ − d²)/n), solved for d. Where no row differed, ψ is what may
    still be hidden: the upper bound of a share that was never seen in n rows.
    """
    if n == 0:
        return 1.0
    psi = max(discordance, hidden_share(n, confidence))
    a = z_two_sided(confidence) * math.sqrt(psi / n)
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
    spread = z_two_sided(confidence) * math.sqrt(variance_at_bound) + NormalDist().inv_cdf(POWER) * math.sqrt(variance)
    needed = math.ceil((spread / distance) ** 2)
    return needed if needed <= MOST_ROWS else None


def hidden_share(n: int, confidence: float) -> float:
    """One-sided upper bound of a share that was never seen in `n` rows: 1 − (1 − confidence)^(1/n)."""
    return 1 - (1 - confidence) ** (1 / n) if n else 1.0


def shared(confidence: float, claims: int) -> float:
    """Confidence of each of so many two-sided intervals that together err no more often than one of `confidence`."""
    return 1 - (1 - confidence) / claims
