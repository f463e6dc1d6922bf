"""Putting answers to a model that judges: who is asked what, once for each wording, and paid once.

Equal answers to one question are judged once, and two equal answers are a tie without asking.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import numpy as np
from numpy.typing import NDArray

from anneal.api.artifacts import digest_of_json
from anneal.api.runs import EvaluateRun
from anneal.api.subjects import Hosted
from anneal_evaluator.errors import mistake
from anneal_evaluator.held_out import HeldOutRow
from anneal_evaluator.judging.protocols import Protocol, settle
from anneal_evaluator.keys import key_of
from anneal_evaluator.reuse import reuse_answers
from anneal_evaluator.score import Answers
from anneal_hosted.answers import AnswerFile, StoredAnswer
from anneal_hosted.asking import Interview, Question, ask_all, check_snapshots
from anneal_hosted.endpoints import hosted_endpoint
from anneal_hosted.ledger import Ledger
from anneal_hosted.progress import Progress

#: (metric, model, keys of the answers); the model is the baseline where its answer and the candidate's are a pair. By
#: key, since an answer that stands for several epochs is judged as one.
Place = tuple[int, int, tuple[str, ...]]


@dataclass(frozen=True)
class Examiner:
    """A model that judges."""

    name: str
    """Of its key and its files, such as '_judge'."""
    hosted: Hosted
    reason: str
    """Why the run ends when its replies cannot be used."""
    demand: str
    """The rest of that sentence: what it must reply, and what to do."""

    @property
    def called(self) -> str:
        """What people call it."""
        return self.name.removeprefix("_")


@dataclass(frozen=True)
class Case:
    """Something to judge: one answer to a row, or the candidate's and a baseline's, for a metric."""

    metric: int
    row: HeldOutRow
    texts: tuple[str, ...]


@dataclass(frozen=True)
class Found:
    """What was said of cases, in their order."""

    scores: list[list[float]]
    """Of each case in every order that it was judged in; NaN where that is no verdict."""
    replies: list[list[StoredAnswer]]
    called: str
    """What the model called itself."""


@dataclass(frozen=True)
class Session:
    """What is needed to ask."""

    run: EvaluateRun
    examiner: Examiner
    protocols: Mapping[int, Protocol]
    """By index of the metric."""
    file: AnswerFile
    ledger: Ledger
    patience_seconds: float

    @classmethod
    def of(
        cls,
        run: EvaluateRun,
        examiner: Examiner,
        protocols: Mapping[int, Protocol],
        ledger: Ledger,
        patience_seconds: float,
    ) -> Session:
        """With the replies that are stored so far."""
        file = AnswerFile(Path(run.report.path) / f"responses-{examiner.name}.jsonl")
        return cls(run, examiner, protocols, file, ledger, patience_seconds)

    def judged(self, cases: Sequence[Case]) -> Found:
        """What is said of each case; asks what was not asked yet. Raises EvaluationError."""
        asked = asyncio.run(self._ask(cases))
        check_snapshots([q for about in asked for q in about], {self.examiner.name: self.file})
        replies = [[self.file[q.key] for q in about] for about in asked]
        scores = [self.protocols[case.metric].scores(of) for case, of in zip(cases, replies, strict=True)]
        for metric in self.protocols:
            of_metric = [i for i, case in enumerate(cases) if case.metric == metric]
            self._refuse_too_many_errors([replies[i] for i in of_metric], [scores[i] for i in of_metric])
        called = (reply.model for of in replies for reply in of)
        return Found(scores, replies, next(filter(None, called), ""))

    async def _ask(self, cases: Sequence[Case]) -> list[list[Question]]:
        """The questions about each case; all of them are answered when this returns."""
        run, name, hosted = self.run, self.examiner.name, self.examiner.hosted
        async with aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0), timeout=aiohttp.ClientTimeout(total=None)
        ) as session:
            endpoint = hosted_endpoint(name, hosted, key_of(name, hosted, Path(run.keys)), session)
            version = await endpoint.version()
            asked = [self._questions(case, version) for case in cases]
            once = list({q.key: q for about in asked for q in about}.values())
            files = {name: self.file}
            reuse_answers(Path(run.report.path), once, files)
            self.ledger.settle_stored({(name, q.key): q.cost(s) for q in once if (s := self.file.get(q.key))})
            progress = Progress(run.reporting, sum(self.file.has(q.key) for q in once), len(once))
            await ask_all(
                Interview(run.generation, {name: endpoint}, files, self.ledger, progress, self.patience_seconds), once
            )
        return asked

    def _questions(self, case: Case, version: str) -> list[Question]:
        """What is asked about a case, once for each order; a question's key covers every word of it."""
        hosted = self.examiner.hosted
        limit = hosted.max_tokens or self.run.generation.max_tokens
        asked = []
        for messages in self.protocols[case.metric].chats(case.row, case.texts):
            key = digest_of_json({self.examiner.called: version, "messages": messages, "maxTokens": limit})
            row = HeldOutRow.model_validate({"id": case.row.id, "messages": messages, "reference": ""})
            asked.append(Question(self.examiner.name, row, key, limit, hosted))
        return asked

    def _refuse_too_many_errors(
        self, replies: Sequence[Sequence[StoredAnswer]], scores: Sequence[Sequence[float]]
    ) -> None:
        failed = sum(1 for orders in scores if np.isnan(settle(orders)))
        if failed <= float(self.run.policy.max_error_rate) * len(scores):
            return
        shown = next(
            reply
            for of, orders in zip(replies, scores, strict=True)
            for reply, score in zip(of, orders, strict=True)
            if np.isnan(score)
        )
        raise mistake(
            self.examiner.reason,
            f"No verdict: the {self.examiner.called} {self.examiner.hosted.model} gave none on {failed} of"
            f" {len(scores)} answers. For example it was {shown.outcome} and said {shown.text[:100]!r}"
            f" {shown.detail[:100]}. {self.examiner.demand}",
        )


