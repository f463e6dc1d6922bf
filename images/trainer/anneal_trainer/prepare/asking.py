"""Asking hosted models: answers and spending are on disk in the workspace, so a killed run pays for nothing twice."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import aiohttp

from anneal.api.artifacts import digest_of_json
from anneal.api.subjects import Generation, Hosted
from anneal_hosted.answers import AnswerFile, StoredAnswer
from anneal_hosted.asking import PATIENCE_SECONDS, Interview, Question, ask_all
from anneal_hosted.endpoints import hosted_endpoint
from anneal_hosted.endpoints.endpoint import Endpoint
from anneal_hosted.errors import BUDGET_EXCEEDED, PreemptedError, RunError
from anneal_hosted.keys import await_keys, read_key
from anneal_hosted.ledger import Ledger
from anneal_hosted.progress import Progress
from anneal_trainer.errors import Preempted, TrainerError, Unavailable, UserMistake
from anneal_trainer.prepare.documents import Chat

#: From name, model and API key to what is asked.
Connect = Callable[[str, Hosted, str | None, aiohttp.ClientSession], Endpoint]


@dataclass(frozen=True)
class Respondent:
    """One of those who are asked, and how long its answers may be, in tokens."""

    hosted: Hosted
    max_tokens: int
    connect: Connect


@dataclass(frozen=True)
class Asker:
    """Hosted models with one budget, and the directory that keeps what they said and cost."""

    field: str
    """Who wants to know: "dataset.augmentation"."""
    respondents: Mapping[str, Respondent]
    options: Generation
    max_cost: Decimal
    keys: Path
    directory: Path

    def check_keys(self) -> None:
        """Raises TrainerError unless everyone that names a Secret has its key; waits a little for it."""
        try:
            await_keys(lambda: [self._key(name) for name in self.respondents])
        except RunError as error:
            raise _ours(error) from error

    def ask(self, name: str, chats: Sequence[Chat]) -> tuple[list[StoredAnswer | None], bool]:
        """(the answer to each chat, None where it was not asked; whether max_cost ended the asking).

        What was answered before is not asked again. Raises TrainerError, Preempted.
        """
        self.directory.mkdir(parents=True, exist_ok=True)
        try:
            return asyncio.run(self._ask(name, chats))
        except PreemptedError as error:
            raise Preempted(f"preempted while asking for {self.field}; replies so far are kept") from error
        except RunError as error:
            raise _ours(error) from error

    def spent(self) -> Decimal:
        """What all have cost so far; what a killed run had under way counts at its most."""
        return self._ledger().spent()

    async def _ask(self, name: str, chats: Sequence[Chat]) -> tuple[list[StoredAnswer | None], bool]:
        file, ledger = AnswerFile(self.directory / f"{name}.jsonl"), self._ledger()
        asked_of = self.respondents[name]
        hosted, limit = asked_of.hosted, asked_of.max_tokens
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=None)) as session:
            endpoint = asked_of.connect(name, hosted, self._key(name), session)
            version = await endpoint.version()
            asked = [Question(name, chat, _key_of(chat, version, limit), limit, hosted) for chat in chats]
            ledger.settle_stored({(name, q.key): q.cost(found) for q in asked if (found := file.get(q.key))})
            interview = Interview(
                self.options, {name: endpoint}, {name: file}, ledger, Progress(None, 0, len(asked)), PATIENCE_SECONDS
            )
            is_spent = False
            try:
                await ask_all(interview, asked)
            except RunError as error:
                if error.reason != BUDGET_EXCEEDED:
                    raise
                is_spent = True
        return [file.get(question.key) for question in asked], is_spent

    def _ledger(self) -> Ledger:
        return Ledger(self.directory / "spending.jsonl", self.max_cost)

    def _key(self, name: str) -> str | None:
        return read_key(f"the {name} of {self.field}", self.respondents[name].hosted, self.keys / name)


def replies_in(schema: Mapping[str, Any]) -> Connect:
    """For chats whose replies are JSON of a schema."""
    return lambda name, hosted, key, session: hosted_endpoint(name, hosted, key, session, schema)


def is_said(reply: StoredAnswer | None) -> bool:
    """Whether it is an answer, not an error."""
    return reply is not None and reply.outcome == "answered"


def _key_of(chat: Chat, version: str, limit: int) -> str:
    """Digest of everything that decides the reply."""
    return digest_of_json({"hosted": version, "messages": [m.to_json() for m in chat.messages], "maxTokens": limit})


def _ours(error: RunError) -> TrainerError:
    return (Unavailable if error.retryable else UserMistake)(error.reason, str(error))
