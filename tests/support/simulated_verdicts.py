"""Simulated evaluations through the shipped decision code: how often it is wrong, and how often it sees what is there.

A cell draws rows, or groups of rows, from a few kinds with known probabilities, so that the truth is known. Evaluations
that drew the same counts get the same judgement, so each is judged once: nothing is approximated, and ten thousand
evaluations take seconds where rows differ in few ways. Each resamples with a seed of its own, since by one seed all
would err to the same side, and 1,000 times, the least that the API allows.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy import special, stats
from tests.unit.evaluator.builders import evaluate_run

from anneal.api.runs import EvaluateRun
from anneal_evaluator.decide import Estimate, Judgement, judge
from anneal_evaluator.judging.protocols import settle
from anneal_evaluator.metrics import scorer_of

Floats = NDArray[np.float64]
PAIR = {"models": ["candidate", "base"], "baselines": [{"name": "base", "fromCandidate": {}}]}
ALONE: dict[str, Any] = {"models": ["candidate"], "baselines": []}
EXACT, GRADED = {"name": "accuracy", "exactMatch": {}}, {"name": "accuracy", "f1": {}}


@dataclass(frozen=True)
class Cell:
    """One setting, simulated."""

    run: EvaluateRun
    kinds: Sequence[Floats]
    """Scores of shape [models, rows of one draw] for each kind."""
    chances: Floats
    """Probability of each kind, of shape [kinds], or [simulations, kinds] where the truth itself is drawn."""
    draws: int
    """Independent draws of one evaluation: its rows, or its groups."""
    keeps_groups: bool = True
    """Whether the evaluator is told which rows were drawn together."""

    @cached_property
    def truth(self) -> Floats:
        """True difference to the baseline, or the true mean where there is none; of shape [] or [simulations]."""
        value = np.array([(kind[0] - kind[1]).sum() if len(kind) > 1 else kind[0].sum() for kind in self.kinds])
        sizes = np.array([kind.shape[1] for kind in self.kinds])
        return np.asarray((self.chances @ value) / (self.chances @ sizes))

    def simulate(self, simulations: int, seed: int = 1) -> Simulated:
        """So many evaluations, judged."""
        rng = np.random.default_rng(seed)
        chances = self.chances if self.chances.ndim > 1 else np.tile(self.chances, (simulations, 1))
        drawn = rng.multinomial(self.draws, chances[:simulations])
        different, which = np.unique(drawn, axis=0, return_inverse=True)
        judged = [self._judged(counts) for counts in different]
        estimates = [_estimate(judgement) for judgement in judged]
        return Simulated(
            truth=np.broadcast_to(self.truth, chances.shape[0])[:simulations],
            lower=np.array([e.bounds.lower for e in estimates])[which],
            upper=np.array([e.bounds.upper for e in estimates])[which],
            passed=np.array([j.verdict == "Passed" for j in judged])[which],
        )

    def _judged(self, counts: NDArray[np.int64]) -> Judgement:
        scores = np.concatenate([np.tile(kind, count) for kind, count in zip(self.kinds, counts, strict=True)], axis=1)
        sizes = [kind.shape[1] for kind, count in zip(self.kinds, counts, strict=True) for _ in range(count)]
        groups = np.repeat(np.arange(len(sizes)), sizes) if self.keeps_groups else np.arange(scores.shape[1])
        seed = int(np.random.default_rng(counts).integers(2**31))
        statistics = self.run.statistics.model_copy(update={"seed": seed})
        run = self.run.model_copy(update={"statistics": statistics})
        return judge(run, [scorer_of(m) for m in run.metrics], scores[np.newaxis], groups)


@dataclass(frozen=True)
class Simulated:
    """What was decided in each simulated evaluation; all of shape [simulations]."""

    truth: Floats
    lower: Floats
    upper: Floats
    passed: NDArray[np.bool_] = field(repr=False)

    @property
    def pass_rate(self) -> float:
        return float(self.passed.mean())

    @property
    def coverage(self) -> float:
        """Share of intervals that hold the truth."""
        return float(((self.lower - 1e-9 <= self.truth) & (self.truth <= self.upper + 1e-9)).mean())


def _estimate(judgement: Judgement) -> Estimate:
    return judgement.comparisons[0].difference if judgement.comparisons else judgement.results[0, 0]


def monte_carlo_error(rate: float, simulations: int) -> float:
    """Three standard errors of a simulated rate."""
    return 3 * float(np.sqrt(rate * (1 - rate) / simulations))


def pairs(n: int, discordance: float, difference: float, gate: dict[str, Any]) -> Cell:
    """0/1 scores of two models on n rows, of which a share `discordance` has exactly one right."""
    kinds = [np.array(pair, dtype=np.float64) for pair in ([[1], [0]], [[0], [1]], [[1], [1]])]
    chances = np.array([(discordance + difference) / 2, (discordance - difference) / 2, 1 - discordance])
    return Cell(_run(EXACT, gate, PAIR), kinds, chances, n)


def shares(n: int, low: float, high: float, floor: float, simulations: int) -> Cell:
    """0/1 scores of one model, whose true share is drawn anew for each evaluation, evenly from [low, high]."""
    share = np.random.default_rng(7).uniform(low, high, simulations)
    gate = {"absolute": {"minLowerBound": f"{floor:.4f}"}}
    return Cell(_run(EXACT, gate, ALONE), [np.ones((1, 1)), np.zeros((1, 1))], np.stack([share, 1 - share], 1), n)


def graded(n: int, mean: float) -> Cell:
    """Scores of one model as word overlap gives them: many of 1, some of 0, the rest in between."""
    levels = np.linspace(0, 1, 11)
    between = stats.beta.pdf(np.clip(levels, 0.05, 0.95), 2, 2)
    between *= 0.5 / between.sum()
    chances = between + np.where(levels == 1, 0.5 * mean, 0) + np.where(levels == 0, 0.5 * (1 - mean), 0)
    gate = {"absolute": {"minLowerBound": "0.5"}}
    return Cell(_run(GRADED, gate, ALONE, resamples=1000), [np.array([[x]]) for x in levels], chances, n)


def graded_pairs(n: int, lean: float) -> Cell:
    """Differences of such scores: half of the rows the same, the rest anywhere, leaning to the candidate by `lean`."""
    steps = np.linspace(-1, 1, 21)
    spread = stats.norm.pdf(steps, 0, 0.4) * np.exp(lean * steps)
    spread[10] += spread.sum()
    kinds = [np.array([[max(step, 0.0)], [max(-step, 0.0)]]) for step in steps]
    gate = {"superiority": {"over": "base"}}
    return Cell(_run(GRADED, gate, PAIR, resamples=1000), kinds, spread / spread.sum(), n)


def documents(count: int, difference: float, keeps_groups: bool = True) -> Cell:
    """0/1 scores of two models on documents of one to five questions, where a document favours one model.

    How many of its questions tell the two apart is beta-binomial, with mean 0.2 and correlation 0.4 within it.
    """
    kinds, chances = [], []
    for size in range(1, 6):
        for apart in range(size + 1):
            chance = float(stats.betabinom.pmf(apart, size, 0.3, 1.2)) / 5
            for sign in (1, -1) if apart else (1,):
                scores = np.ones((2, size))
                scores[1 if sign > 0 else 0, :apart] = 0
                kinds.append(scores)
                chances.append(chance * ((1 + sign * difference / 0.2) / 2 if apart else 1))
    gate = {"superiority": {"over": "base"}}
    return Cell(_run(EXACT, gate, PAIR, resamples=1000), kinds, np.array(chances), count, keeps_groups)


def epochs(n: int, as_rows: bool = False) -> Cell:
    """0/1 scores of two models that are asked each of n rows three times, and sample: a third of the rows are hard.

    On a hard row each model is right with a chance of its own (Beta(½, ½)), on the others always; neither is better.
    Judged by the means of rows as the evaluator does, or naively with every epoch as a row of its own.
    """
    hard = 1 / 3
    kinds, chances = [], []
    for bits in itertools.product((0.0, 1.0), repeat=6):
        scores = np.array(bits).reshape(2, 3)
        right = scores.sum(axis=1)
        chance = hard * float(np.prod(stats.betabinom.pmf(right, 3, 0.5, 0.5) / special.comb(3, right)))
        kinds.append(scores if as_rows else scores.mean(axis=1, keepdims=True))
        chances.append(chance + (1 - hard) * (right.sum() == 6))
    gate = {"superiority": {"over": "base"}}
    return Cell(_run(EXACT, gate, PAIR, resamples=1000), kinds, np.array(chances), n, keeps_groups=not as_rows)


def any_of(n: int, simulations: int, better: float = 0.0, seed: int = 1) -> tuple[float, float]:
    """How often four independent metrics let a candidate pass by "any of them is better", uncorrected and by the gate.

    A fifth of n rows have exactly one model right; the first metric favours the candidate by `better`.
    """
    names = [f"m-{i}" for i in range(4)]
    claims = [{"metric": name, "superiority": {"over": "base"}} for name in names]
    metrics = [{"name": name, "exactMatch": {}} for name in names]
    run = evaluate_run(metrics=metrics, gates=[{"anyOf": claims}], **PAIR)
    scorers, groups, rng = [scorer_of(metric) for metric in run.metrics], np.arange(n), np.random.default_rng(seed)
    passed = np.zeros(2)
    for _ in range(simulations):
        scores = np.ones((4, 2, n))
        for m in range(4):
            lead = better if m == 0 else 0.0
            won, lost, _ = rng.multinomial(n, [0.1 + lead / 2, 0.1 - lead / 2, 0.8])
            scores[m, 1, :won] = scores[m, 0, won : won + lost] = 0
        found = judge(run, scorers, scores, groups)
        passed += any(c.difference.bounds.lower > 0 for c in found.comparisons), found.verdict == "Passed"
    return float(passed[0] / simulations), float(passed[1] / simulations)


def preferences(n: int, by_place: float, difference: float, orders: Literal["Both", "CandidateFirst"]) -> Cell:
    """n pairs before a judge that prefers whatever stands first in a share `by_place` of them, and else goes by the
    answers, of which the candidate's is the better one by `difference`; asked in both orders, or naively in one.
    """
    by_answers = [(1.0, 1.0), (0.0, 0.0)]
    first_won = [(1.0, 0.0)]  # the candidate stands first in the first order, the baseline in the second
    settled = [settle(found if orders == "Both" else found[:1]) for found in by_answers + first_won]
    kinds = [np.array([[score], [1 - score]]) for score in settled]
    decided = 1 - by_place
    chances = np.array([decided * (1 + difference) / 2, decided * (1 - difference) / 2, by_place])
    metric = {"name": "accuracy", "preference": {"over": "base"}}
    return Cell(_run(metric, {"superiority": {"over": "base"}}, PAIR, resamples=1000), kinds, chances, n)


def _run(
    metric: dict[str, Any], gate: dict[str, Any], subjects: dict[str, Any], resamples: int = 10_000
) -> EvaluateRun:
    return evaluate_run(
        metrics=[metric], gates=[{"metric": "accuracy", **gate}], statistics={"resamples": resamples}, **subjects
    )
