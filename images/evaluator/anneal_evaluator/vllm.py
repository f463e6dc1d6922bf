"""The vLLM server beside the evaluator, which serves the candidate and the baselines that are models of ours.

It is asked as any OpenAI-compatible endpoint is: greedily, so that runs repeat, unless generation.temperature says
how production asks it. Silence is an answer of a model of
ours, and a wrong one, as it is behind Triton; only of a hosted model it may be somebody else's fault.
"""

from __future__ import annotations

from dataclasses import replace

import aiohttp

from anneal.api.subjects import OpenAI
from anneal_hosted.endpoints.chats import read_chat
from anneal_hosted.endpoints.endpoint import AwayError, Reply
from anneal_hosted.endpoints.http import Caller
from anneal_hosted.endpoints.openai import PATH, OpenAIEndpoint


class VLLMEndpoint:
    """A vLLM server and all its models."""

    advice = "See the serving container of the pod."

    def __init__(self, session: aiohttp.ClientSession, url: str, temperature: str = "0") -> None:
        self._session, self._base_url, self._temperature = session, f"http://{url}/v1", temperature
        self.where = f"The server at {url}"

    async def version(self) -> str:
        url = self._base_url.removesuffix("/v1") + "/version"
        try:
            async with self._session.get(url, raise_for_status=True) as response:
                return f"vllm {(await response.json())['version']}"
        except (aiohttp.ClientError, ConnectionError) as error:
            raise AwayError(str(error)) from error

    async def ask(self, model: str, messages: str, max_tokens: int) -> Reply:
        options = OpenAI(
            base_url=self._base_url,
            model=model,
            token_limit="MaxTokens",  # noqa: S106 - a name, not a token
            temperature=self._temperature,
        )
        caller = Caller(self._session, model, self._base_url, headers={}, key=None)
        endpoint, chat = OpenAIEndpoint(options, caller), read_chat(messages)
        body = endpoint.body(chat, max_tokens)
        if chat.tools:
            # In its own words, as behind Triton: which of them are a call depends on the model.
            body["tool_choice"] = "none"
        reply = endpoint.reply(await caller.send("POST", PATH, body), chat)
        if reply.outcome == "empty":
            reply = replace(reply, outcome="answered", detail="")
        return replace(reply, model="")
