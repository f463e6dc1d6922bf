"""What a conversation must be like to be learned from. Each rule has its sentence."""

from __future__ import annotations

from collections.abc import Sequence

from anneal_trainer.prepare import tools as tool_use
from anneal_trainer.prepare.chat import Message, RowError

_ROLES = ("system", "user", "assistant", "tool")


def check(messages: Sequence[Message], tools: str = "") -> None:
    """Raises RowError unless `messages` is [system], user, assistant, user, assistant … with text in each turn.

    An assistant that calls some of `tools` says something only if it likes, and is answered by these tools.
    """
    if not messages:
        raise RowError("no messages")
    for i, message in enumerate(messages, start=1):
        _check_text(message, i)
    tool_use.check(messages, tools)
    first = 1 if messages[0].role == "system" else 0
    before = None
    for i, message in enumerate(messages[first:], start=first + 1):
        expected = _expected_after(before)
        if message.role not in expected:
            raise RowError(
                f"roles out of order: message {i} is from {message.role}, expected {expected[0]} (user and assistant"
                " take turns, after at most one system message)"
            )
        before = message
    if messages[-1].role != "assistant":
        raise RowError(f"no answer: the last message is from {messages[-1].role}, not from the assistant")


def _expected_after(message: Message | None) -> tuple[str, ...]:
    """Who may speak; whether a tool has something to answer is checked with the calls."""
    if message is None:
        return ("user",)
    if message.role == "assistant":
        return ("tool",) if message.calls else ("user",)
    return ("assistant",) if message.role == "user" else ("assistant", "tool")


def _check_text(message: Message, number: int) -> None:
    if message.role not in _ROLES:
        raise RowError(f"the role of message {number} is '{message.role[:40]}': use system, user, assistant or tool")
    may_be_empty = message.role in ("system", "tool") or message.calls
    if not may_be_empty and not message.content.strip():
        what = "answer" if message.role == "assistant" else "question"
        raise RowError(f"the {what} in message {number} is empty")
    try:
        message.said.encode()
    except UnicodeEncodeError as error:
        raise RowError(f"message {number} has half of a surrogate pair (a broken \\u escape)") from error


def with_system(messages: Sequence[Message], prompt: str | None) -> list[Message]:
    """`messages`, with `prompt` as system message in front unless there is one already."""
    if prompt and messages[0].role != "system":
        return [Message("system", prompt), *messages]
    return list(messages)
