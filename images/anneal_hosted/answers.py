"""Answers on disk, before anything is scored: one JSON Lines file per model, each line flushed to the disk.

A restarted evaluation asks only what it has no answer for. What counts as the same question is a digest over
everything that decides the answer (the model, the template that renders the prompt, the messages, the limit, the
server), so that an answer is never reused for another model or other settings. Failures are asked again; they are
stored to be seen. A line torn by a crash is dropped.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Literal, get_args

from pydantic import Field, ValidationError

from anneal.api.model import ApiModel
from anneal_hosted.log import Log, write_lines

#: Only "answered" is scored; the rest are errors. "truncated" was cut off at the token limit, "rejected" was not taken
#: by the server or is too large to be asked, "timedOut" took too long. Of hosted models also: "declined" was refused by
#: the model or its provider's filter, "empty" has no text, "unreadable" is a reply that is not one of its protocol.
AnswerOutcome = Literal["answered", "truncated", "rejected", "timedOut", "declined", "empty", "unreadable"]
#: The same question would end the same way again, or was paid for already.
REPEATABLE: frozenset[AnswerOutcome] = frozenset(get_args(AnswerOutcome)) - {"timedOut"}


class StoredAnswer(ApiModel):
    """What one model said to one row."""

    key: str = Field(description="Digest of everything that decides the answer.")
    row: str = Field(description="Id of the held-out row.")
    outcome: AnswerOutcome = Field(description="Whether it is an answer, and if not, why.")
    text: str = Field(default="", description="The answer; what there was of it when truncated.")
    detail: str = Field(default="", description="What went wrong.")
    input_tokens: int = Field(default=0, description="Tokens of the rendered prompt.")
    output_tokens: int = Field(default=0, description="Tokens decoded.")
    seconds: float = Field(default=0.0, description="Time from question to answer.")
    model: str = Field(default="", description="What a hosted model called itself.")
    reused: bool = Field(default=False, description="Whether another evaluation asked, and paid.")


class AnswerFile:
    """The answers of one model. What is stored is durable when `store` or `append` returns."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._log = Log(path)
        self._answers = {answer.key: answer for answer in _whole_lines(path)}

    def __getitem__(self, key: str) -> StoredAnswer:
        return self._answers[key]

    def has(self, key: str) -> bool:
        """Whether the question need not be asked again."""
        answer = self._answers.get(key)
        return answer is not None and answer.outcome in REPEATABLE

    def was_asked(self, key: str) -> bool:
        """Whether it was asked, whatever came of it."""
        return key in self._answers

    def get(self, key: str) -> StoredAnswer | None:
        """What came of the question so far."""
        return self._answers.get(key)

    async def store(self, answer: StoredAnswer) -> None:
        """Answers that come at once share one flush to disk."""
        await self._log.append(_line(answer))
        self._answers[answer.key] = answer

    def append(self, answer: StoredAnswer) -> None:
        """The same where nothing else is under way."""
        write_lines(self.path, _line(answer))
        self._answers[answer.key] = answer

    def compact(self, keys: Iterable[str]) -> None:
        """Rewrites the file to the last answer of each of `keys`, once and in their order; atomic."""
        write_atomically(self.path, b"".join(_line(self._answers[key]) for key in dict.fromkeys(keys)))


def write_atomically(path: Path, content: bytes) -> None:
    """The whole new content or the whole old one, whenever the machine stops."""
    temporary = path.with_name(f".{path.name}.new")
    with temporary.open("wb") as stream:
        stream.write(content)
        stream.flush()
        os.fsync(stream.fileno())
    temporary.replace(path)


def _line(answer: StoredAnswer) -> bytes:
    return answer.model_dump_json(by_alias=True).encode() + b"\n"


def read_answers(path: Path) -> list[StoredAnswer]:
    """The stored answers of a file that another process may be writing to; lines that are no answers are left out."""
    return answers_in(path.read_bytes())


def answers_in(content: bytes) -> list[StoredAnswer]:
    """The stored answers of what such a file holds."""
    return [answer for _, answer in _answers_in(content)]


def _whole_lines(path: Path) -> list[StoredAnswer]:
    """The stored answers; what follows the last newline, and lines that are no answers, are cut from the file."""
    if not path.exists():
        return []
    content = path.read_bytes()
    found = _answers_in(content)
    if len(whole := b"".join(line for line, _ in found)) != len(content):
        write_atomically(path, whole)
    return [answer for _, answer in found]


def _answers_in(content: bytes) -> list[tuple[bytes, StoredAnswer]]:
    found = []
    for line in content.splitlines(keepends=True):
        try:
            if line.endswith(b"\n"):
                found.append((line, StoredAnswer.model_validate_json(line)))
        except ValidationError:
            continue
    return found
