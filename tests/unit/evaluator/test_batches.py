"""Provider batch APIs: asked together, paid once at their own tariff, whatever dies and whatever comes back."""

from __future__ import annotations

import asyncio
import os
import time
from collections import Counter
from collections.abc import Callable
from decimal import Decimal
from functools import partial
from multiprocessing import Process
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from tests.support.hosted_models import HostedModels, Said, hosted_models
from tests.unit.evaluator.hosted import PRICE, ask, hosted_run, killed_at, rows

from anneal.api.runs import EvaluateRun
from anneal_evaluator.errors import EvaluationError
from anneal_evaluator.respond import questions
from anneal_hosted import asking, batching
from anneal_hosted.endpoints import anthropic_batches, hosted_endpoint, openai_batches
from anneal_hosted.endpoints.endpoint import AwayError, RefusedError
from anneal_hosted.errors import PreemptedError
from anneal_hosted.ledger import Ledger

#: 10 tokens at 500 and 2 at 5,000 a million.
ONE = Decimal("0.015")
TARIFF = {"inputPerMillion": "500", "outputPerMillion": "5000"}
TEXTS = [f"q{i}" for i in range(3)]
PREEMPTED = 75
PROTOCOLS = pytest.mark.parametrize("protocol", ["openAI", "anthropic"])


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batching, "POLL_SECONDS", 0.01)
    monkeypatch.setattr(asking, "RETRY_SECONDS", 0.01)


def batch_run(models: HostedModels, protocol: str = "openAI", **hosted: Any) -> EvaluateRun:
    return hosted_run(models.url, protocol, requests="Batch", **{"price": {**PRICE, "batch": TARIFF}, **hosted})


@PROTOCOLS
async def test_all_questions_go_in_one_batch_at_its_tariff(tmp_path: Path, protocol: str) -> None:
    with hosted_models(lambda asked: Said(asked.text.upper())) as models:
        stored, ledger = await ask(batch_run(models, protocol), tmp_path, rows(*TEXTS))
        again, _ = await ask(batch_run(models, protocol), tmp_path, rows(*TEXTS))
    assert {text: answer.text for text, answer in stored.items()} == {text: text.upper() for text in TEXTS}
    assert len(models.batches.made) == 1
    assert models.billed == Counter(TEXTS)
    assert (ledger.spent(), ledger.lost, ledger.left("gpt")) == (len(TEXTS) * ONE, {}, [])
    assert again == stored, "nothing is asked again"


@PROTOCOLS
async def test_what_is_sent_is_what_a_request_of_its_own_would_send(tmp_path: Path, protocol: str) -> None:
    with hosted_models() as models:
        await ask(batch_run(models, protocol), tmp_path / "together", rows("a"))
        await ask(hosted_run(models.url, protocol), tmp_path / "alone", rows("a"))
    together, alone = models.asked
    assert (together.path, together.body) == (alone.path, alone.body)


@PROTOCOLS
async def test_each_item_is_recorded_as_what_it_is(tmp_path: Path, protocol: str) -> None:
    replies = {
        "fine": Said("yes"),
        "null": Said(None),
        "cut": Said("on and", "length"),
        "late": Said(is_expired=True),
        "refused": Said(status=400, error={"type": "invalid_request_error", "message": "prompt is too long"}),
        "broken": Said(status=500, error={"type": "api_error", "message": "Internal server error"}),
    }
    with hosted_models(lambda asked: replies[asked.text]) as models:
        stored, ledger = await ask(batch_run(models, protocol), tmp_path, rows(*replies))
        assert {text: answer.outcome for text, answer in stored.items()} == {
            "fine": "answered",
            "null": "empty",
            "cut": "truncated",
            "late": "timedOut",
            "refused": "rejected",
            "broken": "timedOut",
        }
        assert "prompt is too long" in stored["refused"].detail
        assert ledger.spent() == 3 * ONE, "what was not asked or not taken is not paid for"
        models.script = lambda asked: Said("yes")
        second, ledger = await ask(batch_run(models, protocol), tmp_path, rows(*replies))
    assert [second[text].outcome for text in ("late", "broken")] == ["answered"] * 2, "a new run asks these again"
    assert models.billed == Counter(text for text in replies if text != "refused")
    assert ledger.spent() == 5 * ONE


