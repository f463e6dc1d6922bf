"""From scores to a judgement: estimates with bounds, then the gates of the spec on those bounds.

What a gate is and how it decides is in `anneal.api.verdicts`, shared with the operator; here are its numbers.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from anneal.api import power
from anneal.api.gates import Gate, Outcome
from anneal.api.runs import EvaluateRun
from anneal.api.verdicts import Measure, baseline_of, bound, claims_of, decide, decide_any, measure_of, verdict
from anneal_evaluator.epochs import each_once
from anneal_evaluator.errors import TOO_MANY_ERRORS, EvaluationError
from anneal_evaluator.held_out import HeldOutRow
from anneal_evaluator.metrics.scorer import Scorer
from anneal_evaluator.score import Answers
from anneal_evaluator.statistics import shares
from anneal_evaluator.statistics.bootstrap import Grouped, Groups, bootstrap_mean
from anneal_evaluator.statistics.interval import Interval
from anneal_evaluator.statistics.multiplicity import holm
from anneal_evaluator.taken import Taken, share_beyond, taken_by
from anneal_hosted.answers import REPEATABLE, StoredAnswer

Scores = NDArray[np.float64]
Method = Literal["Wilson", "ClopperPearson", "Tango", "Bootstrap", "ClusterBootstrap", "OrderStatistics", "Mover"]

_SHARE, _DIFFERENCE = Interval(0.0, 1.0), Interval(-1.0, 1.0)

UNDECIDED: Outcome = "Inconclusive"
_METHODS: dict[Measure, Method] = {"Ratio": "Mover", "Milliseconds": "OrderStatistics", "Cost": "Bootstrap"}
_CATEGORIES = 30  # at most, in the report
_EXAMPLES = 3
_WORDS = {
    "truncated": "cut off at the limit of tokens",
    "rejected": "refused",
    "timedOut": "too late",
    "declined": "declined by the model",
    "empty": "without any text",
    "unreadable": "not readable",
}
_ADVICE = {
    "truncated": "Raise generation.maxTokens (hosted.maxTokens for a hosted model, whose thinking counts), or"
    " policy.maxErrorRate where a model never ends its answers.",
    "rejected": "See the refusals above; shorten the rows that do not fit the model's context.",
    "timedOut": "Raise generation.timeoutSeconds, or give the server more CPU.",
    "declined": "A model that declines such questions is no baseline for them; raise policy.maxErrorRate to compare on"
    " the others.",
    "empty": "Raise hosted.maxTokens: thinking may have used it up.",
    "unreadable": "See the replies; baseUrl may not be an API of this kind.",
}


@dataclass(frozen=True)
class Estimate:
    """One metric of one model, the difference of two, or what their answers took (`anneal.api.verdicts.Measure`)."""

    n: int
    """Rows that it rests on."""
    value: float
    bounds: Interval
    variance: float
    """Of one row, for planning: never 0, since few rows may hide that they differ."""
    method: Method
    """How the bounds were found."""


@dataclass(frozen=True)
class Comparison:
    """Candidate against the baseline `model` on `metric` (both are indices), on the rows that both answered."""

    metric: int
    model: int
    difference: Estimate
    mid_p: float | None
    mde: float


@dataclass(frozen=True)
class ClaimDecision:
    """One of several claims of which any may hold."""

    claim: Gate
    outcome: Outcome
    """Passed where it holds after correction for their number, Failed where it fails by itself."""
    estimate: Estimate
    """With the bounds that the outcome rests on."""
    confidence: float
    """Of these bounds."""
    mde: float
    """Smallest true difference that so many rows detect with power 0.8 when this is the only claim that is true."""


@dataclass(frozen=True)
class GateDecision:
    """One gate of the spec, decided on `estimate`."""

    gate: Gate
    outcome: Outcome
    estimate: Estimate
    """Of the surest claim where there are several."""
    rows_needed: int | None
    claims: tuple[ClaimDecision, ...] = ()
    """All of several, in the order of the spec."""
    rests_on: tuple[int, ...] = ()
    """Of several claims those that hold, the surest first; where none does, the surest alone."""

    @property
    def told(self) -> Gate:
        """What `estimate` is of."""
        return self.claims[self.rests_on[0]].claim if self.rests_on else self.gate


@dataclass(frozen=True)
class Judgement:
    """Everything that the evaluation found."""

    results: dict[tuple[int, int], Estimate]
    """By (metric, model)."""
    comparisons: list[Comparison]
    gates: list[GateDecision]
    on_inconclusive: Literal["Hold", "Fail"] = "Hold"

    @property
    def verdict(self) -> Outcome:
        return verdict((decision.outcome for decision in self.gates), self.on_inconclusive)


def refuse_too_many_errors(run: EvaluateRun, answers: Answers, rows: Sequence[HeldOutRow] = ()) -> None:
    """Raises EvaluationError when a model has too few answers for its mean to be one of the held-out rows: of all, and
    of those of each metric that scores some alone. `rows` has the row of each answer.

    Retryable only when the errors that would repeat themselves are not too many by themselves.
    """
    _refuse(run, answers, "")
    for metric in run.metrics:
        if metric.only is not None:
            chosen = [i for i, row in enumerate(rows) if metric.covers(row.category)]
            of_metric = {model: [given[i] for i in chosen] for model, given in answers.items()}
            _refuse(run, of_metric, f" of metric {metric.name}")


def _refuse(run: EvaluateRun, answers: Answers, which: str) -> None:
    allowed = float(run.policy.max_error_rate)
    for model in run.models:
        given = each_once(run, answers[model])
        errors = [answer for answer in given if answer.outcome != "answered"]
        if len(errors) <= allowed * len(given) and len(errors) < len(given):
            continue
        kinds = Counter(answer.outcome for answer in errors)
        asked = "rows" if run.generation.epochs == 1 else "questions"
        counts = ", ".join(f"{count} {_WORDS[kind]}" for kind, count in kinds.most_common())
        examples = "; ".join(f"row {e.row}: {_shown(e)}" for e in errors[:_EXAMPLES])
        message = (
            f"No verdict: {model} has no usable answer to {len(errors)} of {len(given)} {asked}{which}"
            f" ({len(errors) / len(given):.1%}, allowed {allowed:.1%}): {counts}."
            f" {_ADVICE[kinds.most_common(1)[0][0]]} For example {examples}."
        )
        again = sum(1 for e in errors if e.outcome in REPEATABLE)
        raise EvaluationError(TOO_MANY_ERRORS, message, retryable=again <= allowed * len(given) and again < len(given))


def _shown(answer: StoredAnswer) -> str:
    said = f", it began {answer.text[:60]!r}" if answer.text else ""
    return f"{answer.detail[:160]}{said}"


def judge(
    run: EvaluateRun, scorers: Sequence[Scorer], scores: Scores, groups: Groups, taken: Taken | None = None
) -> Judgement:
    """Estimates and gates from scores of shape [metrics, models, rows], NaN where there is no answer.

    A row that was asked several times has the mean of its epochs for its score: it is one piece of evidence, and n, the
    MDE and the rows that are needed count rows.

    `groups`, of shape [rows], says which rows belong together, and so are not independent; `taken` is what gates on
    latency and cost are decided by, and is needed for them alone.
    """
    baselines = {m: _baselines(run, scorer) for m, scorer in enumerate(scorers)}
    samples = {
        (m, k): _Sample.alone(scores[m, k], groups, scorer)
        for m, scorer in enumerate(scorers)
        for k in (0, *baselines[m])
    }
    pairs = {
        (m, k): _Sample.paired(scores[m, 0], scores[m, k], groups, scorer)
        for m, scorer in enumerate(scorers)
        for k in baselines[m]
    }
    results = {at: _mean(run, sample) for at, sample in samples.items()}
    differences = {at: _mean_difference(run, sample) for at, sample in pairs.items()}
    return Judgement(
        results,
        [_compare(run, *at, pairs[at], difference) for at, difference in differences.items()],
        [
            _decide(run, gate, samples, differences)
            if gate.metric is not None
            else _decide_any(run, gate, pairs)
            if gate.any_of is not None
            else _decide_taken(run, gate, taken or Taken.of(run, dict.fromkeys(run.models, ()), groups[:0]))
            for gate in run.gates
        ],
        run.policy.on_inconclusive,
    )


def judge_categories(
    run: EvaluateRun, scorers: Sequence[Scorer], scores: Scores, groups: Groups, categories: Sequence[str | None]
) -> dict[str, Judgement]:
    """The same estimates on the rows of each category, the largest first: to look into, so without the gates."""
    ungated = run.model_copy(update={"gates": []})
    names = [name for name, _ in Counter(c for c in categories if c is not None).most_common(_CATEGORIES)]
    chosen = {name: np.array([c == name for c in categories]) for name in names}
    return {name: judge(ungated, scorers, scores[:, :, at], groups[at]) for name, at in chosen.items()}


def _baselines(run: EvaluateRun, scorer: Scorer) -> Sequence[int]:
    """The models that the candidate is compared with by a metric."""
    if scorer.over is None:
        return range(1, len(run.models))
    return [1 + [b.name for b in run.baselines].index(scorer.over)]


@dataclass(frozen=True)
class _Sample:
    """Scores, or differences of scores, of the rows that have one."""

    values: Scores
    grouped: Grouped
    is_binary: bool

    @classmethod
    def alone(cls, scores: Scores, groups: Groups, scorer: Scorer) -> _Sample:
        """Of one model. Means over epochs are 0 or 1 only where all epochs agree."""
        return cls._of(scores, groups, scorer.is_binary and _are_in(scores, 0, 1))

    @classmethod
    def paired(cls, candidate: Scores, baseline: Scores, groups: Groups, scorer: Scorer) -> _Sample:
        """Of two. What was won less what was lost is 1, 0 or -1 a row, as the difference of two 0/1 scores is."""
        differences = candidate - baseline
        if scorer.over is not None:
            return cls._of(differences, groups, _are_in(differences, -1, 0, 1))
        return cls._of(differences, groups, scorer.is_binary and _are_in(np.stack([candidate, baseline]), 0, 1))

    @classmethod
    def _of(cls, scores: Scores, groups: Groups, is_binary: bool) -> _Sample:  # noqa: FBT001 - a field
        there = ~np.isnan(scores)
        return cls(scores[there], Grouped.of(scores[there], groups[there]), is_binary)

    @property
    def n(self) -> int:
        return int(self.values.size)

    @property
    def is_independent(self) -> bool:
        """No two rows belong together."""
        return self.grouped.sums.size == self.n

    def count(self, value: float) -> int:
        return int((self.values == value).sum())


def _are_in(scores: Scores, *values: float) -> bool:
    """Whether there are no other values."""
    return bool(np.isin(scores[~np.isnan(scores)], values).all())


def _mean(run: EvaluateRun, sample: _Sample) -> Estimate:
    if not (sample.is_binary and sample.is_independent):
        return _bootstrap(run, sample, _SHARE)
    return _estimate(run, sample, shares.wilson(sample.count(1), sample.n, _confidence(run)), "Wilson")


def _demanded_mean(run: EvaluateRun, sample: _Sample) -> Estimate:
    """The mean for a gate, which may let a bad model pass no more often than stated whatever its true share is."""
    if not (sample.is_binary and sample.is_independent):
        return _bootstrap(run, sample, _SHARE)
    return _estimate(run, sample, shares.exact(sample.count(1), sample.n, _confidence(run)), "ClopperPearson")


def _mean_difference(run: EvaluateRun, sample: _Sample) -> Estimate:
    if not (sample.is_binary and sample.is_independent):
        return _bootstrap(run, sample, _DIFFERENCE)
    bounds = shares.paired_difference(sample.count(1), sample.count(-1), sample.n, _confidence(run))
    return _estimate(run, sample, bounds, "Tango")


def _bootstrap(run: EvaluateRun, sample: _Sample, scale: Interval) -> Estimate:
    chosen = run.statistics
    bounds = bootstrap_mean(sample.grouped, scale, _confidence(run), chosen.resamples, chosen.seed)
    return _estimate(run, sample, bounds, "Bootstrap" if sample.is_independent else "ClusterBootstrap")


def _estimate(run: EvaluateRun, sample: _Sample, bounds: Interval, method: Method) -> Estimate:
    mean = sample.grouped.mean
    variance = max(sample.grouped.square_around(mean), power.hidden_share(sample.n, _confidence(run)))
    return Estimate(sample.n, mean, bounds, variance, method)


def _compare(run: EvaluateRun, metric: int, model: int, sample: _Sample, difference: Estimate) -> Comparison:
    mid_p = None
    if sample.is_binary and sample.is_independent:
        mid_p = shares.mcnemar_mid_p(sample.count(1), sample.count(-1))
    return Comparison(metric, model, difference, mid_p, _mde(run, sample))


def _mde(run: EvaluateRun, sample: _Sample) -> float:
    return power.minimum_detectable_effect(sample.grouped.square_around(0.0), sample.n, _confidence(run))


def _decide(
    run: EvaluateRun,
    gate: Gate,
    samples: Mapping[tuple[int, int], _Sample],
    differences: Mapping[tuple[int, int], Estimate],
) -> GateDecision:
    metric, model = _compared(run, gate)
    estimate = differences[metric, model] if model else _demanded_mean(run, samples[metric, 0])
    outcome = decide(gate, estimate.bounds.lower, estimate.bounds.upper)
    return GateDecision(gate, outcome, estimate, _rows_needed(run, gate, estimate) if outcome == UNDECIDED else None)


def _compared(run: EvaluateRun, gate: Gate) -> tuple[int, int]:
    """(metric, model that is compared with, 0 for none)."""
    baseline = baseline_of(gate)
    model = 0 if baseline is None else 1 + [b.name for b in run.baselines].index(baseline)
    return next(i for i, m in enumerate(run.metrics) if m.name == gate.metric), model


def _decide_any(run: EvaluateRun, gate: Gate, pairs: Mapping[tuple[int, int], _Sample]) -> GateDecision:
    """A gate of several claims. Holm's method on intervals is that on p values: the lower bound at confidence 1 − 2α
    lies beyond the demand where the one-sided p is below α.
    """
    claims = claims_of(gate)
    compared = [pairs[_compared(run, claim)] for claim in claims]

    @cache
    def found(claim: int, among: int) -> Estimate:
        return _mean_difference(_sharing(run, among), compared[claim])

    def outcome(claim: int, among: int) -> Outcome:
        bounds = found(claim, among).bounds
        return decide(claims[claim], bounds.lower, bounds.upper)

    numbers, count = range(len(claims)), len(claims)
    holding = holm(count, lambda claim, among: outcome(claim, among) == "Passed")
    fails = [outcome(i, 1) == "Failed" for i in numbers]
    whole = decide_any([i in holding for i in numbers], fails)
    among = [holding.get(i, 1 if fails[i] else count - len(holding)) for i in numbers]
    told = tuple(
        ClaimDecision(
            claim,
            "Passed" if i in holding else "Failed" if fails[i] else UNDECIDED,
            found(i, among[i]),
            _confidence(_sharing(run, among[i])),
            _mde(_sharing(run, count), compared[i]),
        )
        for i, claim in enumerate(claims)
    )
    surest = sorted(numbers, key=lambda i: (fails[i], -_beyond(claims[i], found(i, count))))
    needed = None
    if whole == UNDECIDED:
        shared = [_rows_needed(_sharing(run, count), claims[i], found(i, count)) for i in numbers]
        needed = _rows_for_any(claims, told, shared)
    rests_on = tuple(i for i in surest if i in holding) or (surest[0],)
    return GateDecision(gate, whole, told[rests_on[0]].estimate, needed, told, rests_on)


def _sharing(run: EvaluateRun, among: int) -> EvaluateRun:
    """The run with the chance to err shared by so many claims, and as many more resamples for the thinner tails."""
    if among == 1:
        return run
    confidence, resamples = power.shared(_confidence(run), among), run.statistics.resamples * among
    changed = {"confidence": repr(confidence), "resamples": resamples}
    return run.model_copy(update={"statistics": run.statistics.model_copy(update=changed)})


def _beyond(claim: Gate, estimate: Estimate) -> float:
    """How far an estimate lies beyond the demand, in distances to its lower bound: it is shown above 1."""
    distance, width = estimate.value - bound(claim), estimate.value - estimate.bounds.lower
    return distance / width if width > 0 else math.copysign(math.inf, distance)


def _rows_for_any(claims: Sequence[Gate], found: Sequence[ClaimDecision], shared: Sequence[int | None]) -> int | None:
    """Rows that would decide a gate of several claims if what was seen is the truth: enough for one of those that seem
    to hold, or, where none does, for each to fail. `shared` are the rows that each claim needs at its share.
    """
    promising = [
        rows
        for claim, decision, rows in zip(claims, found, shared, strict=True)
        if decision.estimate.value > bound(claim)
    ]
    if promising:
        return min((rows for rows in promising if rows is not None), default=None)
    open_ = [rows for decision, rows in zip(found, shared, strict=True) if decision.outcome != "Failed"]
    return None if None in open_ else max(rows for rows in open_ if rows is not None)


def _decide_taken(run: EvaluateRun, gate: Gate, taken: Taken) -> GateDecision:
    """A gate on latency or cost."""
    found = taken_by(run, gate, taken)
    method: Method = _METHODS[measure_of(gate)]
    estimate = Estimate(found.n, found.value, found.bounds, 0.0, method)
    outcome = decide(gate, found.bounds.lower, found.bounds.upper)
    needed = None
    if outcome == UNDECIDED and method == "OrderStatistics" and found.n:
        seen, allowed = share_beyond(gate, taken)
        variances = (allowed * (1 - allowed), seen * (1 - seen))
        needed = power.rows_needed(abs(seen - allowed), *variances, _confidence(run))
    return GateDecision(gate, outcome, estimate, None if needed is None else max(needed, found.n + 1))


def _rows_needed(run: EvaluateRun, gate: Gate, estimate: Estimate) -> int | None:
    """Rows that would decide an undecided gate if what was seen is the truth; more than there were."""
    demanded, value = bound(gate), estimate.value
    variances = (estimate.variance, estimate.variance)
    if estimate.method == "ClopperPearson":
        variances = (demanded * (1 - demanded), value * (1 - value))
    needed = power.rows_needed(abs(value - demanded), *variances, _confidence(run))
    return None if needed is None else max(needed, estimate.n + 1)


def _confidence(run: EvaluateRun) -> float:
    return float(run.statistics.confidence)
