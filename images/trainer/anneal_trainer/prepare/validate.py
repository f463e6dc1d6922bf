"""What a conversation must be like to be learned from. Each rule has its sentence."""

from __future__ import annotations

from collections.abc import Sequence

from anneal_trainer.prepare.formats import Message, RowError

_ROLES = ("system", "user", "assistant")


def check(messages: Sequence[Message]) -> None:
    """Raises RowError unless `messages` is [system], user, assistant, user, assistant … with text in each turn."""
    if not messages:
        raise RowError("no messages")
    for i, message in enumerate(messages, start=1):
        _check_text(message, i)
    turns = [m.role for m in messages]
    first = 1 if turns[0] == "system" else 0
    for i, role in enumerate(turns[first:]):
        expected = "user" if i % 2 == 0 else "assistant"
        if role != expected:
            raise RowError(
                f"roles out of order: message {first + i + 1} is from {role}, expected {expected} (user and assistant"
                " take turns, after at most one system message)"
            )
    if turns[-1] != "assistant":
        raise RowError(f"no answer: the last message is from {turns[-1]}, not from the assistant")


def _check_text(message: Message, number: int) -> None:
    if message.role not in _ROLES:
        raise RowError(f"the role of message {number} is '{message.role[:40]}': use system, user or assistant")
    if message.role != "system" and not message.content.strip():
        what = "answer" if message.role == "assistant" else "question"
        raise RowError(f"the {what} in message {number} is empty")
    try:
        message.content.encode()
    except UnicodeEncodeError as error:
        raise RowError(f"message {number} has half of a surrogate pair (a broken \\u escape)") from error


def with_system(messages: Sequence[Message], prompt: str | None) -> list[Message]:
    """`messages`, with `prompt` as system message in front unless there is one already."""
    if prompt and messages[0].role != "system":
        return [Message("system", prompt), *messages]
    return list(messages)
