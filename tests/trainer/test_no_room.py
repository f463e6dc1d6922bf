"""A disk that is really full: the old checkpoint stays, a sentence says what to do, and with room training goes on."""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.trainer.job import FAST, Job
from tests.trainer.test_chain import folders, outcome

from anneal.api.runs import RunResult, encode_result, parse_result
from anneal_trainer.termination import exit_code

CLONE_NEWNS = 0x00020000


def in_a_small_file_system(folder: Path, size: int, work: Callable[[], RunResult], left: Path) -> RunResult:
    """The result of `work` in a child in which `folder` is a file system of `size` bytes; it ends up in `left`."""
    answer = folder.with_name("answer.json")
    child = os.fork()
    if child == 0:
        code = 1
        try:
            assert ctypes.CDLL(None, use_errno=True).unshare(CLONE_NEWNS) == 0, os.strerror(ctypes.get_errno())
            content = folder.with_name("content")
            folder.rename(content)
            folder.mkdir()
            subprocess.run(["mount", "--make-rprivate", "/"], check=True)
            subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)], check=True)
            shutil.copytree(content, folder, dirs_exist_ok=True)
            answer.write_bytes(encode_result(work()))
            shutil.copytree(folder, left)
            code = 0
        finally:
            os._exit(code)
    assert os.waitpid(child, 0)[1] == 0
    return parse_result(answer.read_text())


def size_of(folder: Path) -> int:
    """Bytes of whole pages, which a file system of memory is made of."""
    return sum(-(-p.stat().st_size // 4096) * 4096 if p.is_file() else 4096 for p in folder.rglob("*"))


@pytest.mark.parametrize("rooms", [0.5, 1.5], ids=["not even one", "one"])
def test_a_full_disk_loses_nothing(job: Job, tmp_path: Path, rooms: float) -> None:
    job.training = FAST.model_copy(update={"max_steps": 4})
    run = job.fit_run(job.prepared())
    data = size_of(job.workspace)
    assert job.do(run).outcome == "Succeeded"
    whole = outcome(job)
    one = size_of(job.workspace / "checkpoints" / folders(job)[0])
    shutil.rmtree(job.workspace / "checkpoints")

    left = tmp_path / "left"
    result = in_a_small_file_system(job.workspace, data + int(rooms * one), lambda: job.do(run), left)
    assert (result.outcome, result.reason, exit_code(result)) == ("Failed", "NoSpaceLeft", 1)
    step = 2 if rooms < 1 else 4
    assert f"no space left in the workspace for the checkpoint of step {step}" in result.message
    before = "there is none yet" if rooms < 1 else "the one of step 2 is whole, and training goes on from it"
    assert before in result.message
    found = sorted(p.name for p in (left / "checkpoints").iterdir())
    assert found == ([] if rooms < 1 else ["step-00000002"]), "what could not be saved takes no room"

    shutil.rmtree(job.workspace)
    left.rename(job.workspace)
    again = job.do(run)
    assert again.fit is not None
    assert (again.outcome, again.fit.resumes) == ("Succeeded", 0 if rooms < 1 else 1)
    assert outcome(job) == whole
