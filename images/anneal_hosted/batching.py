"""Asking many questions at once, by a provider's batch API: sent, waited for, stored, and paid once.

What is sent is announced in the ledger before, with a key of ours, and its name at the provider is noted after; a
process that starts again goes on with what the last one left, and looks it up where the name was lost. One that must go
leaves its batch to the provider.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from functools import partial
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from anneal_hosted.answers import AnswerFile, StoredAnswer
from anneal_hosted.endpoints.batches import MOST_BYTES, MOST_QUESTIONS, Batches, Item, Unanswered
from anneal_hosted.endpoints.chats import read_chat
from anneal_hosted.endpoints.endpoint import AwayError, RefusedError, Reply
from anneal_hosted.errors import ENDPOINT_UNUSABLE, RunError, mistake
from anneal_hosted.ledger import Ledger, Sent

if TYPE_CHECKING:
    from anneal_hosted.asking import Question

#: First wait for a batch, doubled each time up to the longest, in seconds.
POLL_SECONDS, LONGEST_POLL_SECONDS = 5.0, 60.0
#: Longest wait for one reply of the provider, in seconds.
REQUEST_SECONDS = 300.0


@dataclass(frozen=True)
class Batcher:
    """All questions to one model."""

    model: str
    batches: Batches
    file: AnswerFile
    ledger: Ledger
    ended: asyncio.Event
    patiently: Callable[[Callable[[], Awaitable[Any]]], Awaitable[Any]]
    """Calls again while the provider is away."""
    advance: Callable[[], None]
    """Is called for every answer."""

    async def ask(self, questions: Sequence[Question]) -> None:
        """Stores an answer, or why there is none, for each of `questions` that was not answered by the end.

        Raises RunError, also where the budget does not cover one more question.
        """
        waiting = {question.key: question for question in questions}
        for sent in self.ledger.left(self.model):
            await self._finish(sent, waiting)
        while waiting and not self.ended.is_set():
            chunk = list(_chunk(waiting.values()))
            sent = await self.ledger.announce(self.model, uuid4().hex, [(q.key, q.most) for q in chunk])
            sent = replace(sent, name=await self._start(sent, [waiting[key] for key in sent.keys]))
            await self._finish(sent, waiting)

    async def _start(self, sent: Sent, questions: Sequence[Question]) -> str | None:
        """Sends a batch; what the provider calls it. After a lost reply there may be one already: then None, and it is
        looked for.
        """
        items = [Item(_name(q.key), read_chat(q.messages), q.max_tokens) for q in questions]
        attempts = 0

        async def send() -> str | None:
            nonlocal attempts
            attempts += 1
            if attempts > 1 and await self.batches.find(sent.key, len(items), frozenset()) is not None:
                return None
            return await self.batches.send(sent.key, items)

        try:
            name: str | None = await self._call(send)
        except (RefusedError, RunError) as error:
            is_refused = isinstance(error, RefusedError) or not error.retryable
            if is_refused and attempts == 1:
                # No reply was lost before, so nothing was taken and nobody is paid.
                await self._close(sent, dict.fromkeys(sent.keys, Decimal(0)))
            if isinstance(error, RefusedError):
                said = f"The hosted model {self.model} takes no such batch: {error}."
                raise mistake(ENDPOINT_UNUSABLE, said) from error
            raise
        if name is not None:
            await self.ledger.name(sent, name)
        return name

    async def _finish(self, sent: Sent, waiting: dict[str, Question]) -> None:
        """Waits for a batch and stores what came of it; takes what is settled off `waiting`."""
        asked = {_name(key): waiting[key] for key in sent.keys if key in waiting}
        if not asked:
            return None
        chats, others = {name: read_chat(question.messages) for name, question in asked.items()}, frozenset[str]()
        while True:
            name = sent.name or await self._call(partial(self.batches.find, sent.key, len(sent.keys), others))
            if name is None:
                # It never was sent, so nobody was paid.
                return await self._close(sent, dict.fromkeys(sent.keys, Decimal(0)))
            if not await self._wait(name):
                return None
            told = await self._call(partial(self.batches.results, name, chats))
            if told or sent.name:
                break
            others |= {name}
        await self._store(sent, asked, told)
        for question in asked.values():
            del waiting[question.key]
        return None

    async def _wait(self, name: str) -> bool:
        """Until the batch has ended; False where this process must end first."""
        pause = POLL_SECONDS
        while not self.ended.is_set():
            if await self._call(partial(self.batches.is_over, name)):
                return True
            try:
                await asyncio.wait_for(self.ended.wait(), pause)
            except TimeoutError:
                pause = min(2 * pause, LONGEST_POLL_SECONDS)
        return False

    async def _store(self, sent: Sent, asked: Mapping[str, Question], told: Mapping[str, Reply | Unanswered]) -> None:
        silent = Unanswered("timedOut", "the provider says nothing of it")
        costs = {}
        answers = []
        for name, question in asked.items():
            found = told.get(name, silent)
            answers.append(_answer(question, found))
            is_free = isinstance(found, Unanswered) and found is not silent
            costs[question.key] = Decimal(0) if is_free else question.cost(answers[-1])
        await asyncio.gather(*map(self.file.store, answers))
        await self._close(sent, costs)
        for _ in answers:
            self.advance()

    async def _close(self, sent: Sent, costs: Mapping[str, Decimal]) -> None:
        """Notes what each question did cost, and then that nothing is left of the batch."""
        await asyncio.gather(*(self.ledger.settle(self.model, key, cost) for key, cost in costs.items()))
        await self.ledger.close(sent)

    async def _call(self, work: Callable[[], Awaitable[Any]]) -> Any:
        async def bounded() -> Any:
            try:
                async with asyncio.timeout(REQUEST_SECONDS):
                    return await work()
            except TimeoutError as error:
                raise AwayError(f"no reply within {REQUEST_SECONDS:g} s") from error

        return await self.patiently(bounded)


def _chunk(questions: Iterable[Question]) -> Iterator[Question]:
    """The first questions that go into one batch."""
    size = 0
    for number, question in enumerate(questions):
        size += len(question.messages.encode()) + 1024
        if number and (number >= MOST_QUESTIONS or size > MOST_BYTES):
            return
        yield question


def _name(key: str) -> str:
    """A question's name in a batch: the 64 hex digits of its key."""
    return key.rpartition(":")[2]


def _answer(question: Question, found: Reply | Unanswered) -> StoredAnswer:
    answer = StoredAnswer(key=question.key, row=question.row.id, outcome=found.outcome, detail=found.detail)
    return question.answer(found, 0.0) if isinstance(found, Reply) else answer
