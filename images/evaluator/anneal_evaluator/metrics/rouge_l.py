"""ROUGE-L (Lin 2004): F-measure of the longest common subsequence of words.

Precision and recall weigh the same, as in Google's rouge-score, whose values these are for English text without
stemming. Words are runs of letters and digits of any script; that library sees ASCII alone.
"""

from __future__ import annotations

import re

from anneal.api.metrics import RougeL
from anneal_evaluator.metrics.scorer import Scorer

_WORD = re.compile(r"[^\W_]+")
#: Words of one text that are compared: the time is the product of both lengths.
_LONGEST = 5000


def scorer(options: RougeL) -> Scorer:
    return Scorer(score=_score, is_binary=False)


def _score(answer: str, reference: str) -> float:
    said, wanted = (_WORD.findall(text.lower())[:_LONGEST] for text in (answer, reference))
    common = _common(said, wanted)
    return 2 * common / (len(said) + len(wanted)) if common else 0.0


def _common(one: list[str], other: list[str]) -> int:
    """Length of the longest common subsequence, by dynamic programming over one row."""
    row = [0] * (len(other) + 1)
    for word in one:
        diagonal = 0
        for j, candidate in enumerate(other, 1):
            above = row[j]
            row[j] = diagonal + 1 if word == candidate else max(above, row[j - 1])
            diagonal = above
    return row[-1]
