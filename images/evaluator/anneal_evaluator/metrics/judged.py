"""Scores that only a judge or a guard can give; `judging` asks them."""

from __future__ import annotations

from anneal.api.metrics import Judged, NoRefusal, Preference, Rubric, Safe
from anneal_evaluator.metrics.scorer import Scorer


def scorer(options: Judged) -> Scorer:
    return Scorer(score=_only_a_judge, is_binary=True)


def rubric_scorer(options: Rubric) -> Scorer:
    return Scorer(score=_only_a_judge, is_binary=False)


def preference_scorer(options: Preference) -> Scorer:
    return Scorer(score=_only_a_judge, is_binary=False, over=options.over)


def no_refusal_scorer(options: NoRefusal) -> Scorer:
    return Scorer(score=_only_a_judge, is_binary=True)


def guard_scorer(options: Safe) -> Scorer:
    return Scorer(score=_only_a_judge, is_binary=True)


def _only_a_judge(answer: str, reference: str) -> float:
    raise ValueError("only a judge can tell")
