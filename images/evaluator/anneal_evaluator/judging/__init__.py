"""The judge: asked about every answer, or every pair of answers, and never told who gave them.

What it is asked is in `protocols`, whether it can be believed in `quality`. Equal answers to one question are judged
once, and two equal answers are a tie without asking.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import numpy as np
from numpy.typing import NDArray

from anneal.api.artifacts import digest_of_json
from anneal.api.runs import JUDGE, EvaluateRun
from anneal_evaluator.errors import JUDGE_UNUSABLE, mistake
from anneal_evaluator.held_out import HeldOutRow, groups_of
from anneal_evaluator.judging.labels import Label
from anneal_evaluator.judging.protocols import Protocol, protocols_of, settle
from anneal_evaluator.judging.quality import Agreement, Quality, quality_of, refuse_disagreement, refuse_flips
from anneal_evaluator.keys import key_of
from anneal_evaluator.reuse import reuse_answers
from anneal_evaluator.score import Answers
from anneal_hosted.answers import AnswerFile, StoredAnswer
from anneal_hosted.asking import Interview, Question, ask_all, check_snapshots
from anneal_hosted.endpoints import hosted_endpoint
from anneal_hosted.ledger import Ledger
from anneal_hosted.progress import Progress


@dataclass(frozen=True)
class Case:
    """Something to judge: one answer to a row, or the candidate's and a baseline's, for a metric."""

    metric: int
    row: HeldOutRow
    texts: tuple[str, ...]


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


@dataclass(frozen=True)
class _Session:
    """What is needed to ask."""

    run: EvaluateRun
    protocols: Mapping[int, Protocol]
    file: AnswerFile
    ledger: Ledger
    patience_seconds: float

    def judged(self, cases: Sequence[Case]) -> tuple[list[list[float]], str]:
        """The scores of each case in every order, and what the judge called itself; asks what was not asked yet.

        Raises EvaluationError.
        """
        asked = asyncio.run(self._ask(cases))
        check_snapshots([question for questions in asked for question in questions], {JUDGE: self.file})
        found = [
            self.protocols[case.metric].scores([self.file[q.key] for q in questions])
            for case, questions in zip(cases, asked, strict=True)
        ]
        self._refuse_too_many_errors(asked, found)
        called = (self.file[question.key].model for questions in asked for question in questions)
        return found, next(filter(None, called), "")

    async def _ask(self, cases: Sequence[Case]) -> list[list[Question]]:
        """The questions about each case; all of them are answered when this returns."""
        run = self.run
        assert run.judge is not None
        async with aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0), timeout=aiohttp.ClientTimeout(total=None)
        ) as session:
            endpoint = hosted_endpoint(JUDGE, run.judge, key_of(JUDGE, run.judge, Path(run.keys)), session)
            version = await endpoint.version()
            asked = [questions(run, self.protocols[case.metric], case, version) for case in cases]
            once = list({q.key: q for about in asked for q in about}.values())
            files = {JUDGE: self.file}
            reuse_answers(Path(run.report.path), once, files)
            self.ledger.settle_stored({(JUDGE, q.key): q.cost(s) for q in once if (s := self.file.get(q.key))})
            progress = Progress(run.reporting, sum(self.file.has(q.key) for q in once), len(once))
            await ask_all(
                Interview(run.generation, {JUDGE: endpoint}, files, self.ledger, progress, self.patience_seconds), once
            )
        return asked

    def _refuse_too_many_errors(self, asked: Sequence[Sequence[Question]], found: Sequence[Sequence[float]]) -> None:
        run = self.run
        assert run.judge is not None
        unusable = [
            question
            for questions, orders in zip(asked, found, strict=True)
            for question, score in zip(questions, orders, strict=True)
            if np.isnan(score)
        ]
        failed = sum(1 for orders in found if np.isnan(settle(orders)))
        if failed > float(run.policy.max_error_rate) * len(found):
            shown = self.file[unusable[0].key]
            raise mistake(
                JUDGE_UNUSABLE,
                f"No verdict: the judge {run.judge.model} gave none on {failed} of {len(found)} answers. It must"
                f" reply with its verdict alone; for example it was {shown.outcome} and said {shown.text[:100]!r}"
                f" {shown.detail[:100]}. Choose another judge, or raise judge.maxTokens if it thinks at length.",
            )


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
    file = AnswerFile(Path(run.report.path) / f"responses-{JUDGE}.jsonl")
    cases = {
        place: case
        for m, protocol in protocols.items()
        for place, case in _cases(run, m, protocol, rows, answers).items()
    }
    session = _Session(run, protocols, file, ledger, patience_seconds)
    agreements = _agreements(session, labels)
    refuse_disagreement(run, agreements)
    found, called = session.judged(list(cases.values()))
    orders = dict(zip(cases, found, strict=True))
    scores = {m: _scores(run, m, protocol, answers, orders) for m, protocol in protocols.items()}
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
    return Judgements(scores, qualities, called, file.path)


def _agreements(session: _Session, labels: Sequence[Label]) -> dict[int, Agreement]:
    """What judge and people say of the labelled answers, by metric: asked before any other, as the cheaper end."""
    found, _ = session.judged([Case(label.metric, label.row, label.texts) for label in labels])
    judged = np.array([settle(orders) for orders in found])
    human = np.array([label.score for label in labels])
    return {
        m: Agreement(judged[at], human[at])
        for m in sorted({label.metric for label in labels})
        if (at := np.array([label.metric == m for label in labels]) & ~np.isnan(judged)).any()
    }


#: (metric, model, keys of the answers); the model is the baseline where its answer and the candidate's are a pair. By
#: key, since an answer that stands for several epochs is judged as one.
Place = tuple[int, int, tuple[str, ...]]


def _cases(
    run: EvaluateRun, metric: int, protocol: Protocol, rows: Sequence[HeldOutRow], answers: Answers
) -> dict[Place, Case]:
    """What there is to judge for a metric: every answer, or every pair of two that are not the same."""
    found = {}
    for i, row in enumerate(rows):
        for k in _judged_models(run, protocol):
            given = _given(run, protocol, answers, k, i)
            texts = tuple(answer.text for answer in given)
            if all(answer.outcome == "answered" for answer in given) and len(set(texts)) == len(texts):
                found[metric, k, tuple(answer.key for answer in given)] = Case(metric, row, texts)
    return found


def _given(run: EvaluateRun, protocol: Protocol, answers: Answers, model: int, at: int) -> list[StoredAnswer]:
    """Answer number `at` of the model, by itself or behind the candidate's."""
    return [answers[run.models[k]][at] for k in ((model,) if protocol.over is None else (0, model))]


