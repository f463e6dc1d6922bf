"""Real servers on this machine, without an image: prepared once in the cache, started, stopped with their children."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import signal
import socket
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]


def prepared(name: str, made_of: str, install: Callable[[Path], None]) -> Path:
    """The folder that `install` fills, in the cache; made anew only when `made_of` is another text."""
    cache = Path(
        os.environ.get("ANNEAL_CACHE") or Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "anneal"
    )
    root = cache / name / hashlib.sha256(made_of.encode()).hexdigest()[:16]
    root.parent.mkdir(parents=True, exist_ok=True)
    with (root.parent / f"{root.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (root / "ready").exists():
            shutil.rmtree(root, ignore_errors=True)
            install(root)
            (root / "ready").touch()
    return root


def run(*command: str) -> None:
    """A command that must succeed."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(command)} failed:\n{done.stderr}"


def free_ports(count: int) -> list[int]:
    """Ports of 127.0.0.1 that nobody listens at."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]
    finally:
        for one in sockets:
            one.close()


def is_well(url: str) -> bool:
    """Whether a server answers 200 to a GET of what tells its health."""
    try:
        with urllib.request.urlopen(url, timeout=5) as response:
            return bool(response.status == 200)
    except OSError:
        return False


@contextmanager
def running(
    command: Sequence[str], environment: Mapping[str, str], log: Path, health: str, seconds: float
) -> Iterator[subprocess.Popen[bytes]]:
    """A server that is well by its URL `health` or has ended; stopped with all its children when the block ends.

    Raises AssertionError with the end of its log when it is neither within `seconds`.
    """
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, stdout=output, stderr=subprocess.STDOUT, env=environment, start_new_session=True
        )
    try:
        end = time.monotonic() + seconds
        while process.poll() is None and not is_well(health):
            assert time.monotonic() < end, f"{command[0]} did not start:\n{log.read_text(errors='replace')[-4000:]}"
            time.sleep(0.3)
        yield process
    finally:
        stop(process)


def stop(process: subprocess.Popen[bytes]) -> None:
    """End a server that leads a session of its own, and whatever it leaves behind."""
    process.terminate()
    try:
        process.wait(20)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
