"""Scores that only a judge can give: correct or not, a grade, or which of two is preferred; `judging` asks it."""

from __future__ import annotations

from anneal.api.metrics import Judged, Preference, Rubric
from anneal_evaluator.metrics.scorer import Scorer


def scorer(options: Judged) -> Scorer:
    return Scorer(score=_only_a_judge, is_binary=True)


def rubric_scorer(options: Rubric) -> Scorer:
    return Scorer(score=_only_a_judge, is_binary=False)


def preference_scorer(options: Preference) -> Scorer:
    return Scorer(score=_only_a_judge, is_binary=False, over=options.over)


def _only_a_judge(answer: str, reference: str) -> float:
    raise ValueError("only a judge can tell")
