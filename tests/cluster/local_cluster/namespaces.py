"""The Linux namespaces of a cluster, seen from the host: open them, act inside them, and end them by one exact process.

`unshare` opens private network, mount and process namespaces and starts the supervisor as their first process. That
one is remembered by process id *and* start time, so that a reused id is never mistaken for it.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from local_cluster.errors import ClusterError


@dataclass(frozen=True)
class Process:
    """A process that cannot be confused with a later one of the same id."""

    pid: int
    started: int  # clock ticks after boot, field 22 of /proc/PID/stat

    @classmethod
    def of(cls, pid: int) -> Process | None:
        """The live process `pid`, or None; a zombie is not alive."""
        try:
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            return None
        return None if fields[0] in "ZX" else cls(pid, int(fields[19]))

    def alive(self) -> bool:
        """Whether this very process still runs."""
        return Process.of(self.pid) == self

    def end(self) -> None:
        """Kill this very process and wait until it is gone."""
        if not self.alive():
            return
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)
        wait_until(lambda: not self.alive(), 30, f"process {self.pid} does not end after SIGKILL")


def wait_until(condition: Callable[[], bool], seconds: float, complaint: str) -> None:
    """Wait until `condition()` is true.

    Raises:
        ClusterError: it was still false after `seconds`; the message is `complaint`.
    """
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise ClusterError(f"{complaint} (waited {seconds:.0f} s)")
        time.sleep(0.05)


def open_namespaces(orders: Path, log: Path) -> Process:
    """Start a supervisor in namespaces of its own, detached from this process; its socket will be `orders`.

    Returns:
        The supervisor as the host sees it. Ending it ends all that runs in the namespaces.
    """
    package_root = str(Path(__file__).resolve().parent.parent)
    command = [
        "setsid",
        "--fork",
        "unshare",
        "--net",
        "--mount",
        "--pid",
        "--fork",
        "--kill-child=SIGKILL",
        "--mount-proc",
        "--propagation",
        "slave",
        sys.executable,
        "-m",
        "local_cluster.supervisor",
        str(orders),
    ]
    environment = {**os.environ, "PYTHONPATH": package_root}
    with log.open("ab") as output:
        subprocess.run(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, cwd="/", env=environment, check=True
        )
    try:
        wait_until(orders.is_socket, 20, "no supervisor")
    except ClusterError:
        said = log.read_text(errors="replace").strip()[-400:]
        raise ClusterError(
            f"The cluster's namespaces cannot be opened: {said or 'the supervisor says nothing'}"
        ) from None
    supervisor = listener(orders)
    if supervisor is None:
        raise ClusterError(f"The supervisor at {orders} ended at once; see {log}")
    return supervisor


def listener(address: Path) -> Process | None:
    """The process that listens at a Unix socket, or None; the kernel tells its id as seen from here."""
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.connect(str(address))
            credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    except OSError:
        return None
    return Process.of(struct.unpack("3i", credentials)[0])


def inside(supervisor: Process, *argv: str) -> list[str]:
    """The command that runs `argv` in the network and mount namespaces of the cluster."""
    return ["nsenter", f"--target={supervisor.pid}", "--net", "--mount", "--", *argv]


def run(argv: Sequence[str], stdin: str | None = None) -> str:
    """Run a command and give its standard output.

    Raises:
        ClusterError: it failed; the message holds the command and what it said.
    """
    done = subprocess.run(argv, input=stdin, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise ClusterError(f"`{' '.join(argv)}` failed: {(done.stderr or done.stdout).strip()[-800:]}")
    return done.stdout


def order(orders: Path, **what: Any) -> dict[str, Any]:
    """Give the supervisor one order and return the state of all parts by name.

    Raises:
        ClusterError: the supervisor is gone or refuses.
    """
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(30)
            connection.connect(str(orders))
            with connection.makefile("rw", encoding="utf-8") as stream:
                stream.write(json.dumps(what) + "\n")
                stream.flush()
                answer = json.loads(stream.readline())
    except (OSError, ValueError) as error:
        raise ClusterError(f"The cluster's supervisor does not answer at {orders}: {error}") from error
    if "error" in answer:
        raise ClusterError(f"The cluster's supervisor refuses {what}: {answer['error']}")
    parts: dict[str, Any] = answer["parts"]
    return parts
