"""The first process of a serving container, and the server that is its child."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Sequence

import pytest

from anneal_serving.first import First

#: A server that takes its leave, once it listens.
POLITE = "import signal, sys, time\nsignal.signal(15, lambda *_: sys.exit(0))\nprint(1, flush=True)\ntime.sleep(60)"


def first(command: Sequence[str]) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-m", "anneal_serving", "run", *command], stdout=subprocess.PIPE)


@pytest.mark.parametrize(("script", "code"), [("exit 0", 0), ("exit 42", 42), ("kill -9 $$", 137)])
def test_it_ends_as_the_server_ended(script: str, code: int) -> None:
    assert first(["sh", "-c", script]).wait(30) == code


@pytest.mark.parametrize(
    ("server", "code"),
    [(["sh", "-c", "echo 1; exec sleep 60"], 143), ([sys.executable, "-c", POLITE], 0)],
    ids=["does not listen yet", "listens"],
)
def test_the_server_gets_the_sigterm(server: list[str], code: int) -> None:
    process = first(server)
    assert process.stdout is not None
    assert process.stdout.readline()
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) == code


def test_a_sigterm_that_came_before_the_server_is_not_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    process = First()
    monkeypatch.setattr(signal, "signal", lambda _number, handler: handler(signal.SIGTERM, None))
    process.listen()
    began = time.monotonic()
    assert process.run(["sleep", "60"]) == 143
    assert time.monotonic() - began < 30
