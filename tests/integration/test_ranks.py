"""A training spread over two pods, as real processes that meet through torchrun: it is the training of one process.

The pods are processes of this machine with an index of their own, which is all that the program sees of a pod.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tests.support.tiny_model import write_base
from tests.trainer.job import FAST, Job, environment

from anneal.api.runs import EXIT_PREEMPTED, FitRun, Ranks, RunResult, parse_result
from anneal.api.training import CheckpointPolicy

pytestmark = pytest.mark.integration
SECONDS = 120
LONG = FAST.model_copy(
    update={"max_steps": 400, "learning_rate": "1e-3", "checkpoint": CheckpointPolicy(every_steps=20, keep=2)}
)


class Pods:
    """Two pods of one Job, each a process."""

    def __init__(self, job: Job, run: FitRun) -> None:
        self._root = job.root
        ranks = Ranks(pods=2, per_pod=1, address="127.0.0.1", port=free_port())
        document = job.document(run.model_copy(update={"ranks": ranks}))
        self.processes = [self._start(document, index) for index in range(2)]

    def _start(self, document: Path, index: int) -> subprocess.Popen[bytes]:
        variables = environment(document, self._termination(index)) | {
            "JOB_COMPLETION_INDEX": str(index),
            "OMP_NUM_THREADS": "1",
        }
        self._termination(index).unlink(missing_ok=True)
        log = (self._root / f"pod-{index}.log").open("ab")
        return subprocess.Popen([sys.executable, "-m", "anneal_trainer"], env=variables, stdout=log, stderr=log)

    def _termination(self, index: int) -> Path:
        return self._root / f"termination-{index}"

    def ended(self) -> list[tuple[int, RunResult]]:
        """(exit code, result) of both."""
        codes = [p.wait(SECONDS) for p in self.processes]
        return [(code, parse_result(self._termination(i).read_text())) for i, code in enumerate(codes)]

    def rank_of(self, index: int) -> int:
        """Process number of the rank in a pod."""
        launcher = self.processes[index].pid
        children = Path(f"/proc/{launcher}/task/{launcher}/children").read_text().split()
        return next(int(c) for c in children if b"anneal_trainer" in Path(f"/proc/{c}/cmdline").read_bytes())


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


@contextmanager
def pods(job: Job, run: FitRun) -> Iterator[Pods]:
    started = Pods(job, run)
    try:
        yield started
    finally:
        for process in started.processes:
            process.kill()
            process.wait()


def has_checkpoint(job: Job) -> None:
    """Waits for the first checkpoint."""
    deadline = time.monotonic() + SECONDS
    while not list((job.workspace / "checkpoints").glob("step-*")):
        assert time.monotonic() < deadline, (job.root / "pod-0.log").read_text()[-2000:]
        time.sleep(0.02)


def newest_adapter(job: Job) -> torch.Tensor:
    newest = max((job.workspace / "checkpoints").glob("step-*"))
    tensors = load_file(newest / "adapter_model.safetensors")
    return torch.cat([tensors[name].flatten() for name in sorted(tensors)])


@pytest.fixture
def jobs(tmp_path: Path) -> list[Job]:
    """The same job twice, each in a folder of its own."""
    write_base(tmp_path / "tiny")
    folders = [tmp_path / name for name in ("spread", "alone")]
    for folder in folders:
        folder.mkdir()
    return [Job(tmp_path / "tiny", folder, training=LONG) for folder in folders]


def test_a_training_of_two_pods_is_the_training_of_one_whatever_happens_to_a_pod(jobs: list[Job]) -> None:
    spread, alone = jobs
    assert alone.fitted().outcome == "Succeeded"
    run = spread.fit_run(spread.prepared())

    with pods(spread, run) as first:
        has_checkpoint(spread)
        first.processes[1].send_signal(signal.SIGTERM)
        ended = first.ended()
    assert [code for code, _ in ended] == [EXIT_PREEMPTED, EXIT_PREEMPTED]
    stopped = {result.fit.checkpoint_step for _, result in ended if result.fit is not None}
    assert len(stopped) == 1, "the pods left after different steps"
    step = stopped.pop()
    assert step > 0
    assert max((spread.workspace / "checkpoints").glob("step-*")).name == f"step-{step:08d}"

    with pods(spread, run) as second:
        deadline = time.monotonic() + SECONDS
        while max((spread.workspace / "checkpoints").glob("step-*")).name <= f"step-{step:08d}":
            assert time.monotonic() < deadline
            time.sleep(0.02)
        os.kill(second.rank_of(1), signal.SIGKILL)
        (spared, spared_result), (killed, killed_result) = second.ended()
    assert (killed, killed_result.reason) == (1, "RankKilled")
    assert "rank 0 of pod 1" in killed_result.message
    assert (spared, spared_result.outcome) == (EXIT_PREEMPTED, "Preempted")
    assert "lost another of 2 ranks" in spared_result.message

    # Any number of ranks goes on from what others saved: here, one.
    done = spread.do(run)
    assert done.outcome == "Succeeded"
    assert done.fit is not None
    assert (done.fit.training.steps, done.fit.resumes) == (400, 2)
    one, many = newest_adapter(alone), newest_adapter(spread)
    assert float((one - many).norm() / one.norm()) < 1e-2
