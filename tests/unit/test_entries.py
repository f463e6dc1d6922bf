"""Programs of pods listen to SIGTERM before they import: a first process that does not listen never gets it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

#: Bit of SIGTERM in the signal masks of /proc.
SIGTERM_BIT = 1 << (signal.SIGTERM - 1)


def listens(process: subprocess.Popen[bytes]) -> bool:
    status = Path(f"/proc/{process.pid}/status").read_text()
    (caught,) = (line.split()[1] for line in status.splitlines() if line.startswith("SigCgt:"))
    return bool(int(caught, 16) & SIGTERM_BIT)


@pytest.mark.parametrize("program", ["anneal_trainer", "anneal_evaluator", "anneal_serving layout"])
def test_a_program_listens_before_it_imports(program: str, tmp_path: Path) -> None:
    files = {name: str(tmp_path / name) for name in ("ANNEAL_RUN_FILE", "ANNEAL_TERMINATION_FILE")}
    command = [sys.executable, "-m", *program.split()]
    process = subprocess.Popen(command, env={**os.environ, **files}, stderr=subprocess.DEVNULL)
    try:
        while not listens(process):
            assert process.poll() is None, "it ended without ever listening"
            time.sleep(0.001)
        assert "pydantic_core" not in Path(f"/proc/{process.pid}/maps").read_text(), "it listens too late"
    finally:
        process.terminate()
        process.wait(30)


def imported(statement: str) -> set[str]:
    """Top-level modules that a process has after `statement`."""
    ask = f"import sys\n{statement}\nprint(*{{name.partition('.')[0] for name in sys.modules}})"
    return set(subprocess.run([sys.executable, "-c", ask], capture_output=True, text=True, check=True).stdout.split())


@pytest.mark.parametrize(
    "statement",
    [
        "import anneal_trainer.program",
        "import anneal_trainer.program, anneal_trainer.publish.run",
        "import anneal_evaluator.program",
        "import anneal_serving.layout",
        "import anneal_serving.first, anneal_serving.probe",
    ],
)
def test_what_computes_no_tensors_imports_none(statement: str) -> None:
    """Seconds of processor time and hundreds of MiB for each pod: import such a package where it is used."""
    heavy = {"torch", "transformers", "peft", "accelerate", "bitsandbytes", "datasets", "pandas", "sklearn"}
    assert not imported(statement) & heavy


QUICK_END = """
import atexit, threading, time
from anneal_trainer.process import QuickEnd
end = QuickEnd()
atexit.register(print, "a library's last words")
threading.Thread(target=lambda: (time.sleep(0.2), print("a thread's last words"))).start()
end.code = {code}
"""


@pytest.mark.parametrize(("code", "ended"), [("7", 7), ("1 / 0", 1)], ids=["set", "crashed"])
def test_a_quick_end_waits_for_threads_and_calls_what_wants_to_be_called(code: str, ended: int) -> None:
    process = subprocess.run([sys.executable, "-c", QUICK_END.format(code=code)], capture_output=True, text=True)
    assert process.returncode == ended
    assert process.stdout.splitlines() == ["a thread's last words", "a library's last words"]
    assert ("ZeroDivisionError" in process.stderr) is (ended == 1)


TAKEN_APART = """
import runpy
class Told:
    def __del__(self): print("taken apart")
told = Told()
runpy.run_module("anneal_trainer", run_name="__main__")
"""


def test_the_trainer_ends_quickly_with_the_code_of_its_result(tmp_path: Path) -> None:
    run, end = tmp_path / "run.json", tmp_path / "end"
    run.write_text('{"role": "fit"}')
    files = {"ANNEAL_RUN_FILE": str(run), "ANNEAL_TERMINATION_FILE": str(end)}
    process = subprocess.run(
        [sys.executable, "-c", TAKEN_APART], env={**os.environ, **files}, capture_output=True, text=True
    )
    assert (process.returncode, "InvalidRun" in end.read_text()) == (42, True)
    assert "taken apart" not in process.stdout
