"""Ranks of a training as processes that are there at once: forked by a server that has imported torch already."""

from __future__ import annotations

import multiprocessing
import os
import socket
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from typing import Any

import torch
from tests.trainer.job import Job

from anneal.api.estimate import Strategy
from anneal.api.runs import FitRun, Ranks, RunResult
from anneal_trainer.preemption import Preemption

SECONDS = 600


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def spread(
    job: Job,
    run: FitRun,
    pods: int,
    per_pod: int,
    strategy: Strategy | None,
    before: Callable[[Job, int], None] | None = None,
) -> list[RunResult | None]:
    """How a training of so many ranks ended, by rank; None for one that was killed.

    `before` is called in each rank with the job and its number, before anything else.
    """
    ranks = Ranks(pods=pods, per_pod=per_pod, address="127.0.0.1", port=free_port(), strategy=strategy)
    asked = run.model_copy(update={"ranks": ranks})
    job.document(asked)
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["anneal_trainer.fit.run", "tests.trainer.job", "peft", "transformers"])
    ends = [context.Pipe(duplex=False) for _ in range(pods * per_pod)]
    started: list[BaseProcess] = []
    for rank, (_, sender) in enumerate(ends):
        process = context.Process(target=_rank, args=(job, asked, rank, ranks, sender, before), daemon=True)
        process.start()
        sender.close()
        started.append(process)
    try:
        return [_received(receiver) for receiver, _ in ends]
    finally:
        for process in started:
            process.join(SECONDS)
            process.kill()


def _received(receiver: Any) -> RunResult | None:
    try:
        assert receiver.poll(SECONDS), "a rank neither ended nor died"
        return RunResult.model_validate_json(receiver.recv())
    except EOFError:
        return None


def _rank(job: Job, run: FitRun, rank: int, ranks: Ranks, sender: Any, before: Any) -> None:
    os.environ |= {
        "RANK": str(rank),
        "WORLD_SIZE": str(ranks.pods * ranks.per_pod),
        "LOCAL_RANK": str(rank % ranks.per_pod),
        "LOCAL_WORLD_SIZE": str(ranks.per_pod),
        "MASTER_ADDR": ranks.address,
        "MASTER_PORT": str(ranks.port),
        "ANNEAL_RANK_RESULT": str(job.root / "rank-"),
    }
    torch.set_num_threads(1)
    preemption = Preemption()
    preemption.listen()  # as the program does
    if before is not None:
        before(job, rank)
    sender.send(job.do(run, preemption).model_dump_json())
