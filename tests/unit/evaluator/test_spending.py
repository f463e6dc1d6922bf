"""No budget is exceeded and no answer is paid for twice, wherever the process dies: it is killed at every write."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from functools import partial
from pathlib import Path

import pytest
from tests.support.hosted_models import Asked, HostedModels, Said, always_yes, hosted_models
from tests.unit.evaluator.builders import answered
from tests.unit.evaluator.hosted import ask, hosted_run, killed_at, rows

from anneal.api.runs import EvaluateRun
from anneal_evaluator.errors import EvaluationError
from anneal_hosted.answers import read_answers
from anneal_hosted.ledger import Ledger

#: 10 tokens at 1000 and 2 at 10000 a million.
ONE = Decimal("0.03")
TEXTS = [f"q{i}" for i in range(3)]


def one_by_one(models: HostedModels) -> EvaluateRun:
    run = hosted_run(models.url)
    return run.model_copy(update={"generation": run.generation.model_copy(update={"concurrency": 1})})


def test_a_process_killed_at_any_write_pays_for_no_answer_twice(tmp_path: Path) -> None:
    for write in range(1, 100):
        directory = tmp_path / str(write)
        with hosted_models() as models:
            if not killed_at(write, partial(ask, one_by_one(models), directory, rows(*TEXTS))):
                assert write == 3 * len(TEXTS) + 1, "a question is three writes: noted, answered, settled"
                return
            stored, ledger = asyncio.run(ask(one_by_one(models), directory, rows(*TEXTS)))
        assert {answer.outcome for answer in stored.values()} == {"answered"}
        assert models.billed == Counter(TEXTS)
        assert sum(ledger.lost.values()) + ONE * len(TEXTS) == ledger.spent()
        assert len(ledger.lost) == (write % 3 == 1), "only what was noted and not answered may have been paid for"
    pytest.fail("it never came to an end")


PROGRAM = (
    "import asyncio,sys;from pathlib import Path;from tests.unit.evaluator.hosted import *;"
    "asyncio.run(ask(hosted_run(sys.argv[1]),Path(sys.argv[2]),rows(*(f'q{i}' for i in range(24)))))"
)


class Held:
    """A script that answers the first `free` questions, and no other until it is let go."""

    def __init__(self, free: int) -> None:
        self._free, self._let_go = threading.Semaphore(free), threading.Event()

    def __call__(self, asked: Asked) -> Said:
        if not self._free.acquire(blocking=False):
            self._let_go.wait()
        return Said()

    def let_go(self, models: HostedModels) -> None:
        """Answers all that wait; returns when they are billed, whether anybody hears them or not."""
        self._let_go.set()
        while models.busy:
            time.sleep(0.005)


@contextmanager
def asking(models: HostedModels, directory: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process that asks 24 questions, four at a time, until the block ends."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    command = [sys.executable, "-c", PROGRAM, models.url, str(directory)]
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE) as process:
        try:
            yield process
        finally:
            process.kill()


def wait_for(asked: int, models: HostedModels, process: subprocess.Popen[bytes]) -> None:
    """Returns when so many were asked, of which four are under way."""
    end = time.monotonic() + 120
    while (seen := (len(models.asked), models.busy)) != (asked, 4):
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < end, f"(asked, under way) stayed at {seen}"
        time.sleep(0.005)


def test_a_killed_process_loses_only_what_was_under_way(tmp_path: Path) -> None:
    """A real SIGKILL from outside, twice, each time when six more questions were answered and four are under way."""
    with hosted_models() as models:
        for kill in (1, 2):
            models.script = held = Held(6)
            with asking(models, tmp_path) as process:
                wait_for(kill * (6 + 4), models, process)
                process.kill()
                process.communicate()
            assert process.returncode == -signal.SIGKILL
            held.let_go(models)
            kept = {answer.key for answer in read_answers(tmp_path / "responses-gpt.jsonl")}
            assert len(kept) == 6 * kill
        models.script = always_yes
        stored, ledger = asyncio.run(ask(hosted_run(models.url), tmp_path, rows(*(f"q{i}" for i in range(24)))))
    assert kept <= {answer.key for answer in stored.values()}
    assert sum(models.billed.values()) == 24 + 2 * 4, "four were under way at each kill"
    assert ONE * sum(models.billed.values()) <= ledger.spent(), "never less than the provider bills"


def test_sigterm_waits_for_what_is_under_way(tmp_path: Path) -> None:
    held = Held(0)
    with hosted_models(held) as models, asking(models, tmp_path) as process:
        wait_for(4, models, process)
        process.terminate()
        held.let_go(models)
        assert b"PreemptedError" in process.communicate()[1]
    kept = read_answers(tmp_path / "responses-gpt.jsonl")
    assert len(kept) == sum(models.billed.values()) == len(models.asked) == 4
    ledger = Ledger(tmp_path / "spending.jsonl", None)
    assert (ledger.spent(), ledger.lost) == (4 * ONE, {})


async def test_the_budget_is_never_exceeded_and_what_was_had_is_reused(tmp_path: Path) -> None:
    texts = [f"q{i}" for i in range(40)]
    with hosted_models() as models:
        with pytest.raises(EvaluationError, match="a new Evaluation of the same FineTuneJob") as caught:
            await ask(hosted_run(models.url), tmp_path / "first", rows(*texts), budget="1")
        assert (caught.value.reason, caught.value.retryable) == ("BudgetExceeded", False)
        had = sum(models.billed.values())
        assert Decimal("0.4") < ONE * had <= 1, "the budget is used, but for the most that one question may cost"
        stored, ledger = await ask(hosted_run(models.url), tmp_path / "second", rows(*texts), budget="3")
    assert models.billed == Counter(texts), "every question was paid for once"
    assert sum(answer.reused for answer in stored.values()) == had
    assert ledger.spent() == ONE * (40 - had)


async def test_a_budget_that_a_lost_question_used_up_stays_used_up(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "spending.jsonl", Decimal(1))
    await ledger.reserve("gpt", "k", Decimal("0.8"))
    again = Ledger(tmp_path / "spending.jsonl", Decimal(1))
    assert (again.spent("gpt"), again.spent("other")) == (Decimal("0.8"), 0)
    with pytest.raises(EvaluationError, match=r"0\.800000 of the budget"):
        await again.reserve("gpt", "k", Decimal("0.8"))


@pytest.mark.parametrize("length", range(0, 200, 11))
async def test_any_prefix_of_the_ledger_is_a_good_ledger(tmp_path: Path, length: int) -> None:
    path = tmp_path / "spending.jsonl"
    ledger = Ledger(path, None)
    for key in "ab":
        await ledger.reserve("gpt", key, Decimal(2))
        await ledger.settle("gpt", key, Decimal(1))
    path.write_bytes(path.read_bytes()[:length])
    again = Ledger(path, None)
    before = again.spent()
    await again.reserve("gpt", "c", Decimal(2))
    await again.settle("gpt", "c", Decimal(1))
    assert Ledger(path, None).spent() == before + 1


async def test_an_answer_to_another_model_or_limit_is_not_reused(tmp_path: Path) -> None:
    with hosted_models() as models:
        await ask(hosted_run(models.url), tmp_path / "a", rows("q"))
        await ask(hosted_run(models.url, option={"model": "gpt-4"}), tmp_path / "b", rows("q"))
        await ask(hosted_run(models.url, maxTokens=33), tmp_path / "c", rows("q"))
        await ask(hosted_run(models.url, option={"temperature": "0"}), tmp_path / "d", rows("q"))
        await ask(hosted_run(models.url, "anthropic"), tmp_path / "e", rows("q"))
        assert models.billed["q"] == 5
        await ask(hosted_run(models.url), tmp_path / "f", rows("q"))
        assert models.billed["q"] == 5


async def test_only_answers_are_reused_and_broken_files_beside_are_no_trouble(tmp_path: Path) -> None:
    def script(asked: Asked) -> Said:
        return Said(None) if asked.attempt == 0 else Said()

    with hosted_models(script) as models:
        first, _ = await ask(hosted_run(models.url), tmp_path / "a", rows("q"))
        beside = tmp_path / "a" / "responses-gpt.jsonl"
        beside.write_bytes(b"\xff\n" + beside.read_bytes() + answered("x").model_dump_json().encode())
        second, _ = await ask(hosted_run(models.url), tmp_path / "b", rows("q"))
    assert (first["q"].outcome, second["q"].outcome, second["q"].reused) == ("empty", "answered", False)
