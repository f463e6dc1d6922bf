"""Bounds of a percentile, and of the ratio of two quantities that have bounds."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from anneal_evaluator.statistics.interval import Interval


def quantile_bounds(values: NDArray[np.float64], share: float, confidence: float) -> Interval:
    """Bounds of the value that a `share` of all values, of which `values` were seen, does not exceed.

    Order statistics hold it whatever the distribution is (David & Nagaraja 2003, 7.1): how many of n values lie below
    is binomial. 0 and infinity where so few values bound nothing: the slowest of 71 answers may be quicker than the
    95th percentile of all.
    """
    n, tail = values.size, (1 - confidence) / 2
    at_most = _at_most(n, share)
    lowest = int(np.searchsorted(at_most, tail, side="right"))  # P(fewer than `lowest` below) ≤ tail
    highest = int(np.searchsorted(at_most, 1 - tail, side="left")) + 1  # P(fewer than `highest` below) ≥ 1 − tail
    ordered = np.sort(values)
    lower = float(ordered[lowest - 1]) if lowest > 0 else 0.0
    return Interval(lower, float(ordered[highest - 1]) if highest <= n else math.inf)


def ratio_bounds(first: float, of_first: Interval, second: float, of_second: Interval) -> Interval:
    """Bounds of `first` / `second`, both positive, from the bounds of each.

    On logarithms the squared distances to the bounds add up (MOVER, Zou & Donner 2008), as variances do of independent
    estimates. Answers to the same rows are alike in length, so that the interval is a little wider than it need be.
    """
    if first <= 0 or second <= 0:
        return Interval(0.0, math.inf)
    down = math.hypot(_log(first / of_first.lower if of_first.lower > 0 else math.inf), _log(of_second.upper / second))
    up = math.hypot(_log(of_first.upper / first), _log(second / of_second.lower if of_second.lower > 0 else math.inf))
    return Interval(first / second * math.exp(-down), first / second * math.exp(up) if up < math.inf else math.inf)


def _log(ratio: float) -> float:
    return math.inf if ratio == math.inf else math.log(ratio)


def _at_most(n: int, share: float) -> NDArray[np.float64]:
    """P(B ≤ k) for k = 0 … n − 1, where B is binomial of `n` and `share`."""
    log_factorials = np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, n + 1)))])
    k = np.arange(n)
    logs = log_factorials[n] - log_factorials[k] - log_factorials[n - k]
    return np.asarray(np.cumsum(np.exp(logs + k * math.log(share) + (n - k) * math.log1p(-share))))
