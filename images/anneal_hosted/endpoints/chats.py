"""Chats as they are asked: from one JSON text to what a wire protocol wants, tools and their calls among it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Chat:
    """Messages and tools as chat templates have them; every call has an id, and what answers it names it."""

    messages: Sequence[dict[str, Any]]
    tools: Sequence[dict[str, Any]] = ()


def read_chat(text: str) -> Chat:
    """The chat in a JSON list of messages, or in an object of `messages` and `tools`."""
    document = json.loads(text)
    if isinstance(document, list):
        return Chat(document)
    return Chat(list(_with_ids(document["messages"])), document["tools"])


def _with_ids(messages: Iterable[dict[str, Any]]) -> Iterable[dict[str, Any]]:
    """Hosted APIs demand ids where rows may have none: then an answer is to the first call that has none yet."""
    made, waiting = 0, list[str]()
    for message in messages:
        if calls := message.get("tool_calls"):
            named = [{**call, "id": call.get("id") or f"call_{made + n}"} for n, call in enumerate(calls, start=1)]
            made += len(named)
            waiting += [call["id"] for call in named]
            yield {**message, "tool_calls": named}
        elif message["role"] == "tool":
            answered = message.get("tool_call_id") or waiting[0]
            waiting.remove(answered)
            yield {**message, "tool_call_id": answered}
        else:
            yield message


def called(name: str, arguments: str | Mapping[str, Any]) -> str:
    """A call in an answer, as text: what a metric or a judge sees of it."""
    try:
        given = json.loads(arguments) if isinstance(arguments, str) else arguments
    except ValueError:
        given = arguments
    return json.dumps({"name": name, "arguments": given}, ensure_ascii=False)
