"""The shapes that people bring their examples in, each turned into the one that the rest works with: chat messages.

Detection is row by row, so a file may mix shapes. A row that fits none says what it looks like instead, because the
usual cause is a file made for another kind of training.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from anneal.api.dataset import Columns, DataFormat
from anneal_trainer.prepare import tools
from anneal_trainer.prepare.chat import Message, RowError

Row = Mapping[str, Any]


def to_messages(row: Row, wanted: DataFormat) -> list[Message]:
    """The conversation in a row, as it stands; `validate.check` says whether it can be learned from.

    Raises RowError when the row has not the shape that is `wanted`, or, with Auto, none of them.
    """
    return _READERS[detect(row) if wanted == "Auto" else wanted](row)


def renamed(row: Row, columns: Columns) -> Row:
    """The row under the names that the formats have, and with nothing else that makes an example.

    Raises RowError for a column that is named and not there.
    """
    found = {}
    for name, column in columns.to_json().items():
        if column in row:
            found[name] = row[column]
        elif name not in ("system", "tools"):
            raise RowError(f'no column "{column}", which columns.{name} names: it has {_keys(row)}')
    return found


def detect(row: Row) -> DataFormat:
    """The shape of a row by its keys. Raises RowError with the likely reason when there is none."""
    if "messages" in row:
        return "Messages"
    if "conversations" in row:
        return "ShareGPT"
    if "prompt" in row and ("completion" in row or "response" in row):
        return "PromptCompletion"
    if "instruction" in row and "output" in row:
        return "Alpaca"
    raise RowError(_why_unknown(row))


def _why_unknown(row: Row) -> str:
    if "chosen" in row or "rejected" in row:
        return "preference data (chosen, rejected), which supervised fine-tuning cannot learn from"
    if set(row) == {"text"}:
        return 'plain text: a row needs a question and an answer, such as "prompt" and "completion"'
    if "prompt" in row or "instruction" in row:
        return f"no answer: it has {_keys(row)}, but no completion, response or output"
    return (
        f"unknown shape: it has {_keys(row)}; expected messages, conversations, prompt and completion (or response), or"
        " instruction and output; other names are told by dataset.sources[].columns"
    )


def _keys(row: Row) -> str:
    shown = [key[:40] for key in list(row)[:8]]
    return ", ".join(shown) if shown else "no keys"


def _from_messages(row: Row) -> list[Message]:
    if row.get("functions"):
        raise RowError('"functions" is no longer in use: write it as "tools"')
    return _message_list(_need(row, "messages", "Messages"), '"messages"')


def _from_prompt_completion(row: Row) -> list[Message]:
    prompt = _need(row, "prompt", "PromptCompletion")
    if "completion" in row and "response" in row:
        raise RowError('both "completion" and "response", and only one can be the answer')
    key = "response" if "response" in row else "completion"
    answer = _need(row, key, "PromptCompletion")
    before = _message_list(prompt, '"prompt"') if isinstance(prompt, list) else [_message("user", prompt, "prompt")]
    after = _message_list(answer, f'"{key}"') if isinstance(answer, list) else [_message("assistant", answer, key)]
    return _with_system(row, before + after)


def _from_sharegpt(row: Row) -> list[Message]:
    turns = _structured(_need(row, "conversations", "ShareGPT"))
    if not isinstance(turns, list):
        raise RowError(f'"conversations" is {_kind(turns)}, not a list')
    return _with_system(row, [_sharegpt_turn(turn, f"message {i}") for i, turn in enumerate(turns, start=1)])


def _sharegpt_turn(entry: Any, name: str) -> Message:
    if isinstance(entry, dict) and "from" not in entry:
        return _turn(entry, name)
    if not isinstance(entry, dict):
        raise RowError(f"{name} is {_kind(entry)}, not an object with from and value")
    speaker, value = entry["from"], entry.get("value")
    if speaker == "function_call":
        return Message("assistant", "", (tools.call_of(_structured(value, "{"), name),))
    if not isinstance(value, str):
        raise RowError(f"the value of {name} is {_kind(value)}, not a text")
    return Message(_SPEAKERS.get(speaker, str(speaker)), value)


def _from_alpaca(row: Row) -> list[Message]:
    question = _message("user", _need(row, "instruction", "Alpaca"), "instruction").content
    context = row.get("input") or ""
    if context:
        question = f"{question}\n\n{_message('user', context, 'input').content}"
    answer = _message("assistant", _need(row, "output", "Alpaca"), "output")
    return _with_system(row, [*_history(row), Message("user", question), answer])


def _history(row: Row) -> list[Message]:
    """The turns before, given as [[question, answer], …]."""
    turns = _structured(row.get("history") or [])
    pairs = turns if isinstance(turns, list) else [turns]
    messages = []
    for pair in pairs:
        if not isinstance(pair, list) or len(pair) != 2:
            raise RowError(f'"history" has {_kind(pair)} where a list of question and answer is expected')
        messages += [_message("user", pair[0], "history"), _message("assistant", pair[1], "history")]
    return messages


def _structured(value: Any, opens: str = "[") -> Any:
    """A list, or what else `opens` begins, also where it was written as JSON into a cell of text."""
    if isinstance(value, str) and value.lstrip().startswith(opens):
        try:
            return json.loads(value)
        except (ValueError, RecursionError) as error:
            raise RowError(f"broken JSON in a cell ({str(error)[:80]})") from error
    return value


def _with_system(row: Row, messages: list[Message]) -> list[Message]:
    system = row.get("system")
    return [_message("system", system, "system"), *messages] if system else messages


def _need(row: Row, key: str, shape: str) -> Any:
    if key not in row:
        raise RowError(f'no "{key}", which the format {shape} has: it has {_keys(row)}')
    return row[key]


def _message(role: str, content: Any, name: str) -> Message:
    if not isinstance(content, str):
        raise RowError(f'"{name}" is {_kind(content)}, not a text')
    return Message(role, content)


def _message_list(value: Any, name: str) -> list[Message]:
    value = _structured(value)
    if not isinstance(value, list):
        raise RowError(f"{name} is {_kind(value)}, not a list")
    return [_turn(entry, f"message {i}") for i, entry in enumerate(value, start=1)]


def _turn(entry: Any, name: str) -> Message:
    if not isinstance(entry, dict):
        raise RowError(f"{name} is {_kind(entry)}, not an object with role and content")
    role = entry.get("role")
    if not isinstance(role, str):
        raise RowError(f"{name} has no role")
    calls, content = tools.calls_in(entry, name), entry.get("content")
    if content is None and calls:
        content = ""
    if not isinstance(content, str):
        raise RowError(f"the content of {name} is {_kind(content)}, not a text")
    of_tool = [str(entry.get(key) or "") if role == "tool" else "" for key in ("tool_call_id", "name")]
    return Message(role, content, calls, *of_tool)


def _kind(value: Any) -> str:
    """What a JSON value is, for people."""
    if value is None:
        return "null"
    return _KINDS.get(type(value), type(value).__name__)


_KINDS = {str: "a text", bool: "a boolean", int: "a number", float: "a number", list: "a list", dict: "an object"}
_SPEAKERS = {"human": "user", "gpt": "assistant", "observation": "tool"}
_READERS: dict[DataFormat, Callable[[Row], list[Message]]] = {
    "Messages": _from_messages,
    "PromptCompletion": _from_prompt_completion,
    "Alpaca": _from_alpaca,
    "ShareGPT": _from_sharegpt,
}