def _judged_models(run: EvaluateRun, protocol: Protocol) -> Sequence[int]:
    """The models whose answers are judged by themselves, or the one that the candidate's are compared with."""
    if protocol.over is None:
        return range(len(run.models))
    return [1 + [baseline.name for baseline in run.baselines].index(protocol.over)]


def _scores(
    run: EvaluateRun, metric: int, protocol: Protocol, answers: Answers, orders: Mapping[Place, Sequence[float]]
) -> NDArray[np.float64]:
    """Scores of shape [models, answers]. Of a pair both have one: what the one has won, the other has lost."""
    scores = np.full((len(run.models), len(answers[run.models[0]])), np.nan)
    for k in _judged_models(run, protocol):
        for i in range(len(answers[run.models[k]])):
            given = _given(run, protocol, answers, k, i)
            if (found := orders.get((metric, k, tuple(answer.key for answer in given)))) is not None:
                score = settle(found)
            elif protocol.over is not None and all(answer.outcome == "answered" for answer in given):
                score = 0.5  # two equal answers
            else:
                continue
            scores[k, i] = score if protocol.over is None else 1 - score
            if protocol.over is not None:
                scores[0, i] = score
    return scores


def questions(run: EvaluateRun, protocol: Protocol, case: Case, version: str) -> list[Question]:
    """What the judge is asked about a case, once for each order; a question's key covers every word of it."""
    assert run.judge is not None
    limit = run.judge.max_tokens or run.generation.max_tokens
    asked = []
    for document in protocol.documents(case.row, case.texts):
        messages = [
            {"role": "system", "content": protocol.instructions},
            {"role": "user", "content": json.dumps(document, ensure_ascii=False)},
        ]
        key = digest_of_json({"judge": version, "messages": messages, "maxTokens": limit})
        row = HeldOutRow.model_validate({"id": case.row.id, "messages": messages, "reference": ""})
        asked.append(Question(JUDGE, row, key, limit, run.judge))
    return asked
