"""SIGKILL before every single change of the file system: what is on disk is whole, and the next attempt ends well."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

from tests.trainer.job import Job
from tests.trainer.killed import at_every_change
from tests.trainer.test_chain import outcome

from anneal.api.artifacts import verify_artifact
from anneal_trainer.fit.checkpoint import CheckpointStore
from anneal_trainer.fit.state import Point, TrainingState
from anneal_trainer.preemption import Preemption
from anneal_trainer.prepare.run import prepare
from anneal_trainer.publish.run import publish


def state_at(step: int) -> TrainingState:
    state = TrainingState()
    state.record(Point(step=step, loss_sum=1.0, tokens=1))
    return state


def holding(text: str) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        (folder / "adapter").write_text(text)

    return write


def test_a_checkpoint_is_complete_or_absent(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path / "checkpoints", "sha256:x", keep=1)
    store.save(state_at(1), holding("one"))
    deaths = 0
    for _ in at_every_change(lambda: store.save(state_at(2), holding("two"))):
        deaths += 1
        newest = next(store.usable())
        assert (newest.path / "adapter").read_text() == {1: "one", 2: "two"}[newest.state.step]
        store.save(state_at(2), holding("two"))
        assert [p.name for p in sorted(store.folder.glob("step-*"))] == ["step-00000002"]
        shutil.rmtree(store.folder)
        store.save(state_at(1), holding("one"))
    assert deaths >= 12
    assert next(store.usable()).state.step == 2


def test_dying_in_the_middle_of_a_file_leaves_the_checkpoint_before(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path / "checkpoints", "sha256:x", keep=1)
    store.save(state_at(1), holding("one"))

    def half(folder: Path) -> None:
        with (folder / "adapter").open("wb") as file:
            file.write(b"tw")
            file.flush()
            os.kill(os.getpid(), signal.SIGKILL)

    child = os.fork()
    if child == 0:
        store.save(state_at(2), half)
        os._exit(0)
    assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGKILL
    (whole,) = store.usable()
    assert (whole.state.step, (whole.path / "adapter").read_text()) == (1, "one")
    store.save(state_at(2), holding("two"))
    assert [c.state.step for c in store.usable()] == [2]


def test_training_that_dies_while_saving_ends_as_if_it_had_not(job: Job) -> None:
    run = job.fit_run(job.prepared())
    assert job.do(run).outcome == "Succeeded"
    whole = outcome(job)
    shutil.rmtree(job.workspace / "checkpoints")
    deaths = 0
    for _ in at_every_change(lambda: job.do(run), stride=9):
        deaths += 1
        assert job.do(run).outcome == "Succeeded"
        assert outcome(job) == whole
        shutil.rmtree(job.workspace / "checkpoints")
    assert deaths >= 4


def test_an_artifact_is_complete_or_absent(job: Job) -> None:
    prepared = job.prepared()
    run = job.publish_run(prepared, job.do(job.fit_run(prepared)))
    deaths = 0
    for _ in at_every_change(lambda: publish(run)):
        deaths += 1
        folders = [p for p in job.output.glob("*") if not p.name.startswith(".")] if job.output.exists() else []
        for folder in folders:
            assert verify_artifact(folder, publish(run).publish.digest)  # type: ignore[union-attr]
        result = publish(run)
        assert result.publish is not None
        assert [p.name for p in job.output.iterdir()] == [result.publish.digest[7:23]]
        shutil.rmtree(job.output)
    assert deaths >= 20


def test_preparing_again_after_dying_gives_the_same(job: Job) -> None:
    run = job.prepare_run()
    whole = prepare(run, Preemption())
    shutil.rmtree(job.workspace)
    deaths = 0
    for _ in at_every_change(lambda: prepare(run, Preemption())):
        deaths += 1
        assert prepare(run, Preemption()) == whole
        shutil.rmtree(job.workspace)
    assert deaths >= 10
