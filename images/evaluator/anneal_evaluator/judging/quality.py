"""Whether the judge of this run can be believed: what it showed on each metric, and whether that is enough."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from anneal.api.runs import EvaluateRun, JudgedRow
from anneal_evaluator.errors import JUDGE_UNRELIABLE, mistake
from anneal_evaluator.judging.protocols import settle
from anneal_evaluator.score import Answers
from anneal_evaluator.statistics.ranks import rank_correlation

Scores = NDArray[np.float64]


@dataclass(frozen=True)
class Quality:
    """The judge's work on the metric with this index; None for what cannot be told."""

    metric: int
    n: int
    """Answers or pairs judged."""
    errors: int
    """Of them without a verdict."""
    swap_consistency: float | None
    ties: float | None
    length_bias: float | None

    def row(self) -> JudgedRow:
        """Its row of EvaluateData."""
        consistency, ties, bias = map(_number, (self.swap_consistency, self.ties, self.length_bias))
        return self.metric, self.n, self.errors, consistency, ties, bias


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"


def quality_of(
    run: EvaluateRun, metric: int, found: Sequence[Sequence[float]], scores: Scores, answers: Answers
) -> Quality:
    """`found` are the scores of each answer or pair in every order that it was judged in; `scores`, of shape
    [models, rows], what came of them.
    """
    settled = [settle(orders) for orders in found]
    pairs = [orders for orders, score in zip(found, settled, strict=True) if len(orders) > 1 and not np.isnan(score)]
    consistent = sum(1 for orders in pairs if len(set(orders)) == 1)
    ties = sum(1 for orders in pairs if settle(orders) == 0.5)
    return Quality(
        metric,
        len(found),
        int(np.isnan(settled).sum()),
        consistent / len(pairs) if pairs else None,
        ties / len(pairs) if pairs else None,
        _length_bias(run, scores, answers),
    )


def refuse_bad_judge(run: EvaluateRun, qualities: Sequence[Quality]) -> None:
    """Raises EvaluationError when the judge shows less than spec.judgeQuality asks for."""
    wanted = run.judge_quality.min_swap_consistency if run.judge_quality else None
    for quality in qualities:
        seen = quality.swap_consistency
        if wanted is None or seen is None or seen >= float(wanted):
            continue
        raise mistake(
            JUDGE_UNRELIABLE,
            f"No verdict: on metric {run.metrics[quality.metric].name} the judge found the same in both orders for"
            f" {seen:.1%} of {quality.n - quality.errors} pairs, and spec.judgeQuality.minSwapConsistency demands"
            f" {float(wanted):.1%}: it goes by the place of an answer more than by its text. Choose another judge, or"
            " say in criteria what makes an answer better.",
        )


def _length_bias(run: EvaluateRun, scores: Scores, answers: Answers) -> float | None:
    """Over all baselines: the rank correlation of differences in length with differences in score."""
    lengths = np.array([[len(answer.text) for answer in answers[model]] for model in run.models], dtype=np.float64)
    longer, better = (lengths[0] - lengths[1:]).ravel(), (scores[0] - scores[1:]).ravel()
    there = ~np.isnan(better)
    return rank_correlation(longer[there], better[there])
