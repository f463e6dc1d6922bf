"""Harmonic mean of word precision and recall of the normalised answer, as in SQuAD (Rajpurkar et al. 2016)."""

from __future__ import annotations

from collections import Counter

from anneal.api.metrics import TokenF1
from anneal_evaluator.metrics.normalized_match import words
from anneal_evaluator.metrics.scorer import Scorer


def scorer(options: TokenF1) -> Scorer:
    return Scorer(score=_score, is_binary=False)


def _score(answer: str, reference: str) -> float:
    said, wanted = words(answer), words(reference)
    if not said or not wanted:
        return float(said == wanted)
    common = sum((Counter(said) & Counter(wanted)).values())
    return 2 * common / (len(said) + len(wanted))
