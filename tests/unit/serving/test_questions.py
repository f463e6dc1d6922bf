"""Every refusal is a sentence that tells the client what to change."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from anneal_serving.questions import DEFAULT_MAX_TOKENS, BadRequestError, read_questions


def strings(*texts: str | bytes) -> np.ndarray[Any, Any]:
    """Rows as Triton hands them over: bytes, shape [rows, 1]."""
    return np.array([[t if isinstance(t, bytes) else t.encode()] for t in texts], dtype=object)


def chat(*turns: tuple[str, object]) -> str:
    return json.dumps([{"role": role, "content": content} for role, content in turns])


def test_a_text_is_the_message_of_a_user() -> None:
    (question,) = read_questions({"text_input": strings("größer?")})
    assert question.messages == [{"role": "user", "content": "größer?"}]
    assert question.max_tokens == DEFAULT_MAX_TOKENS


def test_a_request_can_hold_several_rows_with_limits_of_their_own() -> None:
    chats = strings(chat(("system", "s"), ("user", "a")), chat(("user", "b")))
    first, second = read_questions({"messages": chats, "max_tokens": np.array([[3], [5]], dtype=np.int32)})
    assert [m["content"] for m in first.messages] == ["s", "a"]
    assert (first.max_tokens, second.max_tokens) == (3, 5)


def test_only_role_and_content_reach_the_template() -> None:
    (question,) = read_questions({"messages": strings('[{"role": "user", "content": "a", "tools": "x"}]')})
    assert question.messages == [{"role": "user", "content": "a"}]


@pytest.mark.parametrize(
    ("tensors", "sentence"),
    [
        ({}, "give exactly one of text_input"),
        ({"text_input": strings("a"), "messages": strings("[]")}, "give exactly one of text_input"),
        ({"text_input": strings("")}, "text_input is empty"),
        ({"text_input": strings(b"\xff")}, "not UTF-8"),
        ({"messages": strings("{")}, "messages is not JSON"),
        ({"messages": strings("[" * 100_000)}, "messages is not JSON"),
        ({"messages": strings("[]")}, "must be a JSON list"),
        ({"messages": strings('["hello"]')}, "message 1 is not an object"),
        ({"messages": strings(chat(("user", "a"), ("robot", "b")))}, "message 2 has the role 'robot'"),
        ({"messages": strings('[{"role": ["user"], "content": "a"}]')}, "message 1 has the role ['user']"),
        ({"messages": strings(chat(("user", ["a"])))}, "message 1 has no text"),
        ({"messages": strings(chat(("user", "a"), ("assistant", "b")))}, "the assistant's own"),
        ({"text_input": strings("a"), "max_tokens": np.array([[0]])}, "max_tokens is 0"),
        ({"text_input": strings("a"), "max_tokens": np.array([[40_000]])}, "from 1 to 32768"),
        ({"text_input": strings("a", "b"), "max_tokens": np.array([[1]])}, "max_tokens has 1 rows, the question has 2"),
    ],
)
def test_refusals(tensors: dict[str, np.ndarray[Any, Any]], sentence: str) -> None:
    with pytest.raises(BadRequestError) as caught:
        read_questions(tensors)
    assert sentence in str(caught.value)


TOOLS = [{"type": "function", "function": {"name": "lamp", "parameters": {"type": "object"}}}]


def test_tools_come_with_the_chat() -> None:
    messages = [
        {"role": "user", "content": "light on"},
        {"role": "assistant", "content": "", "tool_calls": [{"function": {"name": "lamp", "arguments": {"on": None}}}]},
        {"role": "tool", "content": "done", "tool_call_id": "1", "other": "x"},
    ]
    (question,) = read_questions({"messages": strings(json.dumps({"messages": messages, "tools": TOOLS}))})
    del messages[2]["other"]
    assert question.messages == messages
    assert list(question.tools) == TOOLS


@pytest.mark.parametrize("tools", [{}, [1], "[]"])
def test_tools_that_are_none_are_refused(tools: object) -> None:
    chats = json.dumps({"messages": [{"role": "user", "content": "a"}], "tools": tools or "x"})
    with pytest.raises(BadRequestError, match="tools must be a list of objects"):
        read_questions({"messages": strings(chats)})


def test_an_object_without_messages_is_refused() -> None:
    with pytest.raises(BadRequestError, match="must be a JSON list"):
        read_questions({"messages": strings("{}")})
