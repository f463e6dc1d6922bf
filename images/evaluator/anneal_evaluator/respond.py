"""Asking: every model every row, row by row so that no model is ahead of the others.

Three kinds of trouble are kept apart. The model's or the row's (cut off, refused, too slow) is an error of that row.
The server's (dead process, refused connection) is nobody's answer: it is waited out for a while, then the run ends to
be tried again.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TypeVar

from anneal.api.artifacts import digest_of_json
from anneal.api.runs import EvaluateRun
from anneal_evaluator.answers import AnswerFile, StoredAnswer
from anneal_evaluator.errors import PROMPTS_DIFFER, SERVER_UNREACHABLE, EvaluationError, mistake
from anneal_evaluator.held_out import HeldOutRow
from anneal_evaluator.progress import Progress
from anneal_evaluator.server import RefusedError, Server, ServerAwayError

#: Larger questions are not sent: Triton 2.51 crashes on bodies of 8 MB, and no context window takes one.
MAX_QUESTION_BYTES = 4 * 1024 * 1024
#: How long the server may be away before the run gives up, in seconds: a restart of it takes less.
PATIENCE_SECONDS = 180.0
RETRY_SECONDS = 2.0

T = TypeVar("T")


@dataclass(frozen=True)
class Question:
    """One row for one model."""

    model: str
    row: HeldOutRow
    key: str

    @property
    def messages(self) -> str:
        """The chat as the server takes it."""
        return json.dumps([m.to_json() for m in self.row.messages], ensure_ascii=False)


@dataclass(frozen=True)
class Interview:
    """Everything that asking needs."""

    run: EvaluateRun
    server: Server
    files: Mapping[str, AnswerFile]
    progress: Progress
    patience_seconds: float = PATIENCE_SECONDS


def questions(run: EvaluateRun, rows: list[HeldOutRow], server: str) -> list[Question]:
    """Every row for every model, rows outermost; `server` is the name and version of what answers."""
    return [
        Question(model, row, question_key(run, index, row, server))
        for row in rows
        for index, model in enumerate(run.models)
    ]


def question_key(run: EvaluateRun, model: int, row: HeldOutRow, server: str) -> str:
    """Digest of everything that decides the answer of model number `model` (0 is the candidate) to `row`.

    The candidate's digest is part of every key, since its chat template renders the prompts of the baselines too.
    """
    return digest_of_json(
        {
            "model": run.candidate_digest if model == 0 else run.base_digest,
            "template": run.candidate_digest,
            "server": server,
            "row": row.id,
            "messages": [m.to_json() for m in row.messages],
            "maxTokens": run.generation.max_tokens,
        }
    )


async def ask_all(interview: Interview, asked: list[Question]) -> None:
    """Stores an answer, or why there is none, for each of `asked`; at most `generation.concurrency` at a time.

    Raises EvaluationError when the server stays away for `patience_seconds`.
    """
    waiting = iter([q for q in asked if not interview.files[q.model].has(q.key)])
    try:
        async with asyncio.TaskGroup() as group:
            telling = group.create_task(interview.progress.tell_until_cancelled())
            concurrency = interview.run.generation.concurrency
            workers = [group.create_task(_work(interview, waiting)) for _ in range(concurrency)]
            await asyncio.wait(workers)
            telling.cancel()
    except* EvaluationError as failures:
        raise failures.exceptions[0] from None
    await interview.progress.tell()


async def _work(interview: Interview, waiting: Iterator[Question]) -> None:
    for question in waiting:
        interview.files[question.model].append(await _answer(interview, question))
        interview.progress.advance()


async def _answer(interview: Interview, question: Question) -> StoredAnswer:
    generation = interview.run.generation
    none = StoredAnswer(key=question.key, row=question.row.id, outcome="rejected")
    messages = question.messages
    if (size := len(messages.encode())) > MAX_QUESTION_BYTES:
        return none.model_copy(update={"detail": f"the question has {size} bytes, over the limit {MAX_QUESTION_BYTES}"})

    async def ask() -> StoredAnswer:
        started = time.monotonic()
        async with asyncio.timeout(generation.timeout_seconds):
            reply = await interview.server.ask(question.model, messages, generation.max_tokens)
        cut = reply.finish_reason != "stop"
        return StoredAnswer(
            key=question.key,
            row=question.row.id,
            outcome="truncated" if cut else "answered",
            text=reply.text,
            detail=f"cut off at maxTokens ({generation.max_tokens})" if cut else "",
            input_tokens=reply.input_tokens,
            output_tokens=reply.output_tokens,
            seconds=round(time.monotonic() - started, 3),
        )

    try:
        return await patiently(ask, interview.run.server_url, interview.patience_seconds)
    except RefusedError as error:
        return none.model_copy(update={"detail": str(error)})
    except TimeoutError:
        late = f"no answer within {generation.timeout_seconds} s"
        return none.model_copy(update={"outcome": "timedOut", "detail": late})


async def patiently(call: Callable[[], Awaitable[T]], url: str, patience_seconds: float) -> T:
    """What `call` returns; while the server is away, it is called again for up to `patience_seconds`."""
    started = time.monotonic()
    while True:
        try:
            return await call()
        except ServerAwayError as error:
            if time.monotonic() - started > patience_seconds:
                message = (
                    f"The server at {url} did not answer for {patience_seconds:g} s: {error}. Answers so far are"
                    " kept; see the serving container of the pod."
                )
                raise EvaluationError(SERVER_UNREACHABLE, message, retryable=True) from error
            print(f"{error}; asking again in {RETRY_SECONDS:g} s", file=sys.stderr, flush=True)
            await asyncio.sleep(RETRY_SECONDS)


def check_prompts(run: EvaluateRun, asked: list[Question], files: Mapping[str, AnswerFile]) -> None:
    """Raises EvaluationError unless the candidate and its base were asked prompts of the same length, row by row.

    A chat template that differs between the two moves scores by several points and looks like a better model.
    """
    same_base = {run.models[0]} | {
        name for name, baseline in zip(run.models[1:], run.baselines, strict=True) if baseline.from_candidate
    }
    lengths: dict[str, tuple[str, int]] = {}
    for question in asked:
        tokens = files[question.model][question.key].input_tokens
        if question.model not in same_base or not tokens:
            continue
        model, expected = lengths.setdefault(question.row.id, (question.model, tokens))
        if tokens != expected:
            raise mistake(
                PROMPTS_DIFFER,
                f"Row {question.row.id!r} was rendered to {expected} tokens for {model} but to {tokens} for"
                f" {question.model}: their chat templates differ, so their scores cannot be compared.",
            )
