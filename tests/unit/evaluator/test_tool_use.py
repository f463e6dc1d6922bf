"""Held-out rows with tools: asked with them of hosted models, in each protocol's own way, or refused in a sentence."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tests.support.hosted_models import Said, hosted_models
from tests.unit.evaluator.builders import evaluate_run
from tests.unit.evaluator.hosted import ask, hosted_run

from anneal_evaluator.held_out import HeldOutRow
from anneal_evaluator.respond import question_key

PARAMETERS = {"type": "object", "properties": {"state": {"type": ["string", "null"]}}}
LAMP = {"type": "function", "function": {"name": "lamp", "description": "Switches.", "parameters": PARAMETERS}}
ARGUMENTS = {"state": None}


def row(**ids: str) -> HeldOutRow:
    """A chat with one call in it; `ids` is that of the call, where it has one."""
    call = {**ids, "type": "function", "function": {"name": "lamp", "arguments": ARGUMENTS}}
    told = {"role": "tool", "content": "done", **({"tool_call_id": ids["id"]} if ids else {})}
    messages = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "light off"},
        {"role": "assistant", "content": "", "tool_calls": [call]},
        told,
    ]
    return HeldOutRow.model_validate({"id": "r", "messages": messages, "reference": "Off.", "tools": [LAMP]})


@pytest.mark.parametrize(("ids", "expected"), [({"id": "c1"}, "c1"), ({}, "call_1")])
async def test_openai_is_sent_tools_and_calls(tmp_path: Path, ids: dict[str, str], expected: str) -> None:
    with hosted_models(lambda _: Said("Off.")) as models:
        stored, _ = await ask(hosted_run(models.url), tmp_path, [row(**ids)])
    (asked,) = models.asked
    assert asked.body["tools"] == [LAMP]
    assert asked.body["messages"][2:] == [
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [
                {"id": expected, "type": "function", "function": {"name": "lamp", "arguments": '{"state": null}'}}
            ],
        },
        {"role": "tool", "content": "done", "tool_call_id": expected},
    ]
    assert (stored["r"].outcome, stored["r"].text) == ("answered", "Off.")


@pytest.mark.parametrize(("ids", "expected"), [({"id": "c1"}, "c1"), ({}, "call_1")])
async def test_anthropic_is_sent_tools_and_calls(tmp_path: Path, ids: dict[str, str], expected: str) -> None:
    with hosted_models(lambda _: Said("Off.")) as models:
        await ask(hosted_run(models.url, "anthropic"), tmp_path, [row(**ids)])
    (asked,) = models.asked
    assert asked.body["tools"] == [{"name": "lamp", "description": "Switches.", "input_schema": PARAMETERS}]
    assert asked.body["messages"] == [
        {"role": "user", "content": "light off"},
        {
            "role": "assistant",
            "content": [{"type": "tool_use", "id": expected, "name": "lamp", "input": ARGUMENTS}],
        },
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": expected, "content": "done"}]},
    ]


@pytest.mark.parametrize("protocol", ["openAI", "anthropic"])
async def test_a_model_that_calls_has_answered_with_its_call(tmp_path: Path, protocol: str) -> None:
    said = Said("Let me see.", "tool_calls", calls=(("lamp", {"state": "on"}), ("lamp", {})))
    with hosted_models(lambda _: said) as models:
        stored, _ = await ask(hosted_run(models.url, protocol), tmp_path, [row()])
    assert stored["r"].outcome == "answered"
    first, *calls = stored["r"].text.splitlines()
    assert first == "Let me see."
    assert [json.loads(call) for call in calls] == [
        {"name": "lamp", "arguments": {"state": "on"}},
        {"name": "lamp", "arguments": {}},
    ]


@pytest.mark.parametrize("protocol", ["openAI", "anthropic"])
async def test_a_call_of_what_was_not_offered_is_no_answer(tmp_path: Path, protocol: str) -> None:
    plain = row().model_copy(update={"tools": None, "messages": row().messages[:2]})
    said = Said("Let me see.", "tool_calls", calls=(("lamp", {}),))
    with hosted_models(lambda _: said) as models:
        stored, ledger = await ask(hosted_run(models.url, protocol), tmp_path, [plain])
    assert (stored["r"].outcome, stored["r"].detail) == ("unreadable", "it calls a tool, and none was offered")
    assert ledger.spent() > 0, "it is paid for all the same"


async def test_a_server_that_knows_no_tools_says_so(tmp_path: Path) -> None:
    refusal = Said(status=400, error={"message": '"auto" tool choice requires --enable-auto-tool-choice to be set'})
    with hosted_models(lambda _: refusal) as models:
        stored, _ = await ask(hosted_run(models.url), tmp_path, [row()])
    assert stored["r"].outcome == "rejected"
    assert "--enable-auto-tool-choice" in stored["r"].detail


def test_tools_decide_an_answer() -> None:
    changed: list[dict[str, Any]] = [{**LAMP, "function": {**LAMP["function"], "description": "Dims."}}]
    asked = [row(), row().model_copy(update={"tools": changed}), row().model_copy(update={"tools": None})]
    assert len({question_key(evaluate_run(), 0, one, "triton", 32) for one in asked}) == 3
