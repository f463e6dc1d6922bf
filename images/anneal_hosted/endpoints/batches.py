"""Provider batch APIs: many questions in one document, answered within a day, for about half the price.

What was sent is found again by a key of ours, so a process that dies between sending and noting the provider's id pays
for nothing twice.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, TypeVar

from pydantic import BaseModel, ValidationError

from anneal_hosted.endpoints.chats import Chat
from anneal_hosted.endpoints.endpoint import AwayError, Reply

M = TypeVar("M", bound=BaseModel)
#: Most questions of one batch: all answers are read into memory. Providers take ten times as many.
MOST_QUESTIONS = 5_000
#: Most bytes of one batch; OpenAI takes 200 MB.
MOST_BYTES = 64 * 1024 * 1024
#: Most bytes of what comes back.
MOST_RESULT_BYTES = 256 * 1024 * 1024


@dataclass(frozen=True)
class Item:
    """One question; its name has at most 64 letters, digits, dashes and underscores."""

    name: str
    chat: Chat
    max_tokens: int


@dataclass(frozen=True)
class Unanswered:
    """Why an item of a batch has no reply. It was not paid for."""

    outcome: Literal["rejected", "timedOut"]
    detail: str


class Batches(Protocol):
    """A provider's batch API. Every method raises AwayError, RefusedError or RunError, and waits without end."""

    async def send(self, key: str, items: Sequence[Item]) -> str:
        """Starts a batch that is found by `key`; the provider's name for it."""

    async def find(self, key: str, size: int, others: frozenset[str]) -> str | None:
        """The provider's name of what was sent under `key` with `size` items, or of what may be that and is none of
        `others`; None where there is nothing.
        """

    async def is_over(self, batch: str) -> bool:
        """Whether it has ended, in whichever way."""

    async def results(self, batch: str, chats: Mapping[str, Chat]) -> Mapping[str, Reply | Unanswered]:
        """What became of each item that the provider says something of; `chats` are the questions, by name."""


def read(model: type[M], content: bytes, where: str) -> M:
    """What a provider said of a batch. Raises AwayError where it is nothing of that kind."""
    try:
        return model.model_validate_json(content)
    except ValidationError as error:
        shown = content[:200].decode(errors="replace")
        raise AwayError(f"{where} gave no {model.__name__.strip('_').lower()}: {shown}", may_be_paid=True) from error


def lines(content: bytes) -> Iterator[bytes]:
    """The lines of a JSON Lines file that say something."""
    return (line for line in content.split(b"\n") if line.strip())
