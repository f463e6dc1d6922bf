"""1 where the answer, stripped of surrounding white space, equals the reference."""

from __future__ import annotations

from anneal.api.metrics import ExactMatch
from anneal_evaluator.metrics.scorer import Scorer


def scorer(options: ExactMatch) -> Scorer:
    return Scorer(score=_score, is_binary=True)


def _score(answer: str, reference: str) -> float:
    return float(answer.strip() == reference.strip())
