"""OpenAI's chat completions (POST {baseUrl}/chat/completions): OpenAI, vLLM, Vincony and most gateways.

No temperature and no stop list is sent unless the user sets one: reasoning models refuse them, and a parameter that
is dropped by a guess at the model's name makes runs differ in silence.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, Field, ValidationError

from anneal.api.subjects import OpenAI
from anneal_hosted.endpoints.endpoint import Reply
from anneal_hosted.endpoints.http import Caller
from anneal_hosted.endpoints.replies import Ending, reply, unreadable

_LIMIT = {"MaxCompletionTokens": "max_completion_tokens", "MaxTokens": "max_tokens"}
_ENDINGS: dict[str, Ending] = {"stop": "done", "length": "limit", "content_filter": "declined"}


class _Part(BaseModel):
    text: str = ""


class _Message(BaseModel):
    content: str | list[_Part] | None = None
    refusal: str | None = None


class _Choice(BaseModel):
    message: _Message
    finish_reason: Literal["stop", "length", "content_filter"]


class _Usage(BaseModel):
    prompt_tokens: int = Field(ge=0)
    completion_tokens: int = Field(ge=0)


class _Completion(BaseModel):
    model: str = Field(min_length=1)
    choices: list[_Choice] = Field(min_length=1)
    usage: _Usage | None = None


class OpenAIEndpoint:
    """One model behind an OpenAI-compatible API."""

    advice = "See the status page of the provider."

    def __init__(self, options: OpenAI, caller: Caller, schema: Mapping[str, Any] | None = None) -> None:
        self._options, self._caller, self._schema = options, caller, schema
        self.where = caller.where

    async def version(self) -> str:
        shape = {"schema": self._schema} if self._schema is not None else {}
        return json.dumps({**self._options.to_json(), **shape}, sort_keys=True)

    async def ask(self, model: str, messages: str, max_tokens: int) -> Reply:
        body: dict[str, Any] = {
            "model": self._options.model,
            "messages": json.loads(messages),
            _LIMIT[self._options.token_limit]: max_tokens,
        }
        if self._options.temperature is not None:
            body["temperature"] = float(self._options.temperature)
        if self._schema is not None:
            shape = {"name": "reply", "strict": True, "schema": self._schema}
            body["response_format"] = {"type": "json_schema", "json_schema": shape}
        content = await self._caller.post("/chat/completions", body)
        try:
            return self._reply(_Completion.model_validate_json(content))
        except ValidationError as error:
            return unreadable(content, error)

    def _reply(self, found: _Completion) -> Reply:
        choice, usage = found.choices[0], found.usage
        said = choice.message.content
        text = "".join(part.text for part in said) if isinstance(said, list) else said
        ending = "declined" if choice.message.refusal else _ENDINGS[choice.finish_reason]
        tokens = (usage.prompt_tokens, usage.completion_tokens) if usage else (None, None)
        shown = choice.message.refusal or text
        return reply(self.where, self._options.model, found.model, shown, ending, tokens)
