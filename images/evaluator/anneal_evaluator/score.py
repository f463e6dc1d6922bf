"""From stored answers to numbers. Scores are made anew from the answers every time, never stored ahead of them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from anneal.api.metrics import Metric
from anneal.api.runs import EvaluateRun
from anneal_evaluator.errors import METRIC_UNUSABLE, mistake
from anneal_evaluator.held_out import HeldOutRow
from anneal_evaluator.metrics import scorer_of
from anneal_evaluator.metrics.scorer import Scorer
from anneal_hosted.answers import StoredAnswer, write_atomically

_SHOWN = 10
#: Answers of each model, in the order of the rows and, within a row, of its epochs.
Answers = Mapping[str, Sequence[StoredAnswer]]


def scorers_of(metrics: Sequence[Metric], rows: Sequence[HeldOutRow]) -> list[Scorer]:
    """A scorer per metric, each checked against every reference that it covers before anybody is asked anything.

    Raises EvaluationError, naming metric and row, when a metric cannot be used.
    """
    scorers = []
    for metric in metrics:
        try:
            scorer = scorer_of(metric)
        except ValueError as error:
            raise mistake(METRIC_UNUSABLE, f"Metric {metric.name} cannot be used: {error}.") from error
        covered = [row for row in rows if metric.covers(row.category)]
        if not covered:
            raise mistake(METRIC_UNUSABLE, _nothing_to_score(metric, rows))
        for row in covered:
            try:
                scorer.check_reference(row.reference)
            except ValueError as error:
                where = f"the reference answer of held-out row {row.id!r}"
                raise mistake(METRIC_UNUSABLE, f"Metric {metric.name} does not fit {where}: {error}.") from error
        scorers.append(scorer)
    return scorers


def score(
    run: EvaluateRun,
    scorers: Sequence[Scorer],
    rows: Sequence[HeldOutRow],
    answers: Answers,
    given: Mapping[int, NDArray[np.float64]] | None = None,
) -> NDArray[np.float64]:
    """Scores of shape [metrics, models, answers]; NaN where there is no answer or the metric does not cover the row.

    Raises EvaluationError.

    `rows` has the row of each answer; `given` are the scores [models, answers] of the metrics, by index, that a judge
    or a plugin has given.
    """
    scores = np.full((len(scorers), len(run.models), len(rows)), np.nan)
    for m, (metric, scorer) in enumerate(zip(run.metrics, scorers, strict=True)):
        covered = np.array([metric.covers(row.category) for row in rows])
        if given is not None and m in given:
            scores[m] = np.where(covered, given[m], np.nan)
            continue
        for k, model in enumerate(run.models):
            for i, (row, answer) in enumerate(zip(rows, answers[model], strict=True)):
                if answer.outcome != "answered" or not covered[i]:
                    continue
                try:
                    scores[m, k, i] = scorer.score(answer.text, row.reference)
                except ValueError as error:
                    raise mistake(METRIC_UNUSABLE, f"Metric {metric.name} cannot be used: {error}.") from error
    return scores


def _nothing_to_score(metric: Metric, rows: Sequence[HeldOutRow]) -> str:
    wanted = ", ".join(repr(name) for name in metric.only.categories) if metric.only else ""
    there = sorted({row.category for row in rows if row.category is not None})
    known = f"theirs are {', '.join(map(repr, there[:_SHOWN]))}" if there else "they have no categories"
    return (
        f"Metric {metric.name} scores only rows of category {wanted}, and none of the {len(rows)} held-out rows is of"
        f" it: {known}. Correct metrics[].only, or set dataset.category of the FineTuneJob."
    )


def write_scores(path: Path, run: EvaluateRun, rows: Sequence[HeldOutRow], scores: NDArray[np.float64]) -> None:
    """One JSON line per row: its id, and per metric the score of each model, null where there is no answer."""
    lines = []
    for i, row in enumerate(rows):
        by_metric = {metric.name: _by_model(run, scores[m, :, i]) for m, metric in enumerate(run.metrics)}
        lines.append(json.dumps({"row": row.id, "scores": by_metric}, ensure_ascii=False) + "\n")
    write_atomically(path, "".join(lines).encode())


def _by_model(run: EvaluateRun, scores: NDArray[np.float64]) -> dict[str, float | None]:
    return {model: None if np.isnan(score) else float(score) for model, score in zip(run.models, scores, strict=True)}
