"""Tools in rows: what is offered, what is called, what comes back, from the ways in which people write them down.

Templates take a tool as OpenAI's API does, and arguments as an object. Tables often hold both as JSON in a text, since
a column of objects gets every key of every row; either way is read, and there is one way afterwards.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from anneal_trainer.prepare.chat import Call, Message, RowError, canonical


def tools_in(row: Any) -> str:
    """The tools of a row, as the JSON of a list; empty without any. Raises RowError."""
    offered = _decoded(row.get("tools"), '"tools"')
    if offered is None or offered == []:
        return ""
    if not isinstance(offered, list):
        raise RowError('"tools" is not a list')
    return canonical([_definition(tool, number) for number, tool in enumerate(offered, start=1)])


def names(tools: str) -> list[str]:
    """What the offered tools are called."""
    return [tool["function"]["name"] for tool in json.loads(tools or "[]")]


def calls_in(entry: Any, name: str) -> tuple[Call, ...]:
    """What the message `entry` calls; `name` is for messages. Raises RowError."""
    if entry.get("function_call"):
        raise RowError(f'{name} has "function_call", which is no longer in use: write it as "tool_calls"')
    made = _decoded(entry.get("tool_calls"), f"the tool_calls of {name}") or []
    if not isinstance(made, list):
        raise RowError(f"the tool_calls of {name} are not a list")
    return tuple(call_of(call, name) for call in made)


def call_of(call: Any, name: str) -> Call:
    """One call, {"function": {"name", "arguments"}} or {"name", "arguments"}. Raises RowError."""
    called = call.get("function", call) if isinstance(call, dict) else None
    if not isinstance(called, dict) or not isinstance(called.get("name"), str) or not called["name"]:
        raise RowError(f"a tool call in {name} is not an object with name and arguments")
    arguments = _decoded(called.get("arguments"), f"the arguments of a tool call in {name}")
    if not isinstance(arguments, dict | None):
        raise RowError(f"the arguments of a tool call in {name} are not an object")
    given = call.get("id")
    return Call(called["name"], canonical(arguments or {}), given if isinstance(given, str) else "")


def check(messages: Sequence[Message], tools: str) -> None:
    """Raises RowError unless every call is of a tool that is offered and every answer of a tool is to a call."""
    offered, open_calls = names(tools), list[Call]()
    for number, message in enumerate(messages, start=1):
        if message.role == "tool":
            if not open_calls:
                raise RowError(f"message {number} is from a tool, but nothing was called that it could answer")
            _close(open_calls, message, number)
        elif open_calls:
            raise RowError(f"message {number} is from {message.role}, but the call of {open_calls[0].name} is open")
        for call in message.calls:
            if message.role != "assistant":
                raise RowError(f"message {number} is from {message.role} and calls a tool")
            if call.name not in offered:
                raise RowError(f'message {number} calls "{call.name[:40]}", which is not among the "tools" of the row')
        open_calls += message.calls


def _close(open_calls: list[Call], message: Message, number: int) -> None:
    """Takes off the call that `message` answers: the one with its id, or the first where it names none."""
    place = next((i for i, call in enumerate(open_calls) if not message.call_id or call.id == message.call_id), None)
    if place is None:
        raise RowError(
            f'message {number} answers the call "{message.call_id[:40]}", which was not made or has its answer'
        )
    del open_calls[place]


def _definition(tool: Any, number: int) -> dict[str, Any]:
    """A tool as {"type": "function", "function": {"name", …}}; the bare inner object is taken, too."""
    inner = tool.get("function", tool) if isinstance(tool, dict) else None
    if not isinstance(inner, dict) or not isinstance(inner.get("name"), str) or not inner["name"]:
        raise RowError(f'tool {number} of "tools" is not an object with a name')
    if tool is not inner and tool.get("type", "function") != "function":
        raise RowError(
            f'tool {number} of "tools" is of the type {str(tool["type"])[:40]!r}: only functions can be learned'
        )
    return {"type": "function", "function": inner}


def _decoded(value: Any, name: str) -> Any:
    """The value, also where it was written as JSON into a text."""
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value) if value.strip() else None
    except (ValueError, RecursionError) as error:
        raise RowError(f"broken JSON in {name} ({str(error)[:80]})") from error