def cases_of(
    run: EvaluateRun, protocols: Mapping[int, Protocol], rows: Sequence[HeldOutRow], answers: Answers
) -> dict[Place, Case]:
    """What there is to judge: every answer, or every pair of two that are not the same, to the rows of each metric.

    `rows` has the row of each answer.
    """
    found = {}
    for m, protocol in protocols.items():
        for i, row in enumerate(rows):
            for k in _judged_models(run, protocol) if run.metrics[m].covers(row.category) else ():
                given = _given(run, protocol, answers, k, i)
                texts = tuple(answer.text for answer in given)
                if all(answer.outcome == "answered" for answer in given) and len(set(texts)) == len(texts):
                    found[m, k, tuple(answer.key for answer in given)] = Case(m, row, texts)
    return found


def scores_of(
    run: EvaluateRun,
    metric: int,
    protocol: Protocol,
    rows: Sequence[HeldOutRow],
    answers: Answers,
    orders: Mapping[Place, Sequence[float]],
) -> NDArray[np.float64]:
    """Scores of shape [models, answers]. Of a pair both have one: what the one has won, the other has lost."""
    scores = np.full((len(run.models), len(rows)), np.nan)
    for k in _judged_models(run, protocol):
        for i, row in enumerate(rows):
            given = _given(run, protocol, answers, k, i)
            if not run.metrics[metric].covers(row.category):
                continue
            if (found := orders.get((metric, k, tuple(answer.key for answer in given)))) is not None:
                score = settle(found)
            elif protocol.over is not None and all(answer.outcome == "answered" for answer in given):
                score = 0.5  # two equal answers
            elif protocol.if_declined is not None and given[0].outcome == "declined":
                score = protocol.if_declined
            else:
                continue
            scores[k, i] = score if protocol.over is None else 1 - score
            if protocol.over is not None:
                scores[0, i] = score
    return scores


def _given(run: EvaluateRun, protocol: Protocol, answers: Answers, model: int, at: int) -> list[StoredAnswer]:
    """Answer number `at` of the model, by itself or behind the candidate's."""
    return [answers[run.models[k]][at] for k in ((model,) if protocol.over is None else (0, model))]


def _judged_models(run: EvaluateRun, protocol: Protocol) -> Sequence[int]:
    """The models whose answers are judged by themselves, or the one that the candidate's are compared with."""
    if protocol.over is None:
        return range(len(run.models))
    return [1 + [baseline.name for baseline in run.baselines].index(protocol.over)]
