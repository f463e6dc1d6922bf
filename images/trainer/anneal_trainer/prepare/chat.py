"""What a row is once it is read: the turns of a chat, with the tools that were offered and the calls that were made."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any


class RowError(ValueError):
    """A row that cannot be learned from; the message says what is wrong with it, without saying where it is."""


class OtherLanguageError(RowError):
    """A row that is in order, but in a language that is not wanted."""


@dataclass(frozen=True)
class Call:
    """A call of a tool. `arguments` is a JSON object as text; `id` is empty where the row has none."""

    name: str
    arguments: str
    id: str = ""

    def to_json(self) -> dict[str, Any]:
        """As chat templates take it: the arguments are an object."""
        called = {"type": "function", "function": {"name": self.name, "arguments": json.loads(self.arguments)}}
        return {"id": self.id, **called} if self.id else called


@dataclass(frozen=True)
class Message:
    """One turn of a conversation.

    Attributes:
        calls: of the assistant, what it calls, beside or instead of saying something.
        call_id: of a tool, which call it answers; empty where the row does not say.
        name: of a tool, which one it is; empty where the row does not say.
    """

    role: str
    content: str
    calls: tuple[Call, ...] = ()
    call_id: str = ""
    name: str = ""

    @property
    def said(self) -> str:
        """Everything in it, as text to compare."""
        return "\n".join([self.content, *(f"{call.name} {call.arguments}" for call in self.calls)])

    def to_json(self) -> dict[str, Any]:
        """As chat templates take it."""
        more = {
            "tool_calls": [call.to_json() for call in self.calls],
            "tool_call_id": self.call_id,
            "name": self.name,
        }
        return {"role": self.role, "content": self.content, **{key: value for key, value in more.items() if value}}


def message_of(document: dict[str, Any]) -> Message:
    """The message that `to_json` wrote."""
    calls = [
        Call(called["function"]["name"], canonical(called["function"]["arguments"]), called.get("id", ""))
        for called in document.get("tool_calls", ())
    ]
    return Message(
        document["role"], document["content"], tuple(calls), document.get("tool_call_id", ""), document.get("name", "")
    )


def canonical(value: Any) -> str:
    """JSON in one spelling; the order of keys is kept, since templates write them in it."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
