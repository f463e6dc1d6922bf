"""Hosted models over real HTTP, in the wire formats of OpenAI and Anthropic: every kind of trouble is told as it is."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pytest
from tests.support.hosted_models import Asked, Said, hosted_models, too_many_requests
from tests.unit.evaluator.hosted import KEY, ask, hosted_run, rows

from anneal_evaluator.errors import EvaluationError
from anneal_hosted import asking
from anneal_hosted.endpoints.names import snapshot

PROTOCOLS = pytest.mark.parametrize("protocol", ["openAI", "anthropic"])


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asking, "RETRY_SECONDS", 0.01)


@PROTOCOLS
async def test_each_kind_of_reply_is_recorded_as_what_it_is(tmp_path: Path, protocol: str) -> None:
    replies = {
        "fine": Said("yes"),
        "null": Said(None),
        "blank": Said(" \n"),
        "cut": Said("on and", "length"),
        "thought too long": Said(None, "length"),
        "declined": Said("I cannot", "content_filter"),
        "prose": Said(raw=b"<html>Sign in to the proxy</html>"),
        "tool": Said(None, "tool_calls"),
        "refused": Said(status=400, error={"message": "maximum context length is 10 tokens"}),
    }
    with hosted_models(lambda asked: replies[asked.text]) as models:
        stored, ledger = await ask(hosted_run(models.url, protocol), tmp_path, rows(*replies))
    assert {text: answer.outcome for text, answer in stored.items()} == {
        "fine": "answered",
        "null": "empty",
        "blank": "empty",
        "cut": "truncated",
        "thought too long": "truncated",
        "declined": "declined",
        "prose": "unreadable",
        "tool": "unreadable",
        "refused": "rejected",
    }
    assert stored["fine"].text == "yes"
    assert stored["refused"].detail == "HTTP 400: maximum context length is 10 tokens"
    assert "Sign in to the proxy" in stored["prose"].detail
    counted = 6 * Decimal("0.03")  # 10 tokens at 1000 and 2 at 10000 a million
    assert ledger.spent() > counted, "what cannot be read may have been paid for"
    assert not ledger.lost


async def test_what_openai_is_sent(tmp_path: Path) -> None:
    with hosted_models() as models:
        await ask(hosted_run(models.url, maxTokens=500), tmp_path, rows("a"))
        await ask(hosted_run(models.url, option={"tokenLimit": "MaxTokens", "temperature": "0.5"}), tmp_path, rows("a"))
    first, second = models.asked
    assert first.headers["Authorization"] == f"Bearer {KEY}"
    assert first.body == {
        "model": "gpt-5",
        "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "a"}],
        "max_completion_tokens": 500,
    }
    assert (second.body["max_tokens"], second.body["temperature"]) == (32, 0.5)


async def test_what_anthropic_is_sent(tmp_path: Path) -> None:
    with hosted_models() as models:
        await ask(hosted_run(models.url, "anthropic"), tmp_path, rows("a"))
    (asked,) = models.asked
    assert (asked.path, asked.headers["x-api-key"]) == ("/v1/messages", KEY)
    assert asked.headers["anthropic-version"] == "2023-06-01"
    assert asked.body == {
        "model": "gpt-5",
        "messages": [{"role": "user", "content": "a"}],
        "system": "Be brief.",
        "max_tokens": 32,
    }


@PROTOCOLS
async def test_too_many_requests_are_waited_out_as_long_as_asked(tmp_path: Path, protocol: str) -> None:
    def script(asked: Asked) -> Said:
        if asked.attempt < 2:
            return too_many_requests("0.2")
        return (
            Said(status=529, error={"type": "overloaded_error", "message": "Overloaded"})
            if asked.attempt < 3
            else Said()
        )

    with hosted_models(script) as models:
        stored, ledger = await ask(hosted_run(models.url, protocol), tmp_path, rows("a", "b"))
    assert {answer.outcome for answer in stored.values()} == {"answered"}
    assert max(answer.seconds for answer in stored.values()) < 0.4, "waiting is not the model's time"
    assert ledger.spent() == 2 * Decimal("0.03")
    assert len(models.asked) == 8


async def test_patience_ends_at_once_when_asked_to_wait_longer(tmp_path: Path) -> None:
    limited = pytest.raises(EvaluationError, match="HTTP 429: Rate limit reached")
    with hosted_models(lambda _: too_many_requests("3600")) as models, limited as caught:
        await ask(hosted_run(models.url), tmp_path, rows("a"))
    assert (caught.value.reason, caught.value.retryable, len(models.asked)) == ("ServerUnreachable", True, 1)


@pytest.mark.parametrize(
    ("said", "reason", "sentence"),
    [
        (Said(status=401, error={"message": f"Incorrect API key provided: {KEY}"}), "KeyRefused", r"provided: \*\*\*"),
        (Said(status=403, error={"message": "no access to model"}), "KeyRefused", "a key that may use this model"),
        (Said(status=402, error={"message": "Payment required"}), "QuotaExhausted", "waiting does not cure"),
        (
            Said(status=429, error={"message": "exceeded your quota", "code": "insufficient_quota"}),
            "QuotaExhausted",
            "insufficient_quota",
        ),
        (
            Said(status=404, error={"message": "The model gpt-5 does not exist"}),
            "EndpointUnusable",
            "baseUrl and model",
        ),
        (Said(status=302, raw=b"", headers={"Location": "http://127.0.0.1:1/"}), "EndpointUnusable", "HTTP 302"),
        (Said(model="gpt-5-mini"), "ModelChanged", "asked for 'gpt-5', but 'gpt-5-mini' answered"),
    ],
)
async def test_what_only_the_user_can_put_right_ends_the_run_at_once(
    tmp_path: Path, said: Said, reason: str, sentence: str
) -> None:
    with hosted_models(lambda _: said) as models, pytest.raises(EvaluationError, match=sentence) as caught:
        await ask(hosted_run(models.url), tmp_path, rows(*(f"q{i}" for i in range(40))))
    assert (caught.value.reason, caught.value.retryable) == (reason, False)
    assert KEY not in str(caught.value)
    assert len(models.asked) <= 4, "one for each of the questions under way"


async def test_a_name_that_moves_between_answers_is_an_error(tmp_path: Path) -> None:
    def script(asked: Asked) -> Said:
        return Said(model="gpt-5-2025-08-07" if asked.text == "a" else "gpt-5-2026-01-01")

    with hosted_models(script) as models, pytest.raises(EvaluationError, match="Name a dated snapshot") as caught:
        await ask(hosted_run(models.url), tmp_path, rows("a", "b"))
    assert caught.value.reason == "ModelChanged"


@pytest.mark.parametrize(
    ("asked", "answered", "beyond"),
    [
        ("gpt-5", "gpt-5", ""),
        ("gpt-5", "gpt-5-2025-08-07", "-2025-08-07"),
        ("openai/gpt-5", "gpt-5-2025-08-07", "-2025-08-07"),
        ("claude-sonnet-4-latest", "claude-sonnet-4-20250514", "-20250514"),
        ("claude-sonnet-4@20250514", "claude-sonnet-4@20250514", ""),
        ("Qwen/Qwen2.5-7B-Instruct", "Qwen/Qwen2.5-7B-Instruct", ""),
        ("gpt-5", "gpt-5-mini", None),
        ("gpt-5", "gpt-5-mini-2025-08-07", None),
        ("gpt-5-2025-08-07", "gpt-5-2026-01-01", None),
        ("gpt-5-2025-08-07", "gpt-5", None),
        ("gpt-4", "gpt-4.1", None),
        ("gpt-5", "", None),
    ],
)
def test_a_snapshot_is_the_same_model_and_a_smaller_one_is_not(asked: str, answered: str, beyond: str | None) -> None:
    assert snapshot(asked, answered) == beyond


async def test_an_answer_that_is_too_late_counts_at_its_most(tmp_path: Path) -> None:
    with hosted_models(lambda _: Said(seconds=2)) as models:
        run = hosted_run(models.url)
        run = run.model_copy(update={"generation": run.generation.model_copy(update={"timeout_seconds": 1})})
        stored, ledger = await ask(run, tmp_path, rows("a"))
    assert stored["a"].outcome == "timedOut"
    assert ledger.spent() >= 32 * Decimal("0.01"), "32 tokens at 10000 a million, and the question"


async def test_endpoints_do_not_wait_for_each_other_beyond_their_limit(tmp_path: Path) -> None:
    with hosted_models(lambda _: Said(seconds=0.02)) as models:
        await ask(hosted_run(models.url), tmp_path, rows(*(f"q{i}" for i in range(20))))
    assert models.busiest == 4
