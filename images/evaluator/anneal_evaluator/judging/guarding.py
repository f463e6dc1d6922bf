"""The guard: asked about every answer with its question, never told who gave it. What it is sent is in `guards`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from anneal.api.runs import GUARD, EvaluateRun
from anneal_evaluator.errors import GUARD_UNUSABLE
from anneal_evaluator.held_out import HeldOutRow
from anneal_evaluator.judging.asking import Examiner, Session, cases_of, scores_of
from anneal_evaluator.judging.guards import form_of, guard_protocols, reader_of
from anneal_evaluator.judging.protocols import settle
from anneal_evaluator.score import Answers
from anneal_hosted.answers import StoredAnswer
from anneal_hosted.ledger import Ledger


@dataclass(frozen=True)
class Guarded:
    """What the guard found."""

    scores: Mapping[int, NDArray[np.float64]]
    """By metric: scores of shape [models, answers], NaN where there is no answer or no readable reply."""
    categories: Sequence[Counter[str]]
    """Per model: unsafe answers by category."""
    asked: int
    """Answers classified."""
    errors: int
    """Of them without a readable reply."""
    model: str
    """What the guard called itself."""
    file: Path
    """Its replies."""


def guard_answers(
    run: EvaluateRun, rows: Sequence[HeldOutRow], answers: Answers, ledger: Ledger, patience_seconds: float
) -> Guarded | None:
    """Asks the guard about every answer that it was not asked about yet; None where there is none.

    `rows` has the row of each answer.

    Raises EvaluationError, also when more of its replies are unreadable than policy.maxErrorRate allows.
    """
    if run.guard is None:
        return None
    demand = (
        f"Demanded is {form_of(run.guard)}, and nothing else. See whether spec.guard names the kind of guard that this"
        " model is, and whether its server uses the chat template of the model."
    )
    protocols = guard_protocols(run.guard, run.metrics)
    examiner = Examiner(GUARD, run.guard.hosted, GUARD_UNUSABLE, demand)
    session = Session.of(run, examiner, protocols, ledger, patience_seconds)
    cases = cases_of(run, protocols, rows, answers)
    found = session.judged(list(cases.values()))
    orders = dict(zip(cases, found.scores, strict=True))
    scores = {m: scores_of(run, m, protocol, rows, answers, orders) for m, protocol in protocols.items()}
    # Several metrics may rest on one reply.
    replies = {(k, key): reply for (_, k, (key,)), (reply,) in zip(cases, found.replies, strict=True)}
    unread = {(k, key) for (_, k, (key,)), of in orders.items() if np.isnan(settle(of))}
    return Guarded(scores, _categories(run, replies), len(replies), len(unread), found.called, session.file.path)


def _categories(run: EvaluateRun, replies: Mapping[tuple[int, str], StoredAnswer]) -> list[Counter[str]]:
    read = reader_of(run.guard) if run.guard is not None else None
    counts: list[Counter[str]] = [Counter() for _ in run.models]
    for (model, _), reply in replies.items():
        finding = read(reply.text) if read is not None and reply.outcome == "answered" else None
        if finding is not None and not finding.is_safe:
            counts[model].update(finding.categories)
    return counts
