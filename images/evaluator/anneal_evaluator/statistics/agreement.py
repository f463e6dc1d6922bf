"""How far a judge and people say the same, and what that makes of the judge's scores."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from anneal.api.power import z_two_sided
from anneal_evaluator.statistics.bootstrap import t_two_sided
from anneal_evaluator.statistics.interval import Interval

Values = NDArray[np.float64]
#: Labels of each kind, right and wrong, without which a judge's two error rates are not known well enough.
ENOUGH_LABELS = 5


def kappa(one: Values, other: Values) -> float | None:
    """Cohen's kappa of two arrays of shape [n], disagreement weighed by its square (Cohen 1968).

    Of 0/1 values that is the kappa of 1960. None where both always say one and the same thing.
    """
    expected = float(np.square(one[:, np.newaxis] - other).mean())
    return 1 - float(np.square(one - other).mean()) / expected if expected > 0 else None


def corrected_share(scores: Values, judged: Values, human: Values, confidence: float) -> tuple[float, Interval] | None:
    """The share that people would find right, where a judge finds `scores` (0/1, of shape [n]), and its bounds.

    From how often the judge errs on answers that people found right, and on those that they found wrong: `judged` and
    `human`, both 0/1 and of shape [labels]. Estimate of Rogan & Gladen (1978); interval of Lang & Reiczigel (2014),
    which knows that the error rates are estimates too. Rows must be independent. None with too few labels, or when the
    judge is no better than chance.
    """
    right, wrong = judged[human == 1], judged[human == 0]
    if min(right.size, wrong.size) < ENOUGH_LABELS or scores.size == 0:
        return None
    z = z_two_sided(confidence)
    found = (right.mean() + (1 - wrong.mean())) - 1
    sensitivity, specificity = (right.sum() + 1) / (right.size + 2), (wrong.size - wrong.sum() + 1) / (wrong.size + 2)
    youden = sensitivity + specificity - 1
    if min(found, youden) <= 0:
        return None
    n = scores.size + z * z
    share = (scores.sum() + z * z / 2) / n
    true = (share + specificity - 1) / youden
    spread = sensitivity * (1 - sensitivity) / right.size, specificity * (1 - specificity) / wrong.size
    shift = 2 * z * z * (true * spread[0] - (1 - true) * spread[1])
    variance = share * (1 - share) / n + true**2 * spread[0] + (1 - true) ** 2 * spread[1]
    half = z * math.sqrt(variance) / youden
    value = (scores.mean() - wrong.mean()) / found
    return _within(float(value), float(true + shift - half), float(true + shift + half))


def corrected_mean(scores: Values, judged: Values, human: Values, confidence: float) -> tuple[float, Interval] | None:
    """The mean that people would give, where a judge gives `scores` (0 to 1, of shape [n]), and its bounds.

    The judge's mean, plus what people gave more than the judge on labelled answers (prediction-powered inference,
    Angelopoulos et al. 2023): `judged` and `human`, of shape [labels], must be of such answers as `scores` are of. Rows
    must be independent. None with fewer than two of either.
    """
    more = human - judged
    if min(scores.size, more.size) < 2:
        return None
    variance = scores.var(ddof=1) / scores.size + more.var(ddof=1) / more.size
    half = t_two_sided(confidence, min(scores.size, more.size) - 1) * math.sqrt(variance)
    value = float(scores.mean() + more.mean())
    return _within(value, value - half, value + half)


def _within(value: float, lower: float, upper: float) -> tuple[float, Interval]:
    lower, upper = min(max(lower, 0.0), 1.0), min(max(upper, 0.0), 1.0)
    return min(max(value, 0.0), 1.0), Interval(lower, upper)
