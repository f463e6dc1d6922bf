"""Rows that are asked several times: which answer belongs to which row, and one score for a row whatever it was asked.

Answers are listed by row and, within a row, by epoch: as many for every model. What decodes greedily is asked once, and
its one answer stands for all epochs.

Epochs of a row share its question, so they are no new evidence of other questions: taken as rows, three of each make
intervals narrower by up to √3. The mean over a row's epochs is one value of one row; it varies less than one answer
does, and that is what asking again buys (Miller 2024, arXiv 2411.00640, 3.1).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from anneal.api.runs import EvaluateRun
from anneal_evaluator.held_out import HeldOutRow
from anneal_hosted.answers import StoredAnswer

Values = NDArray[np.float64]


def row_of_each(run: EvaluateRun, rows: Sequence[HeldOutRow]) -> list[HeldOutRow]:
    """The row of each answer, in the order of answers."""
    return [row for row in rows for _ in range(run.generation.epochs)]


def key_of_each(run: EvaluateRun, model: int, keys: Sequence[str]) -> list[str]:
    """The key of each answer of model number `model`, from those of what it was asked, in their order."""
    stands_for = run.generation.epochs // run.times_asked(model)
    return [key for key in keys for _ in range(stands_for)]


def each_once(run: EvaluateRun, answers: Sequence[StoredAnswer]) -> Sequence[StoredAnswer]:
    """The answers of one model without those that stand for further epochs: what was asked, said and paid for."""
    return answers if run.generation.epochs == 1 else list({answer.key: answer for answer in answers}.values())


def by_row(run: EvaluateRun, values: Values) -> Values:
    """Values of shape [..., answers] as [..., rows, epochs]."""
    return values.reshape(*values.shape[:-1], -1, run.generation.epochs)


def means_of_rows(run: EvaluateRun, values: Values) -> Values:
    """Values of shape [..., answers], NaN where there is none, as means [..., rows] of those that there are."""
    epochs = by_row(run, values)
    there = ~np.isnan(epochs)
    with np.errstate(invalid="ignore"):
        return np.asarray(np.where(there, epochs, 0).sum(axis=-1) / there.sum(axis=-1))
