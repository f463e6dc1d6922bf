"""Intervals and a test for 0/1 scores of independent rows, in closed form.

A score interval holds every value that a score test would not reject. At the sample sizes of held-out sets it keeps
its confidence where the bootstrap does not: of rows that all agree a bootstrap has an interval of width zero, and of
150 pairs of which a tenth differ it passes 3.8 % of candidates that lie on the margin instead of 2.5 %.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from anneal.api.power import z_two_sided
from anneal_evaluator.statistics.interval import Interval

_HALVINGS = 50  # of an interval of width 2, to beyond the accuracy of a double


def wilson(right: int, n: int, confidence: float) -> Interval:
    """Bounds of a share of which `right` of `n` were seen; [0, 1] when nothing was.

    The score interval of Wilson (1927), recommended by Brown, Cai & DasGupta (2001): it covers with its confidence on
    average over the shares that may be true, for some of them a little less.
    """
    if n == 0:
        return Interval(0.0, 1.0)
    z, share = z_two_sided(confidence), right / n
    centre = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    return Interval(max(0.0, centre - half) if right else 0.0, min(1.0, centre + half) if right < n else 1.0)


def exact(right: int, n: int, confidence: float) -> Interval:
    """Bounds that are wrong at most as often as stated, whatever share is true; [0, 1] when nothing was seen.

    Clopper & Pearson (1934): shares for which a count this large, or this small, has probability (1 − confidence)/2.
    """
    tail = (1 - confidence) / 2
    lower = _rising(lambda share: _at_least(right, n, share), tail) if right else 0.0
    upper = 1 - _rising(lambda share: _at_least(n - right, n, share), tail) if right < n else 1.0
    return Interval(lower, upper)


def paired_difference(only_first: int, only_second: int, n: int, confidence: float) -> Interval:
    """Bounds of the difference of two shares on the same `n` rows, from those where exactly one of the two is right.

    The score interval of Tango (1998), recommended for paired shares by Fagerland, Lydersen & Laake (2014). Whether it
    holds zero is McNemar's test. [-1, 1] without rows.
    """
    if n == 0:
        return Interval(-1.0, 1.0)
    z, seen = z_two_sided(confidence), (only_first - only_second) / n
    lower = _falling(lambda d: _tango(only_first, only_second, n, d), z)
    upper = _falling(lambda d: _tango(only_first, only_second, n, d), -z)
    return Interval(min(lower, seen), max(upper, seen))


def _tango(only_first: int, only_second: int, n: int, difference: float) -> float:
    """Score statistic of the hypothesis that the true difference is `difference`; falls as that grows.

    (b − c − nΔ) / √(n(2q + Δ(1 − Δ))), where q is the share of rows with only the second right that is most likely
    under the hypothesis: the larger root of 2n·q² + ((2n − b + c)Δ − b − c)·q − cΔ(1 − Δ).
    """
    excess = only_first - only_second - n * difference
    linear = (2 * n - only_first + only_second) * difference - only_first - only_second
    constant = -only_second * difference * (1 - difference)
    q = (math.sqrt(max(0.0, linear * linear - 8 * n * constant)) - linear) / (4 * n)
    variance = n * (2 * q + difference * (1 - difference))
    return excess / math.sqrt(variance) if variance > 0 else math.copysign(math.inf, excess) if excess else 0.0


def mcnemar_mid_p(only_first: int, only_second: int) -> float:
    """Two-sided mid-p that two models are right equally often, from the rows where exactly one of them is.

    Half the probability of what was seen counts, so that the level is close to nominal where the exact test is not
    (Fagerland, Lydersen & Laake 2013).
    """
    n, fewer = only_first + only_second, min(only_first, only_second)
    if n == 0:
        return 1.0
    tail = sum(math.comb(n, k) for k in range(fewer + 1))
    return float(min(1.0, (2 * tail - math.comb(n, fewer)) / 2**n))


def _at_least(count: int, n: int, share: float) -> float:
    """Probability of `count` or more of `n`, each with probability `share`."""
    if share in (0.0, 1.0):
        return share
    log_share, log_rest = math.log(share), math.log1p(-share)
    logs = (
        math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1) + k * log_share + (n - k) * log_rest
        for k in range(count, n + 1)
    )
    return math.fsum(math.exp(log) for log in logs)


def _rising(function: Callable[[float], float], target: float) -> float:
    """Where a rising function of [0, 1] reaches `target`."""
    return _falling(lambda x: -function(x), -target, 0.0)


def _falling(function: Callable[[float], float], target: float, low: float = -1.0, high: float = 1.0) -> float:
    """Where a falling function of [low, high] reaches `target`, by bisection."""
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        if function(middle) > target:
            low = middle
        else:
            high = middle
    return (low + high) / 2
