"""Asking: every question to whom it is for, in order, so that no model is ahead of the others.

Three kinds of trouble are kept apart. The model's or the row's (cut off, refused, too slow) is an error of that row.
The endpoint's (dead process, refused connection, too many requests) is nobody's answer: it is waited out for a while,
then the run ends to be tried again. The user's (a refused key) ends the run at once.

However the run ends, what is under way is waited for: an answer that arrives is stored, and never paid for again.
"""

from __future__ import annotations

import asyncio
import json
import random
import signal
import sys
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Protocol, TypeVar

from anneal.api.costs import price_of
from anneal.api.subjects import Generation, Hosted
from anneal_hosted.answers import AnswerFile, StoredAnswer
from anneal_hosted.batching import Batcher
from anneal_hosted.endpoints import batches_of
from anneal_hosted.endpoints.endpoint import AwayError, Endpoint, RefusedError, Reply
from anneal_hosted.errors import MODEL_CHANGED, SERVER_UNREACHABLE, PreemptedError, RunError, mistake
from anneal_hosted.ledger import Ledger
from anneal_hosted.progress import Progress

#: Larger questions are not sent: Triton 2.51 crashes on bodies of 8 MB, and no context window takes one.
MAX_QUESTION_BYTES = 4 * 1024 * 1024
#: How long an endpoint may be away before the run gives up, in seconds: a restart or a minute of 429 takes less.
PATIENCE_SECONDS = 180.0
#: First wait before asking again, doubled each time up to the longest, in seconds.
RETRY_SECONDS, LONGEST_RETRY_SECONDS = 2.0, 30.0
#: How long answers under way are waited for when the pod must go, in seconds: less than the grace period of 30.
LAST_ANSWERS_SECONDS = 20.0

T = TypeVar("T")


class Turn(Protocol):
    """One message of a chat."""

    def to_json(self) -> dict[str, Any]:
        """The message as the wire protocols have it."""


class Row(Protocol):
    """What a question is about."""

    @property
    def id(self) -> str:
        """Its name, for messages and answer files."""

    @property
    def messages(self) -> Sequence[Turn]:
        """The chat up to the answer."""

    @property
    def tools(self) -> Sequence[dict[str, Any]] | None:
        """What may be called, as OpenAI's API describes it."""


@dataclass(frozen=True)
class Question:
    """One row for one model."""

    model: str
    row: Row
    key: str
    max_tokens: int
    hosted: Hosted | None = None

    @property
    def messages(self) -> str:
        """The chat as the server takes it: a list, with tools an object of `messages` and `tools`."""
        turns = [m.to_json() for m in self.row.messages]
        tools = self.row.tools
        return json.dumps({"messages": turns, "tools": tools} if tools else turns, ensure_ascii=False)

    @property
    def most(self) -> Decimal | None:
        """The most that the answer can cost; None without a price. A token has at least one byte of its text."""
        if self.hosted is None or self.hosted.tariff is None:
            return None
        # Providers put instructions of theirs before tools, of several hundred tokens.
        overhead = 16 * len(self.row.messages) + (1024 if self.row.tools else 16)
        return price_of(self.hosted.tariff, len(self.messages.encode()) + overhead, self.max_tokens)

    def cost(self, answer: StoredAnswer) -> Decimal:
        """What the answer did cost: 0 for what was not taken, the most where tokens were not counted."""
        if self.hosted is None or self.hosted.tariff is None or answer.outcome == "rejected":
            return Decimal(0)
        if answer.input_tokens + answer.output_tokens == 0:
            return self.most or Decimal(0)
        return price_of(self.hosted.tariff, answer.input_tokens, answer.output_tokens)

    @property
    def is_too_large(self) -> bool:
        """Whether it is never sent."""
        return len(self.messages.encode()) > MAX_QUESTION_BYTES

    def answer(self, reply: Reply, seconds: float) -> StoredAnswer:
        """What is stored of a reply."""
        cut = f"cut off at maxTokens ({self.max_tokens})" if reply.outcome == "truncated" else ""
        return StoredAnswer(
            key=self.key,
            row=self.row.id,
            outcome=reply.outcome,
            text=reply.text,
            detail=reply.detail or cut,
            input_tokens=reply.input_tokens or 0,
            output_tokens=reply.output_tokens or 0,
            seconds=round(seconds, 3),
            model=reply.model,
        )


