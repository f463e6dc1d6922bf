"""The server of the pod is asked as a hosted model is, but what it says counts as what a model of ours says."""

from __future__ import annotations

import json

import aiohttp
import pytest
from tests.support.hosted_models import Said, hosted_models

from anneal_evaluator.vllm import VLLMEndpoint
from anneal_hosted.endpoints.endpoint import AwayError, RefusedError, Reply

REPLIES = {
    "fine": Said("yes", usage=(12, 3)),
    "silent": Said(""),
    "cut": Said("on and", "length"),
    "long": Said(status=400, error={"message": "maximum context length is 10 tokens"}),
    "dead": Said(status=500, error={"message": "EngineCore encountered an issue"}),
}


async def ask(text: str) -> tuple[Reply, dict[str, object]]:
    """The reply to one question of one word, and what was sent."""
    with hosted_models(lambda asked: REPLIES[asked.text]) as server:
        async with aiohttp.ClientSession() as session:
            endpoint = VLLMEndpoint(session, server.url.removeprefix("http://"))
            reply = await endpoint.ask("candidate", json.dumps([{"role": "user", "content": text}]), 32)
        return reply, server.asked[0].body


async def test_it_is_asked_greedily_and_its_tokens_are_counted() -> None:
    reply, body = await ask("fine")
    assert reply == Reply("yes", "answered", 12, 3)
    assert (body["model"], body["temperature"], body["max_tokens"]) == ("candidate", 0.0, 32)


async def test_silence_is_a_wrong_answer_and_no_fault() -> None:
    assert (await ask("silent"))[0] == Reply("", "answered", 10, 2)


async def test_a_cut_off_answer_is_none() -> None:
    assert (await ask("cut"))[0].outcome == "truncated"


async def test_a_question_that_does_not_fit_is_told_from_a_dead_engine() -> None:
    with pytest.raises(RefusedError, match="maximum context length"):
        await ask("long")
    with pytest.raises(AwayError, match="EngineCore"):
        await ask("dead")


async def test_a_server_that_is_not_there_is_away() -> None:
    async with aiohttp.ClientSession() as session:
        with pytest.raises(AwayError):
            await VLLMEndpoint(session, "localhost:1").version()


async def test_tools_are_shown_to_the_model_and_its_words_stay_its_own() -> None:
    """Without tool_choice none, vLLM takes calls out of the text, or refuses where it does not know how."""
    tools = [{"type": "function", "function": {"name": "lamp"}}]
    said = '<tool_call>\n{"name": "lamp", "arguments": {}}\n</tool_call>'
    with hosted_models(lambda _: Said(said)) as server:
        async with aiohttp.ClientSession() as session:
            chat = json.dumps({"messages": [{"role": "user", "content": "light on"}], "tools": tools})
            reply = await VLLMEndpoint(session, server.url.removeprefix("http://")).ask("candidate", chat, 32)
    assert (server.asked[0].body["tools"], server.asked[0].body["tool_choice"]) == (tools, "none")
    assert (reply.outcome, reply.text) == ("answered", said)
