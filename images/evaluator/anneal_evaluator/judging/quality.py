"""Whether the judge of this run can be believed: what it showed on each metric, and whether that is enough."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from anneal.api.judging import JudgedRow
from anneal.api.runs import EvaluateRun
from anneal_evaluator.errors import JUDGE_UNRELIABLE, mistake
from anneal_evaluator.judging.protocols import settle
from anneal_evaluator.score import Answers
from anneal_evaluator.statistics.agreement import corrected_mean, corrected_share, kappa
from anneal_evaluator.statistics.bootstrap import Groups
from anneal_evaluator.statistics.interval import Interval
from anneal_evaluator.statistics.ranks import rank_correlation

Scores = NDArray[np.float64]


@dataclass(frozen=True)
class Agreement:
    """What the judge and what people say of the same labelled answers: scores of shape [labels], 0 to 1."""

    judged: Scores
    human: Scores

    @property
    def share(self) -> float:
        """Of labels where both say the same."""
        return float((self.judged == self.human).mean())


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
    agreement: Agreement | None
    corrected: tuple[float, Interval] | None
    """The candidate's score by the judgement of people, as far as labels tell."""

    def row(self) -> JudgedRow:
        """Its row of EvaluateData."""
        consistency, ties, bias = map(_number, (self.swap_consistency, self.ties, self.length_bias))
        value, lower, upper = "", "", ""
        if self.corrected is not None:
            value, bounds = _number(self.corrected[0]), self.corrected[1]
            lower, upper = _number(bounds.lower), _number(bounds.upper)
        labels, share, beyond_chance = 0, "", ""
        if (both := self.agreement) is not None:
            labels, share, beyond_chance = both.human.size, _number(both.share), _number(kappa(both.judged, both.human))
        head = (self.metric, self.n, self.errors, consistency, ties, bias)
        return *head, labels, share, beyond_chance, value, lower, upper


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"


def quality_of(
    run: EvaluateRun,
    metric: int,
    found: Sequence[Sequence[float]],
    scores: Scores,
    answers: Answers,
    agreement: Agreement | None,
    groups: Groups,
) -> Quality:
    """`found` are the scores of each answer or pair in every order that it was judged in; `scores`, of shape
    [models, answers], what came of them; `groups`, of shape [answers], says which belong together: those of the same
    rows, and of rows in groups. Then nothing is corrected, since that takes independent answers.
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
        agreement,
        _corrected(run, metric, scores[0], agreement) if np.unique(groups).size == groups.size else None,
    )


def _corrected(
    run: EvaluateRun, metric: int, candidate: Scores, agreement: Agreement | None
) -> tuple[float, Interval] | None:
    if agreement is None:
        return None
    there, confidence = candidate[~np.isnan(candidate)], float(run.statistics.confidence)
    is_share = run.metrics[metric].judged is not None or run.metrics[metric].no_refusal is not None
    correct = corrected_share if is_share else corrected_mean
    return correct(there, agreement.judged, agreement.human, confidence)


def refuse_disagreement(run: EvaluateRun, agreements: Mapping[int, Agreement]) -> None:
    """Raises EvaluationError when the judge and people say the same too seldom."""
    wanted = run.judge_quality.min_agreement if run.judge_quality else None
    for metric, both in agreements.items():
        if wanted is None or both.share >= float(wanted):
            continue
        raise mistake(
            JUDGE_UNRELIABLE,
            f"No verdict: on metric {run.metrics[metric].name} the judge says the same as people of {both.share:.1%} of"
            f" {both.human.size} labelled answers, and spec.judgeQuality.minAgreement demands {float(wanted):.1%}."
            " No other answer was judged. Choose another judge, or say in criteria what people go by.",
        )


def refuse_flips(run: EvaluateRun, qualities: Sequence[Quality]) -> None:
    """Raises EvaluationError when the judge contradicts itself too often."""
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
