"""From scores to a judgement: estimates with bounds, then the gates of the spec on those bounds.

What a gate is and how it decides is in `anneal.api.verdicts`, shared with the operator; here are its numbers.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from anneal.api.gates import Gate, Outcome
from anneal.api.runs import EvaluateRun
from anneal.api.verdicts import baseline_of, decide, verdict
from anneal_evaluator import statistics
from anneal_evaluator.answers import REPEATABLE, StoredAnswer
from anneal_evaluator.errors import TOO_MANY_ERRORS, EvaluationError
from anneal_evaluator.metrics.scorer import Scorer
from anneal_evaluator.score import Answers
from anneal_evaluator.statistics import Interval

Scores = NDArray[np.float64]

_EXAMPLES = 3
_WORDS = {"truncated": "cut off at generation.maxTokens", "rejected": "refused", "timedOut": "too late"}
_ADVICE = {
    "truncated": "Raise generation.maxTokens, or policy.maxErrorRate where a model never ends its answers.",
    "rejected": "See the refusals above; shorten the rows that do not fit the model's context.",
    "timedOut": "Raise generation.timeoutSeconds or give the server more CPU.",
}


@dataclass(frozen=True)
class Estimate:
    """One metric of one model, or the difference of two."""

    n: int
    """Rows that it rests on."""
    value: float
    bounds: Interval
    variance: float
    """Of one row, for planning: never 0, since few rows may hide that they differ."""


@dataclass(frozen=True)
class Comparison:
    """Candidate against the baseline `model` on `metric` (both are indices), on the rows that both answered."""

    metric: int
    model: int
    difference: Estimate
    mid_p: float | None
    mde: float
    rows_needed: int | None


@dataclass(frozen=True)
class GateDecision:
    """One gate of the spec, decided on `estimate`."""

    gate: Gate
    outcome: Outcome
    estimate: Estimate
    rows_needed: int | None


@dataclass(frozen=True)
class Judgement:
    """Everything that the evaluation found."""

    results: dict[tuple[int, int], Estimate]
    """By (metric, model)."""
    comparisons: list[Comparison]
    gates: list[GateDecision]

    @property
    def verdict(self) -> Outcome:
        return verdict(decision.outcome for decision in self.gates)


def refuse_too_many_errors(run: EvaluateRun, answers: Answers) -> None:
    """Raises EvaluationError when a model has too few answers for its mean to be one of the held-out rows.

    Retryable only when the errors that would repeat themselves are not too many by themselves.
    """
    allowed = float(run.policy.max_error_rate)
    for model in run.models:
        given = answers[model]
        errors = [answer for answer in given if answer.outcome != "answered"]
        if len(errors) <= allowed * len(given) and len(errors) < len(given):
            continue
        kinds = Counter(answer.outcome for answer in errors)
        counts = ", ".join(f"{count} {_WORDS[kind]}" for kind, count in kinds.most_common())
        examples = "; ".join(f"row {e.row}: {_shown(e)}" for e in errors[:_EXAMPLES])
        message = (
            f"No verdict: {model} has no usable answer to {len(errors)} of {len(given)} rows"
            f" ({len(errors) / len(given):.1%}, allowed {allowed:.1%}): {counts}."
            f" {_ADVICE[kinds.most_common(1)[0][0]]} For example {examples}."
        )
        again = sum(1 for e in errors if e.outcome in REPEATABLE)
        raise EvaluationError(TOO_MANY_ERRORS, message, retryable=again <= allowed * len(given) and again < len(given))


def _shown(answer: StoredAnswer) -> str:
    said = f", it began {answer.text[:60]!r}" if answer.text else ""
    return f"{answer.detail[:160]}{said}"


def judge(run: EvaluateRun, scorers: Sequence[Scorer], scores: Scores) -> Judgement:
    """Estimates and gates from scores of shape [metrics, models, rows], NaN where there is no answer."""
    models = range(len(run.models))
    results = {(m, k): _mean(run, scores[m, k], scorer) for m, scorer in enumerate(scorers) for k in models}
    differences = {
        (m, k): _mean_difference(run, scores[m, 0] - scores[m, k]) for m in range(len(scorers)) for k in models[1:]
    }
    gates = [_decide(run, gate, _subject(run, gate, results, differences)) for gate in run.gates]
    comparisons = [
        _compare(run, m, k, scores[m, 0] - scores[m, k], scorers[m], gates, difference)
        for (m, k), difference in differences.items()
    ]
    return Judgement(results, comparisons, gates)


def _mean(run: EvaluateRun, scores: Scores, scorer: Scorer) -> Estimate:
    seen = _without_gaps(scores)
    if scorer.is_binary:
        bounds = statistics.wilson(int(seen.sum()), seen.size, float(run.statistics.confidence))
    else:
        bounds = _bootstrap(run, seen, Interval(0.0, 1.0))
    return _estimate(run, seen, bounds)


def _mean_difference(run: EvaluateRun, differences: Scores) -> Estimate:
    pairs = _without_gaps(differences)
    return _estimate(run, pairs, _bootstrap(run, pairs, Interval(-1.0, 1.0)))


def _estimate(run: EvaluateRun, values: Scores, bounds: Interval) -> Estimate:
    seen = values.size > 0
    hidden = statistics.hidden_share(values.size, float(run.statistics.confidence))
    variance = max(float(values.var()), hidden) if seen else 1.0
    return Estimate(values.size, float(values.mean()) if seen else 0.0, bounds, variance)


def _compare(
    run: EvaluateRun,
    metric: int,
    model: int,
    differences: Scores,
    scorer: Scorer,
    gates: Sequence[GateDecision],
    estimate: Estimate,
) -> Comparison:
    pairs = _without_gaps(differences)
    mean_square = float(np.square(pairs).mean()) if pairs.size else 0.0
    return Comparison(
        metric=metric,
        model=model,
        difference=estimate,
        mid_p=statistics.mcnemar_mid_p(int((pairs > 0).sum()), int((pairs < 0).sum())) if scorer.is_binary else None,
        mde=statistics.minimum_detectable_effect(mean_square, pairs.size, float(run.statistics.confidence)),
        rows_needed=max((g.rows_needed for g in gates if g.estimate is estimate and g.rows_needed), default=None),
    )


def _subject(
    run: EvaluateRun,
    gate: Gate,
    results: Mapping[tuple[int, int], Estimate],
    differences: Mapping[tuple[int, int], Estimate],
) -> Estimate:
    """The estimate that a gate is about."""
    metric = [m.name for m in run.metrics].index(gate.metric)
    baseline = baseline_of(gate)
    if baseline is None:
        return results[metric, 0]
    return differences[metric, 1 + [b.name for b in run.baselines].index(baseline)]


def _decide(run: EvaluateRun, gate: Gate, estimate: Estimate) -> GateDecision:
    outcome = decide(gate, estimate.bounds.lower, estimate.bounds.upper)
    if outcome != "Inconclusive":
        return GateDecision(gate, outcome, estimate, None)
    bound, value = _bound(gate), estimate.value
    if gate.absolute is not None:
        # 0/1 scores have the largest variance that scores of this mean can have.
        variances = (bound * (1 - bound), value * (1 - value))
    else:
        variances = (estimate.variance, estimate.variance)
    needed = statistics.rows_needed(abs(value - bound), *variances, float(run.statistics.confidence))
    return GateDecision(gate, outcome, estimate, None if needed is None else max(needed, estimate.n + 1))


def _without_gaps(scores: Scores) -> Scores:
    return scores[~np.isnan(scores)]


def _bound(gate: Gate) -> float:
    """The value that the interval must lie beyond."""
    if gate.absolute is not None:
        return float(gate.absolute.min_lower_bound)
    if gate.superiority is not None:
        return float(gate.superiority.min_effect)
    if gate.non_inferiority is not None:
        return -float(gate.non_inferiority.margin)
    raise ValueError(f"the gate on metric {gate.metric} has no test")


def _bootstrap(run: EvaluateRun, values: Scores, scale: Interval) -> Interval:
    chosen = run.statistics
    return statistics.bootstrap_mean(values, scale, float(chosen.confidence), chosen.resamples, chosen.seed)
