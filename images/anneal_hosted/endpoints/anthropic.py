"""Anthropic's Messages (POST {baseUrl}/v1/messages). System messages travel beside the chat, not in it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from pydantic import BaseModel, Field, ValidationError

from anneal.api.subjects import Anthropic
from anneal_hosted.endpoints.chats import Chat, called, read_chat
from anneal_hosted.endpoints.endpoint import Reply
from anneal_hosted.endpoints.http import Caller
from anneal_hosted.endpoints.replies import Ending, reply, unreadable, version_of

PATH = "/v1/messages"
_ENDINGS: dict[str, Ending] = {
    "end_turn": "done",
    "stop_sequence": "done",
    "max_tokens": "limit",
    "model_context_window_exceeded": "limit",
    "refusal": "declined",
    "tool_use": "called",
}


class _Block(BaseModel):
    type: str
    text: str = ""
    name: str = ""
    input: dict[str, Any] = Field(default_factory=dict)


class _Usage(BaseModel):
    input_tokens: int = Field(ge=0)
    output_tokens: int = Field(ge=0)
    cache_creation_input_tokens: int | None = Field(default=None, ge=0)
    cache_read_input_tokens: int | None = Field(default=None, ge=0)


class _Answer(BaseModel):
    model: str = Field(min_length=1)
    content: list[_Block]
    stop_reason: Literal[
        "end_turn", "stop_sequence", "max_tokens", "model_context_window_exceeded", "refusal", "tool_use"
    ]
    usage: _Usage | None = None


class AnthropicEndpoint:
    """One model behind Anthropic's Messages."""

    advice = "See the status page of the provider."

    def __init__(
        self, options: Anthropic, caller: Caller, schema: Mapping[str, Any] | None = None, requests: str = "Single"
    ) -> None:
        self._options, self.caller, self._schema, self._requests = options, caller, schema, requests
        self.where = caller.where

    async def version(self) -> str:
        return version_of(self._options, self._schema, self._requests)

    async def ask(self, model: str, messages: str, max_tokens: int) -> Reply:
        chat = read_chat(messages)
        return self.reply(await self.caller.send("POST", PATH, self.body(chat, max_tokens)), chat)

    def body(self, chat: Chat, max_tokens: int) -> dict[str, Any]:
        """What is sent."""
        body: dict[str, Any] = {
            "model": self._options.model,
            "messages": _turns([m for m in chat.messages if m["role"] != "system"]),
            "max_tokens": max_tokens,
        }
        if system := "\n\n".join(m["content"] for m in chat.messages if m["role"] == "system"):
            body["system"] = system
        if chat.tools:
            body["tools"] = [_tool(tool["function"]) for tool in chat.tools]
        if self._options.temperature is not None:
            body["temperature"] = float(self._options.temperature)
        if self._schema is not None:
            body["output_config"] = {"format": {"type": "json_schema", "schema": self._schema}}
        return body

    def reply(self, content: bytes, chat: Chat) -> Reply:
        """What came back: the body of a 200. Raises RunError."""
        try:
            found = _Answer.model_validate_json(content)
        except ValidationError as error:
            return unreadable(content, error)
        text = "".join(block.text for block in found.content if block.type == "text")
        calls = [called(block.name, block.input) for block in found.content if block.type == "tool_use"]
        ending = _ENDINGS[found.stop_reason]
        if ending == "called" and chat.tools:
            ending = "done"
        usage = found.usage
        asked = (usage.cache_creation_input_tokens or 0) + (usage.cache_read_input_tokens or 0) if usage else 0
        tokens = (asked + usage.input_tokens, usage.output_tokens) if usage else (None, None)
        said = "\n".join([*([text] if text else []), *calls])
        return reply(self.where, self._options.model, found.model, said, ending, tokens)


def _turns(messages: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Messages as this protocol has them: what tools answer is one turn of the user, calls are blocks of a turn."""
    turns: list[dict[str, Any]] = []
    for message in messages:
        if message["role"] == "tool":
            block = {"type": "tool_result", "tool_use_id": message["tool_call_id"], "content": message["content"]}
            if turns[-1]["role"] != "user":
                turns.append({"role": "user", "content": []})
            turns[-1]["content"].append(block)
        elif calls := message.get("tool_calls"):
            said = [{"type": "text", "text": message["content"]}] if message["content"].strip() else []
            turns.append({"role": "assistant", "content": [*said, *map(_use, calls)]})
        else:
            turns.append({"role": message["role"], "content": message["content"]})
    return turns


def _use(call: Mapping[str, Any]) -> dict[str, Any]:
    function = call["function"]
    return {"type": "tool_use", "id": call["id"], "name": function["name"], "input": function["arguments"]}


def _tool(function: Mapping[str, Any]) -> dict[str, Any]:
    schema = function.get("parameters") or {"type": "object", "properties": {}}
    described = {"description": function["description"]} if function.get("description") else {}
    return {"name": function["name"], **described, "input_schema": schema}
