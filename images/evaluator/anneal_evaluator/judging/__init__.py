"""The judge: asked about every answer, or every pair of answers, and never told who gave them.

What it is asked is in `protocols`, how in `asking`, whether it can be believed in `quality`; `guarding` is about
guards.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from anneal.api.runs import JUDGE, EvaluateRun
from anneal_evaluator.errors import JUDGE_UNUSABLE
from anneal_evaluator.held_out import HeldOutRow, groups_of
from anneal_evaluator.judging.asking import Case, Examiner, Session, cases_of, scores_of
from anneal_evaluator.judging.labels import Label
from anneal_evaluator.judging.protocols import protocols_of, settle
from anneal_evaluator.judging.quality import Agreement, Quality, quality_of, refuse_disagreement, refuse_flips
from anneal_evaluator.score import Answers
from anneal_hosted.ledger import Ledger

_DEMAND = "It must reply with its verdict alone. Choose another judge, or raise judge.maxTokens if it thinks at length."


@dataclass(frozen=True)
class Judgements:
    """What the judge found."""

    scores: Mapping[int, NDArray[np.float64]]
    """By judged metric: scores of shape [models, answers], NaN where there is no answer or no verdict."""
    qualities: Sequence[Quality]
    """Of its work on each judged metric."""
    model: str
    """What the judge called itself."""
    file: Path
    """Its replies."""

    @property
    def asked(self) -> int:
        """Answers and pairs judged."""
        return sum(quality.n for quality in self.qualities)

    @property
    def errors(self) -> int:
        """Of them without a verdict."""
        return sum(quality.errors for quality in self.qualities)


def judge_answers(
    run: EvaluateRun,
    rows: Sequence[HeldOutRow],
    answers: Answers,
    ledger: Ledger,
    patience_seconds: float,
    labels: Sequence[Label] = (),
) -> Judgements | None:
    """Asks the judge about every answer that it was not asked about yet; None where nothing is judged.

    `rows` has the row of each answer.

    Raises EvaluationError, also when more of its verdicts are unusable than policy.maxErrorRate allows, or when it
    does not show what spec.judgeQuality demands.
    """
    if run.judge is None:
        return None
    protocols = protocols_of(run.metrics)
    session = Session.of(run, Examiner(JUDGE, run.judge, JUDGE_UNUSABLE, _DEMAND), protocols, ledger, patience_seconds)
    agreements = _agreements(session, labels)
    refuse_disagreement(run, agreements)
    cases = cases_of(run, protocols, rows, answers)
    found = session.judged(list(cases.values()))
    orders = dict(zip(cases, found.scores, strict=True))
    scores = {m: scores_of(run, m, protocol, rows, answers, orders) for m, protocol in protocols.items()}
    qualities = [
        quality_of(
            run,
            m,
            [of for place, of in orders.items() if place[0] == m],
            scores[m],
            answers,
            agreements.get(m),
            groups_of(rows),
        )
        for m in protocols
    ]
    refuse_flips(run, qualities)
    return Judgements(scores, qualities, found.called, session.file.path)


def _agreements(session: Session, labels: Sequence[Label]) -> dict[int, Agreement]:
    """What judge and people say of the labelled answers, by metric: asked before any other, as the cheaper end."""
    found = session.judged([Case(label.metric, label.row, label.texts) for label in labels])
    judged = np.array([settle(orders) for orders in found.scores])
    human = np.array([label.score for label in labels])
    return {
        m: Agreement(judged[at], human[at])
        for m in sorted({label.metric for label in labels})
        if (at := np.array([label.metric == m for label in labels]) & ~np.isnan(judged)).any()
    }
