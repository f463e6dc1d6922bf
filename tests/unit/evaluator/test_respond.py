"""Asking: fair, bounded, patient, and exact about whose trouble it was. The real server is in the integration tests."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from tests.unit.evaluator.builders import evaluate_run

from anneal.api.runs import EvaluateRun
from anneal_evaluator.errors import EvaluationError
from anneal_evaluator.held_out import HeldOutRow
from anneal_evaluator.respond import check_prompts, questions
from anneal_hosted import asking
from anneal_hosted.answers import AnswerFile, StoredAnswer
from anneal_hosted.asking import Interview, ask_all
from anneal_hosted.endpoints.endpoint import AwayError, RefusedError, Reply
from anneal_hosted.ledger import Ledger
from anneal_hosted.progress import Progress

VERSIONS = {"candidate": "scripted 1", "base": "scripted 1"}
REPLY = Reply("yes", "answered", 5, 2)


class Scripted:
    """An Endpoint that behaves as `script` says, and remembers how it was asked."""

    where, advice = "The server at nowhere", "See its log."

    def __init__(self, script: Callable[[str, str], Awaitable[Reply]]) -> None:
        self.script = script
        self.asked: list[tuple[str, str]] = []
        self.busy = self.busiest = 0

    async def version(self) -> str:
        return "scripted 1"

    async def ask(self, model: str, messages: str, max_tokens: int) -> Reply:
        text = json.loads(messages)[-1]["content"]
        self.asked.append((model, text))
        self.busy += 1
        self.busiest = max(self.busiest, self.busy)
        try:
            return await self.script(model, text)
        finally:
            self.busy -= 1


def rows(*texts: str) -> list[HeldOutRow]:
    return [
        HeldOutRow.model_validate({"id": text[:20], "messages": [{"role": "user", "content": text}], "reference": "r"})
        for text in texts
    ]


async def interview(
    tmp_path: Path, server: Scripted, asked: list[HeldOutRow], run: EvaluateRun, patience: float = 5
) -> dict[tuple[str, str], StoredAnswer]:
    files = {model: AnswerFile(tmp_path / f"{model}.jsonl") for model in run.models}
    endpoints = dict.fromkeys(run.models, server)
    todo = questions(run, asked, VERSIONS)
    ledger = Ledger(tmp_path / "spending.jsonl", None)
    await ask_all(Interview(run.generation, endpoints, files, ledger, Progress(None, 0, len(todo)), patience), todo)
    return {(q.model, q.row.id): files[q.model][q.key] for q in todo}


async def test_models_are_asked_in_turn_and_at_most_so_many_at_once(tmp_path: Path) -> None:
    async def script(model: str, text: str) -> Reply:
        await asyncio.sleep(0.002 if model == "candidate" else 0.006)
        return REPLY

    server = Scripted(script)
    run = evaluate_run()
    stored = await interview(tmp_path, server, rows(*(f"q{i}" for i in range(20))), run)
    assert len(stored) == 40
    assert server.busiest == run.generation.concurrency
    for asked in range(1, len(server.asked) + 1):
        ahead = Counter(model for model, _ in server.asked[:asked])
        assert abs(ahead["candidate"] - ahead["base"]) <= 1


async def test_each_kind_of_trouble_is_recorded_as_what_it_is(tmp_path: Path) -> None:
    async def script(model: str, text: str) -> Reply:
        match text:
            case "cut":
                return Reply("on and on", "truncated", 5, 32)
            case "refused":
                raise RefusedError("the prompt has 900 tokens")
            case "slow":
                await asyncio.sleep(60)
        return REPLY

    run = evaluate_run(generation={"timeoutSeconds": 1, "maxTokens": 32})
    stored = await interview(tmp_path, Scripted(script), rows("fine", "cut", "refused", "slow"), run)
    found = {text: stored["candidate", text] for text in ("fine", "cut", "refused", "slow")}
    assert {text: answer.outcome for text, answer in found.items()} == {
        "fine": "answered",
        "cut": "truncated",
        "refused": "rejected",
        "slow": "timedOut",
    }
    assert "maxTokens (32)" in found["cut"].detail
    assert found["cut"].text == "on and on"
    assert found["refused"].detail == "the prompt has 900 tokens"
    assert found["slow"].detail == "no answer within 1 s"


async def test_a_question_that_would_kill_the_server_is_never_sent(tmp_path: Path) -> None:
    async def script(model: str, text: str) -> Reply:
        return REPLY

    server = Scripted(script)
    huge = "x" * asking.MAX_QUESTION_BYTES
    stored = await interview(tmp_path, server, rows(huge), evaluate_run())
    assert server.asked == []
    assert {answer.outcome for answer in stored.values()} == {"rejected"}


async def test_a_server_that_comes_back_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asking, "RETRY_SECONDS", 0.01)
    seen: Counter[tuple[str, str]] = Counter()

    async def script(model: str, text: str) -> Reply:
        seen[model, text] += 1
        if seen[model, text] < 4:
            raise AwayError("connection refused")
        return REPLY

    stored = await interview(tmp_path, Scripted(script), rows("a", "b"), evaluate_run())
    assert {answer.outcome for answer in stored.values()} == {"answered"}


async def test_a_server_that_stays_away_ends_the_run_and_keeps_the_answers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(asking, "RETRY_SECONDS", 0.01)

    async def script(model: str, text: str) -> Reply:
        if model == "base":
            raise AwayError("Stub process 'base_0_0' is not healthy.")
        return REPLY

    with pytest.raises(EvaluationError, match="Stub process 'base_0_0' is not healthy") as caught:
        await interview(tmp_path, Scripted(script), rows("a", "b", "c"), evaluate_run(), patience=0.1)
    assert (caught.value.reason, caught.value.retryable) == ("ServerUnreachable", True)
    assert (tmp_path / "candidate.jsonl").read_bytes().count(b"\n") >= 1


async def test_a_restart_asks_only_what_is_missing(tmp_path: Path) -> None:
    async def script(model: str, text: str) -> Reply:
        return REPLY

    first, second = Scripted(script), Scripted(script)
    run = evaluate_run()
    await interview(tmp_path, first, rows("a", "b"), run)
    await interview(tmp_path, second, rows("a", "b", "c"), run)
    assert Counter(second.asked) == Counter([("candidate", "c"), ("base", "c")])


async def test_prompts_of_candidate_and_base_must_be_alike(tmp_path: Path) -> None:
    async def script(model: str, text: str) -> Reply:
        return Reply("yes", "answered", 5 if model == "candidate" or text == "same" else 6, 1)

    run = evaluate_run()
    asked = rows("same", "other")
    await interview(tmp_path, Scripted(script), asked, run)
    files = {model: AnswerFile(tmp_path / f"{model}.jsonl") for model in run.models}
    check_prompts(run, questions(run, asked[:1], VERSIONS), files)
    with pytest.raises(EvaluationError, match="Row 'other' was rendered to 5 tokens for candidate but to 6") as caught:
        check_prompts(run, questions(run, asked, VERSIONS), files)
    assert caught.value.reason == "PromptsDiffer"
