"""1 where the judge finds the answer correct, given question and reference. The asking is in `judging`."""

from __future__ import annotations

from anneal.api.metrics import Judged
from anneal_evaluator.metrics.scorer import Scorer


def scorer(options: Judged) -> Scorer:
    return Scorer(score=_only_a_judge, is_binary=True)


def _only_a_judge(answer: str, reference: str) -> float:
    raise ValueError("only a judge can tell")
