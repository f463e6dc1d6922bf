"""Saving beside training: what is on the disk is the step that was saved, and what went wrong is told at the next."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tests.trainer.test_killed import state_at

from anneal_trainer.errors import Unavailable
from anneal_trainer.fit import memory
from anneal_trainer.fit.checkpoint import CheckpointStore
from anneal_trainer.fit.saver import Saver
from anneal_trainer.fit.tensors import Content


@dataclass(frozen=True)
class SlowStore(CheckpointStore):
    """A store on a disk that does not write before it may."""

    may_write: threading.Event = field(default_factory=threading.Event)

    def save(self, state, write) -> None:  # type: ignore[no-untyped-def]
        assert self.may_write.wait(30)
        super().save(state, write)


@pytest.fixture
def store(tmp_path: Path) -> SlowStore:
    return SlowStore(tmp_path / "checkpoints", "sha256:x", keep=2)


def content(weights: torch.Tensor) -> Content:
    return Content({"masters": {"weights": weights}}, {"note.txt": "kept"})


def test_steps_change_nothing_of_what_is_being_saved(store: SlowStore) -> None:
    weights, state = torch.ones(4), state_at(1)
    with Saver(store, saved_step=0) as saver:
        saver.start(state, content(weights))
        weights.fill_(2)
        state.step = 2
        saver.check()
        assert saver.saved_step == 0
        assert list(store.usable()) == []
        store.may_write.set()
    assert saver.saved_step == 1
    (saved,) = store.usable()
    assert (saved.state.step, (saved.path / "note.txt").read_text()) == (1, "kept")
    assert load_file(saved.path / "masters.safetensors")["weights"].tolist() == [1, 1, 1, 1]


def test_one_checkpoint_at_a_time(store: SlowStore) -> None:
    with Saver(store, saved_step=0) as saver:
        saver.start(state_at(1), content(torch.ones(4)))
        threading.Timer(0.05, store.may_write.set).start()
        saver.start(state_at(2), content(torch.ones(4)))
        assert saver.saved_step == 1
    assert [c.state.step for c in store.usable()] == [2, 1]


def test_what_ended_a_save_is_told_at_a_later_step(tmp_path: Path) -> None:
    (tmp_path / "checkpoints").write_text("a file where the folder should be")
    store = CheckpointStore(tmp_path / "checkpoints", "sha256:x", keep=2)
    told = pytest.raises(Unavailable, match="the checkpoint of step 1 could not be written into the workspace")
    with Saver(store, saved_step=0) as saver:
        saver.start(state_at(1), content(torch.ones(4)))
        with told:
            for _ in range(200):  # steps
                saver.check()
                time.sleep(0.05)
        assert saver.saved_step == 0


def test_another_error_is_not_hidden_by_that_of_the_save(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "checkpoints").write_text("a file where the folder should be")
    store = CheckpointStore(tmp_path / "checkpoints", "sha256:x", keep=2)
    saver = Saver(store, saved_step=0)
    saver.start(state_at(1), content(torch.ones(4)))
    with pytest.raises(Unavailable, match="the first error"), saver:
        raise Unavailable("Lost", "the first error")
    assert "could not be saved either" in caplog.text


def test_with_little_memory_no_copy_is_taken(store: SlowStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    limit = tmp_path / "memory.max"
    limit.write_text("1000000\n")
    (tmp_path / "memory.stat").write_text("anon 999000\nfile 5000\n")
    monkeypatch.setattr(memory, "_CGROUP_LIMITS", (str(limit), str(tmp_path / "absent")))
    assert memory.free_bytes() == 1000
    store.may_write.set()
    with Saver(store, saved_step=0) as saver:
        saver.start(state_at(1), content(torch.ones(125)))
        saver.start(state_at(2), content(torch.ones(126)))
        assert saver.saved_step == 2, "too large to be copied, so it is saved before the next step"