async def test_a_budget_is_kept_by_sending_fewer_and_then_what_is_left(tmp_path: Path) -> None:
    with hosted_models() as models:
        run = batch_run(models)
        with pytest.raises(EvaluationError, match="so it is not asked") as caught:
            await ask(run, tmp_path, rows(*(f"q{i}" for i in range(40))), budget="0.6")
    assert caught.value.reason == "BudgetExceeded"
    assert len(models.batches.made) > 1, "what the first cost less than feared pays for a second"
    assert Decimal("0.3") < ONE * sum(models.billed.values()) <= Decimal("0.6")
    assert Ledger(tmp_path / "spending.jsonl", None).spent() == ONE * sum(models.billed.values())


async def test_a_large_set_goes_in_several(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batching, "MOST_QUESTIONS", 2)
    with hosted_models() as models:
        stored, _ = await ask(batch_run(models), tmp_path, rows(*TEXTS))
    assert len(models.batches.made) == 2
    assert {answer.outcome for answer in stored.values()} == {"answered"}


async def test_without_a_price_it_works_the_same(tmp_path: Path) -> None:
    with hosted_models() as models:
        stored, ledger = await ask(batch_run(models, price=None), tmp_path, rows(*TEXTS))
    assert {answer.outcome for answer in stored.values()} == {"answered"}
    assert (ledger.spent(), ledger.left("gpt")) == (0, [])


@PROTOCOLS
def test_a_process_killed_at_any_write_pays_for_nothing_twice(tmp_path: Path, protocol: str) -> None:
    """Announced, named, answered, settled, closed: between the first two the provider's name of it is lost."""
    for write in range(1, 100):
        directory = tmp_path / str(write)
        with hosted_models() as models:
            is_killed = killed_at(write, partial(ask, batch_run(models, protocol), directory, rows(*TEXTS)))
            stored, ledger = asyncio.run(ask(batch_run(models, protocol), directory, rows(*TEXTS)))
        assert {answer.outcome for answer in stored.values()} == {"answered"}
        assert models.billed == Counter(TEXTS), f"killed at write {write}"
        assert (ledger.spent(), ledger.lost) == (len(TEXTS) * ONE, {})
        if not is_killed:
            assert write > 4
            return
    pytest.fail("it never came to an end")


@PROTOCOLS
async def test_a_batch_of_somebody_else_is_not_taken_for_ours(tmp_path: Path, protocol: str) -> None:
    with hosted_models() as models:
        await ask(batch_run(models, protocol), tmp_path / "other", rows(*(f"other{i}" for i in range(3))))
        ledger = Ledger(tmp_path / "ours" / "spending.jsonl", None)
        (tmp_path / "ours").mkdir()
        run = batch_run(models, protocol)
        await ledger.announce("gpt", "lost", [(key, Decimal("0.5")) for key in await keys_of(run)])
        stored, ledger = await ask(run, tmp_path / "ours", rows(*TEXTS))
    assert {answer.outcome for answer in stored.values()} == {"answered"}
    assert (ledger.spent(), ledger.lost) == (len(TEXTS) * ONE, {}), "what was never sent is not paid for"


async def keys_of(run: EvaluateRun) -> list[str]:
    """The keys of the questions about TEXTS."""
    hosted = run.baselines[0].hosted
    assert hosted is not None
    async with aiohttp.ClientSession() as session:
        version = await hosted_endpoint("gpt", hosted, None, session).version()
    asked = questions(run, rows(*TEXTS), {"candidate": "", "gpt": version})
    return [question.key for question in asked if question.model == "gpt"]


