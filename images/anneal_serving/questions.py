"""From the tensors of a request to the rows that it asks, with one clear sentence for whatever is wrong.

Free of Triton and torch: `read_questions` takes numpy arrays, so that every refusal is a unit test.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

Messages = list[dict[str, Any]]
Tools = tuple[dict[str, Any], ...]

ROLES = ("system", "user", "assistant", "tool")
#: What a message may have beside role and content: what the assistant called, and which call a tool answers.
_OF_TOOLS = ("tool_calls", "tool_call_id", "name")
#: Longest answer, in tokens, where the request does not say.
DEFAULT_MAX_TOKENS = 256
MAX_MAX_TOKENS = 32_768


#: How every refusal begins. Triton answers HTTP 400 for a dead model process too, so clients tell them by this.
REFUSAL = "bad request: "


class BadRequestError(ValueError):
    """The client's mistake; the message goes to it behind REFUSAL, with HTTP 400."""


@dataclass(frozen=True)
class Question:
    """One row of a request."""

    messages: Messages
    max_tokens: int
    tools: Tools = ()
    """Those that the model may call, as OpenAI's API describes them."""


def read_questions(tensors: dict[str, NDArray[Any]]) -> list[Question]:
    """The rows of one request. Each tensor has shape [rows, 1]; absent inputs are absent keys.

    Raises BadRequestError for the first row that cannot be asked: a request is answered whole or not at all.
    """
    texts, chats = _strings(tensors.get("text_input")), _strings(tensors.get("messages"))
    if (texts is None) == (chats is None):
        raise BadRequestError(
            "give exactly one of text_input (the user's message) and messages (the chat as a JSON string)"
        )
    conversations = [_from_text(text) for text in texts] if texts is not None else [_from_json(c) for c in chats or []]
    limits = tensors.get("max_tokens")
    numbers = [DEFAULT_MAX_TOKENS] * len(conversations) if limits is None else [int(n) for n in limits.reshape(-1)]
    if len(numbers) != len(conversations):
        raise BadRequestError(f"max_tokens has {len(numbers)} rows, the question has {len(conversations)}")
    return [
        Question(messages, _checked_limit(limit), tools)
        for (messages, tools), limit in zip(conversations, numbers, strict=True)
    ]


def _strings(tensor: NDArray[Any] | None) -> list[str] | None:
    if tensor is None:
        return None
    try:
        return [v.decode() if isinstance(v, bytes) else str(v) for v in tensor.reshape(-1)]
    except UnicodeDecodeError as error:
        raise BadRequestError(f"the text is not UTF-8: {error}") from error


def _checked_limit(limit: int) -> int:
    if not 1 <= limit <= MAX_MAX_TOKENS:
        raise BadRequestError(f"max_tokens is {limit}; it must be from 1 to {MAX_MAX_TOKENS}")
    return limit


def _from_text(text: str) -> tuple[Messages, Tools]:
    if not text.strip():
        raise BadRequestError("text_input is empty; it must hold the user's message")
    return [{"role": "user", "content": text}], ()


def _from_json(text: str) -> tuple[Messages, Tools]:
    """The chat, given as a list, or as {"messages": …, "tools": …}."""
    try:
        chat = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise BadRequestError(f"messages is not JSON: {error}") from error
    messages, tools = (chat.get("messages"), chat.get("tools") or []) if isinstance(chat, dict) else (chat, [])
    if not isinstance(tools, list) or not all(isinstance(tool, dict) for tool in tools):
        raise BadRequestError("tools must be a list of objects, each the description of a tool")
    if not isinstance(messages, list) or not messages:
        raise BadRequestError('messages must be a JSON list such as [{"role": "user", "content": "hello"}]')
    for position, message in enumerate(messages, 1):
        _check_message(message, position)
    if messages[-1]["role"] == "assistant":
        raise BadRequestError("the last message is the assistant's own; it must be one to answer")
    kept = ("role", "content", *_OF_TOOLS)
    return [{key: m[key] for key in kept if key in m} for m in messages], tuple(tools)


def _check_message(message: object, position: int) -> None:
    if not isinstance(message, dict):
        raise BadRequestError(f"message {position} is not an object with role and content")
    if message.get("role") not in ROLES:
        raise BadRequestError(f"message {position} has the role {message.get('role')!r}; it must be {', '.join(ROLES)}")
    if not isinstance(message.get("content"), str):
        raise BadRequestError(f"message {position} has no text as content")
