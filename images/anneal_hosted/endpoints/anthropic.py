"""Anthropic's Messages (POST {baseUrl}/v1/messages). System messages travel beside the chat, not in it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, Field, ValidationError

from anneal.api.subjects import Anthropic
from anneal_hosted.endpoints.endpoint import Reply
from anneal_hosted.endpoints.http import Caller
from anneal_hosted.endpoints.replies import Ending, reply, unreadable

_ENDINGS: dict[str, Ending] = {
    "end_turn": "done",
    "stop_sequence": "done",
    "max_tokens": "limit",
    "model_context_window_exceeded": "limit",
    "refusal": "declined",
}


class _Block(BaseModel):
    type: str
    text: str = ""


class _Usage(BaseModel):
    input_tokens: int = Field(ge=0)
    output_tokens: int = Field(ge=0)
    cache_creation_input_tokens: int | None = Field(default=None, ge=0)
    cache_read_input_tokens: int | None = Field(default=None, ge=0)


class _Answer(BaseModel):
    model: str = Field(min_length=1)
    content: list[_Block]
    stop_reason: Literal["end_turn", "stop_sequence", "max_tokens", "model_context_window_exceeded", "refusal"]
    usage: _Usage | None = None


class AnthropicEndpoint:
    """One model behind Anthropic's Messages."""

    advice = "See the status page of the provider."

    def __init__(self, options: Anthropic, caller: Caller, schema: Mapping[str, Any] | None = None) -> None:
        self._options, self._caller, self._schema = options, caller, schema
        self.where = caller.where

    async def version(self) -> str:
        shape = {"schema": self._schema} if self._schema is not None else {}
        return json.dumps({**self._options.to_json(), **shape}, sort_keys=True)

    async def ask(self, model: str, messages: str, max_tokens: int) -> Reply:
        chat = json.loads(messages)
        body: dict[str, Any] = {
            "model": self._options.model,
            "messages": [m for m in chat if m["role"] != "system"],
            "max_tokens": max_tokens,
        }
        if system := "\n\n".join(m["content"] for m in chat if m["role"] == "system"):
            body["system"] = system
        if self._options.temperature is not None:
            body["temperature"] = float(self._options.temperature)
        if self._schema is not None:
            body["output_config"] = {"format": {"type": "json_schema", "schema": self._schema}}
        content = await self._caller.post("/v1/messages", body)
        try:
            return self._reply(_Answer.model_validate_json(content))
        except ValidationError as error:
            return unreadable(content, error)

    def _reply(self, found: _Answer) -> Reply:
        text = "".join(block.text for block in found.content if block.type == "text")
        usage = found.usage
        asked = (usage.cache_creation_input_tokens or 0) + (usage.cache_read_input_tokens or 0) if usage else 0
        tokens = (asked + usage.input_tokens, usage.output_tokens) if usage else (None, None)
        return reply(self.where, self._options.model, found.model, text, _ENDINGS[found.stop_reason], tokens)