@PROTOCOLS
async def test_a_lost_reply_to_the_sending_is_looked_for_before_it_is_sent_again(
    tmp_path: Path, protocol: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    api: Any = {"openAI": openai_batches.OpenAIBatches, "anthropic": anthropic_batches.AnthropicBatches}[protocol]
    send: Callable[..., Any] = api.send

    async def torn(self: Any, *args: Any) -> str:
        await send(self, *args)
        raise AwayError("connection reset", may_be_paid=True)

    monkeypatch.setattr(api, "send", torn)
    with hosted_models() as models:
        stored, ledger = await ask(batch_run(models, protocol), tmp_path, rows(*TEXTS))
    assert {answer.outcome for answer in stored.values()} == {"answered"}
    assert (models.billed, ledger.spent()) == (Counter(TEXTS), len(TEXTS) * ONE)


@PROTOCOLS
async def test_a_batch_of_the_same_size_is_not_taken_for_one_that_never_arrived(
    tmp_path: Path, protocol: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    api: Any = {"openAI": openai_batches.OpenAIBatches, "anthropic": anthropic_batches.AnthropicBatches}[protocol]
    send, calls = api.send, Counter[str]()

    async def lost(self: Any, *args: Any) -> str:
        calls["all"] += 1
        if calls["all"] == 1:
            raise AwayError("connection reset")
        return str(await send(self, *args))

    with hosted_models() as models:
        await ask(batch_run(models, protocol), tmp_path / "other", rows(*(f"other{i}" for i in range(len(TEXTS)))))
        monkeypatch.setattr(api, "send", lost)
        stored, ledger = await ask(batch_run(models, protocol), tmp_path / "ours", rows(*TEXTS))
    assert {answer.outcome for answer in stored.values()} == {"answered"}
    assert (ledger.spent(), ledger.lost, set(models.billed.values())) == (len(TEXTS) * ONE, {}, {1})


async def test_what_may_have_arrived_before_a_refusal_counts_at_its_most(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = Counter[str]()

    async def lost_then_refused(self: Any, *args: Any) -> str:
        calls["all"] += 1
        raise AwayError("connection reset", may_be_paid=True) if calls["all"] == 1 else RefusedError("HTTP 400: no")

    monkeypatch.setattr(openai_batches.OpenAIBatches, "send", lost_then_refused)
    with hosted_models() as models, pytest.raises(EvaluationError, match="takes no such batch: HTTP 400: no"):
        await ask(batch_run(models), tmp_path, rows(*TEXTS))
    ledger = Ledger(tmp_path / "spending.jsonl", None)
    assert (len(ledger.left("gpt")), len(ledger.lost)) == (1, len(TEXTS))
    assert ledger.spent() > len(TEXTS) * ONE


async def test_a_provider_without_batches_ends_the_run_and_nothing_is_spent(tmp_path: Path) -> None:
    with hosted_models() as models:
        run = batch_run(models, option={"baseUrl": models.url + "/nowhere"})
        with pytest.raises(EvaluationError, match="HTTP 404") as caught:
            await ask(run, tmp_path, rows(*TEXTS))
    assert (caught.value.reason, caught.value.retryable) == ("EndpointUnusable", False)
    ledger = Ledger(tmp_path / "spending.jsonl", None)
    assert (ledger.spent(), ledger.left("gpt")) == (0, [])


async def test_another_model_in_a_batch_is_an_error(tmp_path: Path) -> None:
    refused = pytest.raises(EvaluationError, match="'gpt-5-mini' answered")
    with hosted_models(lambda _: Said(model="gpt-5-mini")) as models, refused:
        await ask(batch_run(models), tmp_path, rows(*TEXTS))


async def test_answers_of_a_batch_stand_in_for_no_others(tmp_path: Path) -> None:
    """They took nobody's time, and a latency gate would take that for quickness."""
    with hosted_models() as models:
        together, _ = await ask(batch_run(models), tmp_path / "a", rows("q"))
        alone, _ = await ask(hosted_run(models.url), tmp_path / "b", rows("q"))
    assert (together["q"].seconds, alone["q"].reused) == (0, False)
    assert alone["q"].seconds > 0


def test_a_pod_that_must_go_leaves_its_batch_to_the_provider(tmp_path: Path) -> None:
    with hosted_models() as models:
        models.batches.looks = 10_000
        process = Process(target=run_batch, args=(models, tmp_path))
        process.start()
        while not models.batches.seen:
            time.sleep(0.01)
        process.terminate()
        process.join()
        assert process.exitcode == PREEMPTED
        models.batches.looks = 0
        stored, ledger = asyncio.run(ask(batch_run(models), tmp_path, rows(*TEXTS)))
    assert len(models.batches.made) == 1
    assert {answer.outcome for answer in stored.values()} == {"answered"}
    assert (ledger.spent(), ledger.lost) == (len(TEXTS) * ONE, {})


def run_batch(models: HostedModels, directory: Path) -> None:
    try:
        asyncio.run(ask(batch_run(models), directory, rows(*TEXTS)))
    except PreemptedError:
        os._exit(PREEMPTED)
