"""The first process of a cluster's own process namespace: it starts the parts, waits for them, and is their lifeline.

Everything that a cluster runs, down to the processes of its pods, lives in the process, network and mount namespaces
that this process opens. When it ends, however it ends, the kernel kills all of them and takes back the cluster's
network interfaces, firewall rules and mounts with them: nothing can be left behind, not even after `kill -9`.

It takes orders on a Unix socket, one JSON object a line, and answers one line each:
`{"do": "start", "part": NAME, "argv": [...], "log": PATH}`, `{"do": "kill", "part": NAME}`, `{"do": "list"}`.
A part that ends by itself is started again after a second, as an init system would; one that was killed is not.
"""

from __future__ import annotations

import json
import os
import selectors
import signal
import socket
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

RESTART_AFTER_SECONDS = 1.0


@dataclass
class Part:
    """One part: how it is started, and the process that it is now."""

    argv: list[str]
    log: str
    pid: int | None = None
    restart_at: float | None = None  # monotonic seconds; None: it runs, or was killed on order
    restarts: int = 0


class Supervisor:
    """The parts of one cluster and the orders that change them."""

    def __init__(self) -> None:
        self.parts: dict[str, Part] = {}

    def obey(self, order: dict[str, Any]) -> dict[str, Any]:
        """Carry out one order and give its answer; a bad order is answered with `error`."""
        try:
            match order:
                case {"do": "start", "part": str(name), "argv": [*argv], "log": str(log)}:
                    self._stop(name)
                    self.parts[name] = Part([str(word) for word in argv], log)
                    self._start(self.parts[name])
                case {"do": "kill", "part": str(name)}:
                    self._stop(name)
                case {"do": "list"}:
                    pass
                case _:
                    return {"error": f"unknown order {order}"}
        except OSError as error:
            return {"error": str(error)}
        return {"parts": {name: self._describe(part) for name, part in self.parts.items()}}

    def reap(self) -> None:
        """Collect every ended process, orphans of the parts included, and plan the restart of parts that ended."""
        while True:
            try:
                pid, _ = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            for part in self.parts.values():
                if part.pid == pid:
                    part.pid, part.restart_at = None, time.monotonic() + RESTART_AFTER_SECONDS

    def restart_ended(self) -> None:
        """Start again the parts whose pause is over."""
        for part in self.parts.values():
            if part.restart_at is not None and part.restart_at <= time.monotonic():
                part.restarts += 1
                try:
                    self._start(part)
                except OSError as error:
                    print(f"{part.argv[0]} cannot be started again: {error}", file=sys.stderr, flush=True)
                    part.restart_at = time.monotonic() + RESTART_AFTER_SECONDS

    def _start(self, part: Part) -> None:
        log = os.open(part.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        nothing = os.open(os.devnull, os.O_RDONLY)
        moves = [(os.POSIX_SPAWN_DUP2, nothing, 0), (os.POSIX_SPAWN_DUP2, log, 1), (os.POSIX_SPAWN_DUP2, log, 2)]
        try:
            part.pid = os.posix_spawn(part.argv[0], part.argv, os.environ, file_actions=moves, setsid=True)
        finally:
            os.close(log)
            os.close(nothing)
        part.restart_at = None

    def _stop(self, name: str) -> None:
        part = self.parts.get(name)
        if part is None:
            return
        if part.pid is not None:
            os.kill(part.pid, signal.SIGKILL)
            os.waitpid(part.pid, 0)
        part.pid, part.restart_at = None, None

    @staticmethod
    def _describe(part: Part) -> dict[str, Any]:
        return {"running": part.pid is not None, "restarts": part.restarts, "argv": part.argv, "log": part.log}


def serve(address: Path) -> None:
    """Take orders at the socket `address` until killed."""
    waker, wakeup = socket.socketpair()
    for end in (waker, wakeup):
        end.setblocking(False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(wakeup.fileno(), warn_on_full_buffer=False)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    address.unlink(missing_ok=True)
    listener.bind(str(address))
    listener.listen()
    selector = selectors.DefaultSelector()
    selector.register(listener, selectors.EVENT_READ)
    selector.register(waker, selectors.EVENT_READ)
    supervisor = Supervisor()
    while True:
        for key, _ in selector.select(timeout=RESTART_AFTER_SECONDS / 2):
            if key.fileobj is listener:
                _answer_one(listener, supervisor)
            else:
                waker.recv(4096)
        supervisor.reap()
        supervisor.restart_ended()


def _answer_one(listener: socket.socket, supervisor: Supervisor) -> None:
    connection, _ = listener.accept()
    with connection, connection.makefile("rw", encoding="utf-8") as stream:
        connection.settimeout(5)
        try:  # also a caller that only looks who listens ends here, with an empty line
            stream.write(json.dumps(supervisor.obey(json.loads(stream.readline()))) + "\n")
            stream.flush()
        except (OSError, ValueError) as error:
            print(f"order not answered: {error}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    serve(Path(sys.argv[1]))
