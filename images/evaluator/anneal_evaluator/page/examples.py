"""Rows with their texts: where the candidate wins, where it loses, and where somebody gave no answer."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from html import escape

import numpy as np

from anneal.api.runs import EvaluateRun
from anneal_evaluator.decide import Scores
from anneal_evaluator.epochs import each_once
from anneal_evaluator.held_out import HeldOutRow
from anneal_evaluator.page.elements import said, section, table
from anneal_evaluator.report import label
from anneal_evaluator.score import Answers

_SHOWN = 10  # of each kind
_ERRORS = 20


def wins_and_losses(run: EvaluateRun, rows: Sequence[HeldOutRow], answers: Answers, scores: Scores) -> str:
    """By the first metric, against each baseline: the rows of the largest differences, side by side."""
    metric = run.metrics[0].name
    if len(run.models) == 1:
        wrong = [i for i in np.argsort(scores[0, 0], kind="stable") if scores[0, 0, i] < 1]
        cards = _cards(run, rows, answers, wrong, [0])
        return section(f"Where the candidate is not right ({metric})", _column("Not right", wrong, cards))
    compared = [k for k in range(1, len(run.models)) if not np.isnan(scores[0, k]).all()]
    return "".join(_against(run, rows, answers, scores, k) for k in compared)


def _against(run: EvaluateRun, rows: Sequence[HeldOutRow], answers: Answers, scores: Scores, baseline: int) -> str:
    difference = scores[0, 0] - scores[0, baseline]
    order = np.argsort(-np.abs(np.nan_to_num(difference)), kind="stable")
    won = [int(i) for i in order if difference[i] > 0]
    lost = [int(i) for i in order if difference[i] < 0]
    alike = int((difference == 0).sum())
    columns = "".join(
        _column(title, found, _cards(run, rows, answers, found, [0, baseline]))
        for title, found in (("Won", won), ("Lost", lost))
    )
    name, metric = label(run, baseline), run.metrics[0].name
    hint = f"By {escape(metric)}: better on {len(won)} rows, worse on {len(lost)}, the same on {alike}."
    return section(f"Wins and losses against {name}", f'<div class="columns">{columns}</div>', hint=hint)


def _column(title: str, found: Sequence[int], cards: Iterator[str]) -> str:
    more = f'<p class="hint">And {len(found) - _SHOWN} more.</p>' if len(found) > _SHOWN else ""
    return (
        f'<div class="{title.split()[0].lower()}"><h3>{title} ({len(found)})</h3>'
        f"{''.join(cards) or '<p>None.</p>'}{more}</div>"
    )


def _cards(
    run: EvaluateRun, rows: Sequence[HeldOutRow], answers: Answers, found: Sequence[int], models: Sequence[int]
) -> Iterator[str]:
    for i in found[:_SHOWN]:
        texts = [("Question", rows[i].messages[-1].content), ("Reference", rows[i].reference)]
        texts += [answer for k in models for answer in _answers(run, answers, k, i)]
        lines = "".join(f"<dt>{escape(name)}</dt><dd>{said(text)}</dd>" for name, text in texts)
        yield f'<article class="card"><dl>{lines}</dl></article>'


def _answers(run: EvaluateRun, answers: Answers, model: int, row: int) -> list[tuple[str, str]]:
    """(who, what was said): everything different that a model said to a row, and in how many of its epochs."""
    epochs = run.generation.epochs
    given = Counter(answer.text for answer in answers[run.models[model]][row * epochs : (row + 1) * epochs])
    name = label(run, model)
    return [(name if len(given) == 1 else f"{name}, {n} of {epochs}", text) for text, n in given.most_common()]


def errors(run: EvaluateRun, answers: Answers) -> str:
    """Rows without an answer, which are errors and not wrong answers."""
    found = [
        (label(run, k), answer)
        for k, model in enumerate(run.models)
        for answer in each_once(run, answers[model])
        if answer.outcome != "answered"
    ]
    lines = ([escape(name), said(e.row), said(f"{e.outcome}: {e.detail}"), said(e.text)] for name, e in found[:_ERRORS])
    return section(f"Errors ({len(found)})", table(["Model", "Row", "What happened", "What was said"], lines))
