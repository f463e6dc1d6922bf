"""The bootstrap: bounds of a mean whatever the scores are, and of rows that are not independent.

- What is drawn again is the group: rows of one document or one conversation come and go together (cluster bootstrap,
  Davison & Hinkley 1997, 3.8). Rows without a group are groups of one.
- The percentiles are taken a little further out (expanded percentiles, Hesterberg 2015), as a t interval goes further
  than a normal one: plain percentiles are too narrow by about the factor √((n − 1)/n)·z/t.
- Where fewer than ten groups differ from the rest, what was seen says little about what was not; where none does, the
  interval would have no width and prove anything. Then two pseudo-groups, one at each end of the scale, join in, as
  Bonett & Price (2012) add them for paired proportions, and the wider bound counts on each side.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from anneal.api.power import z_two_sided
from anneal_evaluator.statistics.interval import Interval

#: Groups that must differ from the rest before resamples of what was seen are enough.
ENOUGH_DIFFER = 10
_CELLS = 4_000_000  # of one block of resamples, to bound memory

Values = NDArray[np.float64]
Groups = NDArray[np.int64]


@dataclass(frozen=True)
class Grouped:
    """Values of rows, summed up by group: `sums` and `sizes` have one entry per group."""

    sums: Values
    sizes: Values

    @classmethod
    def of(cls, values: Values, groups: Groups) -> Grouped:
        """`values` and `groups` (any number that says which rows belong together) are of shape [rows]."""
        _, index = np.unique(groups, return_inverse=True)
        sums, sizes = np.bincount(index, weights=values), np.bincount(index)
        return cls(sums.astype(np.float64), sizes.astype(np.float64))

    @property
    def n(self) -> int:
        """Rows."""
        return int(self.sizes.sum())

    @property
    def mean(self) -> float:
        """Over rows, not over groups; 0 without any."""
        return float(self.sums.sum() / self.sizes.sum()) if self.sums.size else 0.0

    def square_around(self, centre: float) -> float:
        """n times the variance that the mean has when the truth is `centre`; of groups of one, the variance of a row.

        Σ(sum − size·centre)²/n: what rows have in common within their group adds up, so it counts more.
        """
        return float(np.square(self.sums - self.sizes * centre).sum() / self.n) if self.sums.size else 0.0

    def with_ends(self, scale: Interval) -> Grouped:
        """The same with two pseudo-groups of common size, one at each end of the scale."""
        size = float(self.sizes.mean())
        return Grouped(
            np.append(self.sums, [size * scale.lower, size * scale.upper]), np.append(self.sizes, [size, size])
        )


def bootstrap_mean(sample: Grouped, scale: Interval, confidence: float, resamples: int, seed: int) -> Interval:
    """Bounds of the mean over rows, whose possible range is `scale`; all of that when there are no rows."""
    if sample.sums.size == 0:
        return scale
    means, counts = np.unique(sample.sums / sample.sizes, return_counts=True)
    alone = _percentiles(sample, confidence, resamples, seed)
    if sample.sums.size - counts.max() >= ENOUGH_DIFFER and means.size > 1:
        return alone
    widened = _percentiles(sample.with_ends(scale), confidence, resamples, seed)
    return Interval(min(alone.lower, widened.lower), max(alone.upper, widened.upper))


def _percentiles(sample: Grouped, confidence: float, resamples: int, seed: int) -> Interval:
    """Expanded percentiles of the means of resamples. Equal groups share a cell of a multinomial, which is the same
    distribution as drawing groups one by one and much less work where scores are few.
    """
    kinds, counts = np.unique(np.stack([sample.sums, sample.sizes]), axis=1, return_counts=True)
    groups = sample.sums.size
    rng = np.random.default_rng(seed)
    block = max(1, _CELLS // counts.size)
    means = []
    for done in range(0, resamples, block):
        drawn = rng.multinomial(groups, counts / groups, size=min(block, resamples - done))
        means.append((drawn @ kinds[0]) / (drawn @ kinds[1]))
    further = math.sqrt(groups / (groups - 1)) * t_two_sided(confidence, groups - 1) if groups > 1 else math.inf
    tail = NormalDist().cdf(-further) if math.isfinite(further) else 0.0
    lower, upper = np.quantile(np.concatenate(means), [tail, 1 - tail])
    return Interval(float(lower), float(upper))


def t_two_sided(confidence: float, degrees: int) -> float:
    """Quantile of Student's t for a two-sided interval, from the normal one (Abramowitz & Stegun 1964, 26.7.5).

    Right to 1 % from 5 degrees of freedom on at a confidence of 0.99, far better for more or less.
    """
    z = z_two_sided(confidence)
    terms = (
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
    )
    return z + sum(term / float(degrees) ** power for power, term in enumerate(terms, 1))
