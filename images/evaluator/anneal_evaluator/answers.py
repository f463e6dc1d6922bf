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
from typing import Literal

from pydantic import Field, ValidationError

from anneal.api.model import ApiModel

#: Only "answered" is scored; the rest are errors. "truncated" was cut off at the token limit, "rejected" was refused
#: by the server or is too large to be asked, "timedOut" took too long.
AnswerOutcome = Literal["answered", "truncated", "rejected", "timedOut"]
#: The same question would end the same way again.
REPEATABLE: frozenset[AnswerOutcome] = frozenset({"answered", "truncated", "rejected"})


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


class AnswerFile:
    """The answers of one model. Appends are durable when `append` returns."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._answers = {answer.key: answer for answer in _whole_lines(path)}

    def __getitem__(self, key: str) -> StoredAnswer:
        return self._answers[key]

    def has(self, key: str) -> bool:
        """Whether the question need not be asked again."""
        answer = self._answers.get(key)
        return answer is not None and answer.outcome in REPEATABLE

    def append(self, answer: StoredAnswer) -> None:
        with self.path.open("ab") as stream:
            stream.write(_line(answer))
            stream.flush()
            os.fsync(stream.fileno())
        self._answers[answer.key] = answer

    def compact(self, keys: Iterable[str]) -> None:
        """Rewrites the file to the last answer of each of `keys`, in their order; atomic."""
        write_atomically(self.path, b"".join(_line(self._answers[key]) for key in keys))


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


def _whole_lines(path: Path) -> list[StoredAnswer]:
    """The stored answers; what follows the last newline, and lines that are no answers, are cut from the file."""
    if not path.exists():
        return []
    answers, kept = [], []
    content = path.read_bytes()
    for line in content.splitlines(keepends=True):
        try:
            if line.endswith(b"\n"):
                answers.append(StoredAnswer.model_validate_json(line))
                kept.append(line)
        except ValidationError:
            continue
    if len(whole := b"".join(kept)) != len(content):
        write_atomically(path, whole)
    return answers
