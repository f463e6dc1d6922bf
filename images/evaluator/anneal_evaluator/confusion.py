"""Which label is taken for which: what an accuracy of 0.9 does not say, and what to collect examples of next."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from anneal.api.runs import EvaluateRun
from anneal_evaluator.epochs import each_once
from anneal_evaluator.held_out import HeldOutRow
from anneal_evaluator.metrics.scorer import Scorer
from anneal_evaluator.report import label
from anneal_evaluator.score import Answers
from anneal_hosted.answers import StoredAnswer


def confusions(
    run: EvaluateRun, scorers: Sequence[Scorer], rows: Sequence[HeldOutRow], answers: Answers
) -> list[dict[str, Any]]:
    """Per metric of labels and model, the cells of its confusion matrix that are not 0, the largest first.

    Answers that there are none of (cut off, refused) are in no cell; of a row that was asked several times all others
    are. `rows` has the row of each answer.
    """
    found = []
    for metric, scorer in zip(run.metrics, scorers, strict=True):
        if (classify := scorer.classify) is None:
            continue
        for index, model in enumerate(run.models):
            cells = Counter(
                (classify(row.reference), classify(answer.text))
                for row, answer in _each_once(run, rows, answers[model])
                if answer.outcome == "answered" and metric.covers(row.category)
            )
            listed = [
                {"reference": wanted, "answered": said, "answers": count}
                for (wanted, said), count in sorted(cells.items(), key=lambda cell: (-cell[1], cell[0]))
            ]
            found.append({"metric": metric.name, "model": label(run, index), "cells": listed})
    return found


def _each_once(
    run: EvaluateRun, rows: Sequence[HeldOutRow], answers: Sequence[StoredAnswer]
) -> Iterator[tuple[HeldOutRow, StoredAnswer]]:
    by_key = {answer.key: row for row, answer in zip(rows, answers, strict=True)}
    return ((by_key[answer.key], answer) for answer in each_once(run, answers))
