"""How much of what a server can do an evaluation gets from it, storing every answer and its price before the next.

The server's pace is known (`tests/support/paced_server.py`), and a bare client that stores nothing takes turns with the
evaluator's own asking. Wall-clock seconds: they are what keeps an accelerator waiting. Figures go to
build/bench/evaluation.json.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from tests.support import paced_server
from tests.unit.evaluator.hosted import ask, hosted_run, rows

from anneal.api.runs import EvaluateRun
from anneal_evaluator.held_out import HeldOutRow

pytestmark = pytest.mark.performance

OUT = Path(__file__).resolve().parents[2] / "build" / "bench" / "evaluation.json"
#: A goal of the product.
LEAST_SHARE = 0.9
ROUNDS = 3
#: (answers at once, seconds of each, rows): a server on a CPU, one on an accelerator, and a fast one.
PACES = ((8, 0.4, 80), (64, 0.4, 640), (128, 0.4, 1280))


@contextmanager
def served(slots: int, seconds: float) -> Iterator[str]:
    command = [sys.executable, paced_server.__file__, str(slots), str(seconds)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield f"http://127.0.0.1:{int(process.stdout.readline())}"
        finally:
            process.terminate()


async def bare(url: str, asked: Sequence[HeldOutRow], at_once: int) -> float:
    """Seconds of a client that does nothing but ask."""
    waiting = iter(asked)
    started = time.perf_counter()
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:

        async def work() -> None:
            for row in waiting:
                body = {"model": "paced", "messages": [m.to_json() for m in row.messages]}
                async with session.post(f"{url}/v1/chat/completions", json=body) as response:
                    assert (await response.json())["choices"]

        await asyncio.gather(*(work() for _ in range(at_once)))
    return time.perf_counter() - started


async def evaluated(run: EvaluateRun, directory: Path, asked: list[HeldOutRow]) -> float:
    """Seconds of the evaluator's asking."""
    started = time.perf_counter()
    stored, _ = await ask(run, directory, asked)
    seconds = time.perf_counter() - started
    assert sum(answer.outcome == "answered" for answer in stored.values()) == len(asked)
    return seconds


@pytest.mark.parametrize(("slots", "seconds", "count"), PACES)
async def test_the_server_is_what_is_waited_for(slots: int, seconds: float, count: int, tmp_path: Path) -> None:
    asked = rows(*(f"question {n}" for n in range(count)))
    turns: dict[str, list[float]] = {"bare": [], "evaluator": []}
    with served(slots, seconds) as url:
        run = hosted_run(url, option={"model": "paced"})
        run = run.model_copy(update={"generation": run.generation.model_copy(update={"concurrency": slots})})
        for n in range(ROUNDS):
            turns["bare"].append(await bare(url, asked, slots))
            turns["evaluator"].append(await evaluated(run, tmp_path / str(n) / "report", asked))
    best = count * seconds / slots
    share = best / statistics.median(turns["evaluator"])
    figures = {
        "answersPerSecond": round(slots / seconds),
        "shareOfServer": round(share, 3),
        "shareOfServerBareClient": round(best / statistics.median(turns["bare"]), 3),
        "seconds": {name: [round(s, 2) for s in each] for name, each in turns.items()},
    }
    record(f"asking.{slots}", figures)
    assert share >= LEAST_SHARE


def record(name: str, figures: dict[str, Any]) -> None:
    OUT.parent.mkdir(parents=True, exist_ok=True)
    known = json.loads(OUT.read_text()) if OUT.exists() else {}
    OUT.write_text(json.dumps({**known, name: figures}, indent=2, sort_keys=True) + "\n")
    print(f"\n{name}: {json.dumps(figures)}")
