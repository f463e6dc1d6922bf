"""Whether two things rise together, whatever their scales."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]


def rank_correlation(one: Values, other: Values) -> float | None:
    """Spearman's rank correlation of two arrays of the same shape [n], equal values sharing their mean rank.

    None where it cannot be told: of fewer than three pairs, or where one of the two is all the same.
    """
    ranks, others = _ranks(one), _ranks(other)
    if one.size < 3 or np.ptp(ranks) == 0 or np.ptp(others) == 0:
        return None
    return float(np.corrcoef(ranks, others)[0, 1])


def _ranks(values: Values) -> Values:
    _, kind, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return np.asarray((last - (counts - 1) / 2)[kind], dtype=np.float64)
