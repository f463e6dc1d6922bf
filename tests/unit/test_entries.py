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


@pytest.mark.parametrize("program", ["anneal_trainer", "anneal_evaluator"])
def test_a_program_listens_before_it_imports(program: str, tmp_path: Path) -> None:
    files = {name: str(tmp_path / name) for name in ("ANNEAL_RUN_FILE", "ANNEAL_TERMINATION_FILE")}
    process = subprocess.Popen([sys.executable, "-m", program], env={**os.environ, **files}, stderr=subprocess.DEVNULL)
    try:
        while not listens(process):
            assert process.poll() is None, "it ended without ever listening"
            time.sleep(0.001)
        assert "pydantic_core" not in Path(f"/proc/{process.pid}/maps").read_text(), "it listens too late"
    finally:
        process.terminate()
        process.wait(30)
