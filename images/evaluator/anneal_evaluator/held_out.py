"""The rows that are asked: JSON Lines, verified against the digest that the trainer recorded before training."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, ValidationError

from anneal.api.artifacts import digest_of_file
from anneal.api.model import ApiModel
from anneal.api.runs import MountedPath
from anneal_evaluator.errors import DIGEST_MISMATCH, HELD_OUT_EMPTY, HELD_OUT_INVALID, mistake


class Message(ApiModel):
    """One turn of a chat."""

    role: str = Field(description="system, user, assistant or tool.")
    content: str = Field(description="What was said.")
    tool_calls: list[dict[str, Any]] | None = Field(
        default=None, alias="tool_calls", description="What the assistant called, arguments as objects."
    )
    tool_call_id: str | None = Field(default=None, alias="tool_call_id", description="The call that a tool answers.")
    name: str | None = Field(default=None, description="The tool that answers.")


class HeldOutRow(ApiModel):
    """One question and the answer that a person gave."""

    id: str = Field(min_length=1, description="Unique in the file.")
    messages: list[Message] = Field(min_length=1, description="The chat up to the answer.")
    reference: str = Field(description="The answer to compare with.")
    tools: list[dict[str, Any]] | None = Field(
        default=None, description="What may be called, as OpenAI's API describes it."
    )
    group: str | None = Field(
        default=None, description="What rows have in common that are not independent: a document, a conversation."
    )
    category: str | None = Field(default=None, description="What the row is about, for results by category.")
    scoring: dict[str, Any] | None = Field(
        default=None, description="What plugins need to score an answer to it; they alone are handed it."
    )


def read_held_out(location: MountedPath, digest: str) -> list[HeldOutRow]:
    """All rows of the file, in its order.

    Raises EvaluationError: the file is missing, is not the one that was recorded, is empty, or a line is not a row.
    """
    path = Path(location.path)
    if not path.is_file():
        raise mistake(DIGEST_MISMATCH, f"The held-out rows {location.uri} do not exist; were they moved or deleted?")
    found = digest_of_file(path)
    if found != digest:
        raise mistake(
            DIGEST_MISMATCH,
            f"The held-out rows {location.uri} are not those that were recorded: their digest is {found}, recorded was"
            f" {digest}. Restore the file, or judge anew by what is there: train again, or correct spec.sealed.",
        )
    rows = [
        _parse(line, number, location.uri)
        for number, line in enumerate(path.read_bytes().split(b"\n"), 1)
        if line.strip()
    ]
    if not rows:
        raise mistake(
            HELD_OUT_EMPTY,
            f"{location.uri} holds no rows, so there is nothing to judge by. Train with dataset.split.heldOut > 0.",
        )
    seen: set[str] = set()
    for row in rows:
        if row.id in seen:
            raise mistake(HELD_OUT_INVALID, f"Row id {row.id!r} occurs twice in {location.uri}; ids must be unique.")
        seen.add(row.id)
    return rows


def groups_of(rows: Sequence[HeldOutRow]) -> NDArray[np.int64]:
    """For each row the number of its group; a row without one is a group of its own."""
    number: dict[tuple[str, str], int] = {}
    keys = [("row", row.id) if row.group is None else ("group", row.group) for row in rows]
    return np.array([number.setdefault(key, len(number)) for key in keys], dtype=np.int64)


def _parse(line: bytes, number: int, uri: str) -> HeldOutRow:
    try:
        return HeldOutRow.model_validate_json(line)
    except ValidationError as error:
        problem = error.errors()[0]
        where = ".".join(map(str, problem["loc"])) or "the line"
        raise mistake(HELD_OUT_INVALID, f"Line {number} of {uri}: {where}: {problem['msg']}.") from error
