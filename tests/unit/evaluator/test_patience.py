"""An endpoint that has no time for a minute: everything is waited for, nothing is paid for twice."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from email.utils import format_datetime
from pathlib import Path

import pytest
from tests.support.hosted_models import Asked, Said, hosted_models, too_many_requests
from tests.support.jumping_loop import JumpingClock
from tests.unit.evaluator.hosted import ask, hosted_run, rows

from anneal_evaluator.errors import EvaluationError
from anneal_hosted import asking

TEXTS = [f"q{i}" for i in range(6)]


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> JumpingClock:
    clock = JumpingClock()
    monkeypatch.setattr(asking, "time", clock)
    return clock


def in_seconds(seconds: float) -> str:
    """As an HTTP date, which counts whole seconds."""
    return format_datetime(datetime.now(UTC) + timedelta(seconds=seconds + 1), usegmt=True)


@pytest.mark.parametrize(
    ("headers", "most_asked"),
    [({"Retry-After": "20"}, 4), ({"Retry-After": "date"}, 4), ({}, 8)],
    ids=["seconds", "a date", "it does not say"],
)
@pytest.mark.parametrize("protocol", ["openAI", "anthropic"])
def test_a_minute_of_429_costs_a_minute_and_nothing_else(
    tmp_path: Path, clock: JumpingClock, protocol: str, headers: dict[str, str], most_asked: int
) -> None:
    began = clock.monotonic()

    def script(asked: Asked) -> Said:
        if clock.monotonic() - began > 60:
            return Said()
        told = {name: in_seconds(20) if value == "date" else value for name, value in headers.items()}
        return Said(status=429, error={"message": "Rate limit reached"}, headers=told)

    with hosted_models(script) as models:
        stored, ledger = clock.run(ask(hosted_run(models.url, protocol), tmp_path, rows(*TEXTS), patience=180))
    assert {answer.outcome for answer in stored.values()} == {"answered"}
    assert 60 < clock.monotonic() - began < 120
    assert models.billed == Counter(TEXTS)
    assert ledger.spent() == len(TEXTS) * Decimal("0.03"), "what was not taken is not paid for"
    asked = Counter(asked.text for asked in models.asked)
    assert max(asked.values()) <= most_asked, "it is not asked before it says"


def test_429_without_end_ends_the_run_and_what_was_had_is_kept(tmp_path: Path, clock: JumpingClock) -> None:
    began = clock.monotonic()

    def script(asked: Asked) -> Said:
        return Said() if asked.text == "q0" else too_many_requests("30")

    with hosted_models(script) as models:
        with pytest.raises(EvaluationError, match=r"did not answer for 180 s: .*Answers so far are kept") as caught:
            clock.run(ask(hosted_run(models.url), tmp_path, rows(*TEXTS), patience=180))
        assert (caught.value.reason, caught.value.retryable) == ("ServerUnreachable", True)
        assert 150 <= clock.monotonic() - began < 200
        models.script = lambda _: Said()
        stored, ledger = clock.run(ask(hosted_run(models.url), tmp_path, rows(*TEXTS), patience=180))
    assert {answer.outcome for answer in stored.values()} == {"answered"}
    assert models.billed == Counter(TEXTS)
    assert ledger.spent() == len(TEXTS) * Decimal("0.03")
