"""Asking hosted models over real HTTP, without a server of ours beside: all contestants are hosted."""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from collections.abc import Callable, Coroutine, Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any

import aiohttp
from tests.unit.evaluator.builders import evaluate_run

from anneal.api.runs import EvaluateRun
from anneal_evaluator.evaluate import BUDGET_ADVICE
from anneal_evaluator.held_out import HeldOutRow
from anneal_evaluator.respond import questions
from anneal_evaluator.reuse import reuse_answers
from anneal_hosted.answers import AnswerFile, StoredAnswer
from anneal_hosted.asking import Interview, ask_all, check_snapshots
from anneal_hosted.endpoints import hosted_endpoint
from anneal_hosted.ledger import Ledger
from anneal_hosted.progress import Progress

PRICE = {"inputPerMillion": "1000", "outputPerMillion": "10000"}
KEY = "vncy_secret"


def rows(*texts: str) -> list[HeldOutRow]:
    system = {"role": "system", "content": "Be brief."}
    return [
        HeldOutRow.model_validate(
            {"id": text, "messages": [system, {"role": "user", "content": text}], "reference": "yes"}
        )
        for text in texts
    ]


def hosted_run(url: str, protocol: str = "openAI", **hosted: Any) -> EvaluateRun:
    """A run whose only baseline is hosted at `url`; `hosted` is laid over it."""
    base = url + "/v1" if protocol == "openAI" else url
    option = {"baseUrl": base, "model": "gpt-5", **hosted.pop("option", {})}
    baseline = {"name": "gpt", "hosted": {protocol: option, "price": PRICE, **hosted}}
    return evaluate_run(models=["candidate", "gpt"], baselines=[baseline])


async def ask(
    run: EvaluateRun,
    directory: Path,
    asked: list[HeldOutRow],
    *,
    budget: str | None = None,
    patience: float = 5.0,
) -> tuple[Mapping[str, StoredAnswer], Ledger]:
    """Asks the hosted model alone, as the program does; answers by the question's text."""
    directory.mkdir(parents=True, exist_ok=True)  # noqa: ASYNC240 - nothing else runs yet
    baseline = run.baselines[0]
    assert baseline.hosted is not None
    files = {"gpt": AnswerFile(directory / "responses-gpt.jsonl")}
    ledger = Ledger(directory / "spending.jsonl", Decimal(budget) if budget else None, BUDGET_ADVICE)
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        endpoint = hosted_endpoint("gpt", baseline.hosted, KEY, session)
        versions = {"candidate": "", "gpt": await endpoint.version()}
        todo = [q for q in questions(run, asked, versions) if q.model == "gpt"]
        reuse_answers(directory, todo, files)
        stored = {(q.model, q.key): q.cost(answer) for q in todo if (answer := files["gpt"].get(q.key))}
        ledger.settle_stored(stored)
        progress = Progress(None, 0, len(todo))
        await ask_all(
            Interview(run.generation, {"gpt": endpoint}, files, ledger, progress, patience, asyncio.Event()), todo
        )
    check_snapshots(todo, files)
    return {q.row.id: files["gpt"][q.key] for q in todo}, ledger


def killed_at(write: int, asking: Callable[[], Coroutine[Any, Any, object]]) -> bool:
    """Asks in a process that dies at its `write`-th flush to the disk; whether it came that far."""
    if pid := os.fork():
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 9
    flushed, flush = Counter[str](), os.fsync

    def fsync(fd: Any) -> None:
        flushed["all"] += 1
        if flushed["all"] == write:
            os._exit(9)
        flush(fd)

    os.fsync = fsync
    try:
        asyncio.run(asking())
    finally:
        os._exit(0)
