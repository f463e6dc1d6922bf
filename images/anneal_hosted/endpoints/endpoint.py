"""What an endpoint is to the rest: a question goes in, a reply or one of two kinds of trouble out.

A third kind, a mistake of the user (a wrong key, an unknown model), is an RunError and ends the run at once.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from anneal_hosted.answers import AnswerOutcome


class AwayError(Exception):
    """The endpoint, not the model, failed, or has no time now; the message says how."""

    def __init__(self, message: str, *, retry_after: float | None = None, may_be_paid: bool = False) -> None:
        """`retry_after` is how long the endpoint itself asks to wait, in seconds; `may_be_paid` whether it may have
        answered all the same.
        """
        super().__init__(message)
        self.retry_after = retry_after
        self.may_be_paid = may_be_paid


class RefusedError(Exception):
    """The endpoint did not take the question; the message says why."""


@dataclass(frozen=True)
class Reply:
    """What came back for one question. Tokens are None where the endpoint does not count them."""

    text: str
    outcome: AnswerOutcome
    input_tokens: int | None
    output_tokens: int | None
    detail: str = ""
    """Why it is no answer, where more is known than `outcome` says."""
    model: str = ""
    """What a hosted model called itself."""


class Endpoint(Protocol):
    """Who is asked. `ask` and `version` raise RefusedError, AwayError or RunError; they wait without end."""

    @property
    def where(self) -> str:
        """Who it is, for people: a name and an address."""

    @property
    def advice(self) -> str:
        """Where to look when it stays away."""

    async def version(self) -> str:
        """Name and version of what answers: everything that decides an answer beside model, messages and limit."""

    async def ask(self, model: str, messages: str, max_tokens: int) -> Reply:
        """The reply to a chat, given as a JSON list of messages, or as an object of `messages` and `tools`."""