@dataclass(frozen=True)
class Interview:
    """Everything that asking needs."""

    generation: Generation
    endpoints: Mapping[str, Endpoint]
    """By model; the served ones share one."""
    files: Mapping[str, AnswerFile]
    ledger: Ledger
    progress: Progress
    patience_seconds: float = PATIENCE_SECONDS
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when no more questions are to be asked."""
    failures: list[BaseException] = field(default_factory=list)
    """What ended the asking."""


async def ask_all(interview: Interview, asked: list[Question]) -> None:
    """Stores an answer, or why there is none, for each of `asked`; at most `generation.concurrency` at a time each to
    the server and to every hosted model.

    Raises RunError when an endpoint stays away for `patience_seconds` or says that it cannot be used, and
    PreemptedError when the pod must go; in both cases after the answers under way.
    """
    lanes: dict[int, list[Question]] = defaultdict(list)
    together: dict[str, list[Question]] = defaultdict(list)
    for question in asked:
        if interview.files[question.model].has(question.key):
            continue
        if question.hosted is not None and question.hosted.requests == "Batch" and not question.is_too_large:
            together[question.model].append(question)
        else:
            lanes[id(interview.endpoints[question.model])].append(question)
    concurrency = interview.generation.concurrency
    telling = asyncio.create_task(interview.progress.tell_until_cancelled())
    with _ended_by_sigterm(interview.ended) as is_preempted:
        shared = [iter(lane) for lane in lanes.values()]
        workers = [asyncio.create_task(_work(interview, lane)) for lane in shared for _ in range(concurrency)]
        workers += [asyncio.create_task(_ask_together(interview, *lane)) for lane in together.items()]
        await _wait(interview, workers, is_preempted)
    telling.cancel()
    if is_preempted():
        raise PreemptedError
    if interview.failures:
        raise interview.failures[0]
    await interview.progress.tell()


async def _wait(interview: Interview, workers: list[asyncio.Task[None]], is_preempted: Callable[[], bool]) -> None:
    """Until all workers are done; when the pod must go, they have LAST_ANSWERS_SECONDS."""
    ending = asyncio.create_task(interview.ended.wait())
    everyone: asyncio.Future[list[BaseException | None]] = asyncio.gather(*workers, return_exceptions=True)
    waited: list[asyncio.Future[Any]] = [everyone, ending]
    await asyncio.wait(waited, return_when=asyncio.FIRST_COMPLETED)
    ending.cancel()
    await asyncio.wait([everyone], timeout=LAST_ANSWERS_SECONDS if is_preempted() else None)
    for worker in workers:
        worker.cancel()
    await everyone


@contextmanager
def _ended_by_sigterm(ended: asyncio.Event) -> Iterator[Callable[[], bool]]:
    """While questions are under way, SIGTERM ends the asking instead of the process."""
    loop, before, told = asyncio.get_running_loop(), signal.getsignal(signal.SIGTERM), asyncio.Event()

    def end() -> None:
        told.set()
        ended.set()

    loop.add_signal_handler(signal.SIGTERM, end)
    try:
        yield told.is_set
    finally:
        loop.remove_signal_handler(signal.SIGTERM)
        signal.signal(signal.SIGTERM, before)


async def _work(interview: Interview, waiting: Iterator[Question]) -> None:
    """Asks until there is nothing left or the asking has ended; the first failure of all ends it."""
    with _ending(interview):
        for question in waiting:
            if interview.ended.is_set():
                return
            await _ask(interview, question)
            interview.progress.advance()


async def _ask_together(interview: Interview, model: str, questions: list[Question]) -> None:
    """The same by the provider's batch API."""
    endpoint = interview.endpoints[model]
    batcher = Batcher(
        model,
        batches_of(endpoint),
        interview.files[model],
        interview.ledger,
        interview.ended,
        lambda call: patiently(call, endpoint, interview.patience_seconds, interview.ended),
        interview.progress.advance,
    )
    with _ending(interview):
        await batcher.ask(questions)


