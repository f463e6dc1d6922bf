"""chrF (Popović 2015): F-measure of character n-grams, n = 1 to 6, recall weighing twice as much as precision.

The value is that of sacrebleu's sentence-level chrF2, divided by 100: white space is left out, and orders that either
text is too short for do not count.
"""

from __future__ import annotations

from collections import Counter

from anneal.api.metrics import ChrF
from anneal_evaluator.metrics.scorer import Scorer

_ORDERS, _BETA_SQUARED = range(1, 7), 4


def scorer(options: ChrF) -> Scorer:
    return Scorer(score=_score, is_binary=False)


def _score(answer: str, reference: str) -> float:
    said, wanted = ("".join(text.split()) for text in (answer, reference))
    precisions, recalls = [], []
    for n in _ORDERS:
        found, expected = _grams(said, n), _grams(wanted, n)
        if found and expected:
            common = (found & expected).total()
            precisions.append(common / found.total())
            recalls.append(common / expected.total())
    if not precisions:
        return 0.0
    precision, recall = sum(precisions) / len(precisions), sum(recalls) / len(recalls)
    if precision + recall == 0:
        return 0.0
    return (1 + _BETA_SQUARED) * precision * recall / (_BETA_SQUARED * precision + recall)


def _grams(text: str, n: int) -> Counter[str]:
    return Counter(text[i : i + n] for i in range(len(text) - n + 1))
