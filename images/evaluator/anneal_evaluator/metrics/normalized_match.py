"""1 where answer and reference are equal once case, punctuation, articles and spacing are taken away.

The normalisation is that of SQuAD (Rajpurkar et al. 2016), with Unicode's NFKC, case folding and punctuation in
place of ASCII's, so that it does for other languages what it does for English.
"""

from __future__ import annotations

import unicodedata

from anneal.api.metrics import NormalizedMatch
from anneal_evaluator.metrics.scorer import Scorer

ARTICLES = frozenset({"a", "an", "the"})


def scorer(options: NormalizedMatch) -> Scorer:
    return Scorer(score=_score, is_binary=True)


def words(text: str) -> list[str]:
    """The normalised words of a text; where nothing but punctuation and articles is left, the bare text."""
    folded = unicodedata.normalize("NFKC", text).casefold()
    bare = "".join(letter for letter in folded if not unicodedata.category(letter).startswith("P"))
    return [word for word in bare.split() if word not in ARTICLES] or folded.split()


def _score(answer: str, reference: str) -> float:
    return float(words(answer) == words(reference))
