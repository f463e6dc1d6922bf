"""Servers that tests start as processes of their own: when they can be asked, or why they cannot."""

from __future__ import annotations

import socket
import subprocess
import time
from pathlib import Path

#: Where services of tests listen: this machine alone.
HERE = "127.0.0.1"


def free_port(address: str = HERE) -> int:
    """A port of the address that nobody listens on."""
    with socket.socket() as free:
        free.bind((address, 0))
        port: int = free.getsockname()[1]
    return port


def wait_until_it_listens(
    process: subprocess.Popen[bytes], port: int, log: Path, seconds: float, address: str = HERE
) -> None:
    """Returns once something accepts connections there; raises with the end of the log when nothing does."""
    deadline = time.monotonic() + seconds
    while process.poll() is None and time.monotonic() < deadline:
        try:
            socket.create_connection((address, port), timeout=1).close()
        except OSError:
            time.sleep(0.05)
        else:
            return
    raise AssertionError(f"{process.args} does not listen: {log.read_text(errors='replace')[-2000:]}")
