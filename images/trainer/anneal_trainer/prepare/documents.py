"""A question to a hosted model as one JSON document, and what a reply must look like.

Rows are data: they travel as JSON inside of a document, so that no text in them can end a section or begin one.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from anneal_trainer.prepare.chat import Message


@dataclass(frozen=True)
class Chat:
    """A question to a hosted model."""

    id: str
    messages: Sequence[Message]
    tools: None = None


def about(name: str, told: str, document: Mapping[str, Any]) -> Chat:
    """The question what is `told` of the document."""
    return Chat(name, [Message("system", told), Message("user", json.dumps(document, ensure_ascii=False))])


def object_of(**members: Any) -> dict[str, Any]:
    """The JSON schema of an object with exactly these members."""
    return {"type": "object", "properties": members, "required": list(members), "additionalProperties": False}


def bare(reply: str) -> str:
    """JSON without the fence that some models put around it."""
    return reply.strip().removeprefix("```json").removeprefix("```").removesuffix("```")