@contextmanager
def _ending(interview: Interview) -> Iterator[None]:
    """The first failure of all ends the asking."""
    try:
        yield
    except Exception as error:
        if not interview.ended.is_set():
            interview.failures.append(error)
            interview.ended.set()


async def _ask(interview: Interview, question: Question) -> None:
    """One question to its stored answer; what it cost is noted only after that is on disk."""
    none = StoredAnswer(key=question.key, row=question.row.id, outcome="rejected")
    timeout = interview.generation.timeout_seconds
    if question.is_too_large:
        said = f"the question has {len(question.messages.encode())} bytes, over the limit {MAX_QUESTION_BYTES}"
        return await interview.files[question.model].store(none.model_copy(update={"detail": said}))
    endpoint = interview.endpoints[question.model]
    try:
        answer = await patiently(
            lambda: _attempt(interview, question), endpoint, interview.patience_seconds, interview.ended
        )
    except RefusedError as error:
        answer = none.model_copy(update={"detail": str(error)})
    except TimeoutError:
        answer = none.model_copy(update={"outcome": "timedOut", "detail": f"no answer within {timeout} s"})
    await interview.files[question.model].store(answer)
    if question.most is not None:
        await interview.ledger.settle(question.model, question.key, question.cost(answer))
    return None


async def _attempt(interview: Interview, question: Question) -> StoredAnswer:
    """One request. The most that it can cost is noted before it is sent."""
    most = question.most
    if most is not None:
        await interview.ledger.reserve(question.model, question.key, most)
    started = time.monotonic()
    try:
        async with asyncio.timeout(interview.generation.timeout_seconds):
            reply = await interview.endpoints[question.model].ask(
                question.model, question.messages, question.max_tokens
            )
    except AwayError as error:
        if most is not None:
            lost = most if error.may_be_paid else Decimal(0)
            await interview.ledger.settle(question.model, question.key, lost)
        raise
    return question.answer(reply, time.monotonic() - started)


async def patiently(
    call: Callable[[], Awaitable[T]], endpoint: Endpoint, patience_seconds: float, ended: asyncio.Event
) -> T:
    """What `call` returns; while the endpoint is away, it is called again for up to `patience_seconds`.

    It waits as long as the endpoint asks to, else twice as long each time, with a random part so that questions that
    failed together do not return together. Raises RunError when patience or the asking is at its end.
    """
    started, wait = time.monotonic(), RETRY_SECONDS
    while True:
        try:
            return await call()
        except AwayError as error:
            pause = wait * random.uniform(0.5, 1.0) if error.retry_after is None else error.retry_after  # noqa: S311
            if time.monotonic() - started + pause > patience_seconds or ended.is_set():
                message = (
                    f"{endpoint.where} did not answer for {patience_seconds:g} s: {error}. Answers so far are kept."
                    f" {endpoint.advice}"
                )
                raise RunError(SERVER_UNREACHABLE, message, retryable=True) from error
            print(f"{error}; asking again in {pause:.1f} s", file=sys.stderr, flush=True)
            with suppress(TimeoutError):
                await asyncio.wait_for(ended.wait(), pause)
            wait = min(2 * wait, LONGEST_RETRY_SECONDS)


def check_snapshots(asked: list[Question], files: Mapping[str, AnswerFile]) -> None:
    """Raises RunError unless every answer of a hosted model came from one and the same model."""
    named: dict[str, str] = {}
    for question in asked:
        called = files[question.model][question.key].model
        if called and named.setdefault(question.model, called) != called:
            raise mistake(
                MODEL_CHANGED,
                f"Hosted model {question.model} answered as {named[question.model]!r} and as {called!r}: its name was"
                " moved to another model between the answers. Name a dated snapshot.",
            )
