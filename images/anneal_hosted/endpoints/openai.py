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
from anneal_hosted.endpoints.chats import Chat, called, read_chat
from anneal_hosted.endpoints.endpoint import Reply
from anneal_hosted.endpoints.http import Caller
from anneal_hosted.endpoints.replies import Ending, reply, unreadable, version_of

PATH = "/chat/completions"
_LIMIT = {"MaxCompletionTokens": "max_completion_tokens", "MaxTokens": "max_tokens"}
_ENDINGS: dict[str, Ending] = {
    "stop": "done",
    "length": "limit",
    "content_filter": "declined",
    "tool_calls": "called",
}


class _Part(BaseModel):
    text: str = ""


class _Function(BaseModel):
    name: str
    arguments: str = ""


class _Call(BaseModel):
    function: _Function


class _Message(BaseModel):
    content: str | list[_Part] | None = None
    refusal: str | None = None
    tool_calls: list[_Call] | None = None


class _Choice(BaseModel):
    message: _Message
    finish_reason: Literal["stop", "length", "content_filter", "tool_calls"]


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

    def __init__(
        self, options: OpenAI, caller: Caller, schema: Mapping[str, Any] | None = None, requests: str = "Single"
    ) -> None:
        self._options, self.caller, self._schema, self._requests = options, caller, schema, requests
        self.where = caller.where

    async def version(self) -> str:
        return version_of(self._options, self._schema, self._requests)

    async def ask(self, model: str, messages: str, max_tokens: int) -> Reply:
        chat = read_chat(messages)
        content = await self.caller.send("POST", PATH, self.body(chat, max_tokens))
        return self.reply(content, chat)

    def body(self, chat: Chat, max_tokens: int) -> dict[str, Any]:
        """What is sent."""
        body: dict[str, Any] = {
            "model": self._options.model,
            "messages": [_sent(message) for message in chat.messages],
            _LIMIT[self._options.token_limit]: max_tokens,
        }
        if chat.tools:
            body["tools"] = list(chat.tools)
        if self._options.temperature is not None:
            body["temperature"] = float(self._options.temperature)
        if self._schema is not None:
            shape = {"name": "reply", "strict": True, "schema": self._schema}
            body["response_format"] = {"type": "json_schema", "json_schema": shape}
        return body

    def reply(self, content: bytes, chat: Chat) -> Reply:
        """What came back: the body of a 200. Raises RunError."""
        try:
            found = _Completion.model_validate_json(content)
        except ValidationError as error:
            return unreadable(content, error)
        choice, usage = found.choices[0], found.usage
        text, ending = _text(choice.message), _ENDINGS[choice.finish_reason]
        if choice.message.refusal:
            ending = "declined"
        elif ending == "called" and chat.tools:
            ending = "done"
        tokens = (usage.prompt_tokens, usage.completion_tokens) if usage else (None, None)
        shown = choice.message.refusal or text
        return reply(self.where, self._options.model, found.model, shown, ending, tokens)


def _sent(message: Mapping[str, Any]) -> dict[str, Any]:
    """A message as this protocol has it: the arguments of a call are a text, and who only calls says null."""
    if not (calls := message.get("tool_calls")):
        return dict(message)
    wanted = [
        {**call, "function": {**call["function"], "arguments": json.dumps(call["function"]["arguments"])}}
        for call in calls
    ]
    return {**message, "content": message["content"] or None, "tool_calls": wanted}


def _text(message: _Message) -> str:
    said = message.content
    text = "".join(part.text for part in said) if isinstance(said, list) else said or ""
    calls = [called(call.function.name, call.function.arguments) for call in message.tool_calls or ()]
    return "\n".join([*([text] if text else []), *calls])
