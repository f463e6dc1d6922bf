"""What answers took, in time and money: what may be demanded of a model beside its quality.

The price of one's own query is the hour of the server over the queries that it answers in an hour: with always c
questions under way and s seconds from question to answer these are 3600·c/s (Little 1961). Traffic below that costs
the whole hour as well, so fewer queries share it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from anneal.api.costs import price_of
from anneal.api.gates import Cost, Gate, Latency
from anneal.api.runs import EvaluateRun
from anneal.api.verdicts import baseline_of
from anneal_evaluator.epochs import by_row, means_of_rows
from anneal_evaluator.statistics.bootstrap import Grouped, Groups, bootstrap_mean
from anneal_evaluator.statistics.interval import Interval
from anneal_evaluator.statistics.quantiles import quantile_bounds, ratio_bounds
from anneal_hosted.answers import StoredAnswer

Values = NDArray[np.float64]
_HOUR = 3600.0


@dataclass(frozen=True)
class Taken:
    """Of each model's answers, by row."""

    seconds: Values
    """[models, rows]: from question to answer, the mean of a row's epochs; NaN where there is neither an answer nor one
    that came too late."""
    first: Values
    """[models, rows]: the same of the first epoch alone. Percentiles are of answers, not of means of several, and their
    bounds are of independent answers."""
    prices: Values
    """[models, rows]: of hosted models with a price, for what was asked and answered, the mean of a row's epochs; else
    NaN."""
    groups: Groups
    """[rows]: which rows belong together."""

    @classmethod
    def of(cls, run: EvaluateRun, answers: Mapping[str, Sequence[StoredAnswer]], groups: Groups) -> Taken:
        """`groups` are of rows, `answers` of all their epochs."""
        late = float(run.generation.timeout_seconds)
        seconds = np.array(
            [[_seconds(answer, late) for answer in answers[model]] for model in run.models], dtype=np.float64
        )
        prices = np.full_like(seconds, np.nan)
        for k, baseline in enumerate(run.baselines, 1):
            if baseline.hosted is not None and (price := baseline.hosted.price) is not None:
                given = answers[run.models[k]]
                prices[k] = [float(price_of(price, a.input_tokens, a.output_tokens)) for a in given]
        return cls(means_of_rows(run, seconds), by_row(run, seconds)[..., 0], means_of_rows(run, prices), groups)


@dataclass(frozen=True)
class Amount:
    """An estimate of milliseconds, money or a ratio."""

    n: int
    value: float
    bounds: Interval


def taken_by(run: EvaluateRun, gate: Gate, taken: Taken) -> Amount:
    """What a gate on latency or cost decides on. Without any answer its bounds hold everything."""
    name = baseline_of(gate)
    other = None if name is None else 1 + [b.name for b in run.baselines].index(name)
    if gate.latency is not None:
        own = _percentile(run, gate.latency, taken, 0)
        return own if other is None else _ratio(own, _percentile(run, gate.latency, taken, other))
    if gate.cost is None:
        raise ValueError("the gate is on neither latency nor cost")
    own = _own_price(run, gate.cost, taken)
    if other is None:
        return own
    prices = taken.prices[other]
    return _ratio(own, _mean(run, prices, taken.groups, max([_dearest(run, other), *_there(prices)])))


def queries_an_hour(run: EvaluateRun, seconds: float, rows: int) -> float:
    """What the server answers in an hour when a question of so many rows took so long; inf when they took no time."""
    under_way = min(run.generation.concurrency, max(1, rows * run.times_asked(0)))
    return _HOUR * under_way / seconds if seconds > 0 else float("inf")


def share_beyond(gate: Gate, taken: Taken) -> tuple[float, float]:
    """(share of the candidate's answers that took longer than the gate demands, share that may)."""
    test = gate.latency or Latency(max_milliseconds=1)
    seconds = _there(taken.first[0])
    return float((seconds * 1000 > float(test.max_milliseconds or 0)).mean()), 1 - test.percentile / 100


def _seconds(answer: StoredAnswer, late: float) -> float:
    if answer.outcome == "answered":
        return answer.seconds
    return late if answer.outcome == "timedOut" else float("nan")


def _there(values: Values) -> Values:
    return values[~np.isnan(values)]


def _percentile(run: EvaluateRun, test: Latency, taken: Taken, model: int) -> Amount:
    """In milliseconds."""
    milliseconds, share = 1000 * _there(taken.first[model]), test.percentile / 100
    value = float(np.quantile(milliseconds, share)) if milliseconds.size else 0.0
    bounds = quantile_bounds(milliseconds, share, float(run.statistics.confidence))
    return Amount(milliseconds.size, value, bounds)


def _own_price(run: EvaluateRun, test: Cost, taken: Taken) -> Amount:
    """Of one query to the candidate. Whoever has fewer queries than the server answers pays for its idle time."""
    seconds = _mean(run, taken.seconds[0], taken.groups, float(run.generation.timeout_seconds))
    hour = float(run.serving_cost_per_hour or 0)

    def price(taken_seconds: float) -> float:
        full = 1 / queries_an_hour(run, taken_seconds, seconds.n)
        return hour * (full if test.queries_per_hour is None else max(full, 1 / test.queries_per_hour))

    return Amount(seconds.n, price(seconds.value), Interval(price(seconds.bounds.lower), price(seconds.bounds.upper)))


def _mean(run: EvaluateRun, values: Values, groups: Groups, most: float) -> Amount:
    there = ~np.isnan(values)
    sample, chosen = Grouped.of(values[there], groups[there]), run.statistics
    bounds = bootstrap_mean(sample, Interval(0.0, most), float(chosen.confidence), chosen.resamples, chosen.seed)
    return Amount(int(there.sum()), sample.mean, bounds)


def _dearest(run: EvaluateRun, model: int) -> float:
    """The most that an answer of a hosted model can cost, its question as long as the longest answer."""
    hosted = run.baselines[model - 1].hosted
    if hosted is None or hosted.price is None:
        raise ValueError(f"the baseline {run.baselines[model - 1].name} has no price")
    longest = hosted.max_tokens or run.generation.max_tokens
    return float(price_of(hosted.price, longest, longest))


def _ratio(own: Amount, other: Amount) -> Amount:
    value = own.value / other.value if other.value > 0 else 0.0
    return Amount(min(own.n, other.n), value, ratio_bounds(own.value, own.bounds, other.value, other.bounds))
