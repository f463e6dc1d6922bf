"""The first process of a serving container: it starts the server, passes SIGTERM on, and ends as the server ended.

Linux delivers to the first process of a container only those signals that it listens to. Servers listen once their
models are loaded, so one that was deleted before would load on until it is killed. As a child it ends at once.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Sequence
from types import FrameType

#: What shells make of a process that a signal ended: this, and the signal's number.
_BY_SIGNAL = 128


class First:
    """Whether the container was told to end, and the server that is to hear of it."""

    def __init__(self) -> None:
        self._told = False
        self._server: int | None = None

    def listen(self) -> None:
        """From now on SIGTERM is the server's."""
        signal.signal(signal.SIGTERM, self._on_signal)

    def run(self, command: Sequence[str]) -> int:
        """The exit code of `command`, once it ended. Raises OSError when it cannot be started."""
        self._server = os.posix_spawnp(command[0], list(command), os.environ)
        if self._told:  # before there was a server
            self._end(self._server)
        while True:
            # The first process is the parent of all that lost theirs: whatever ends is waited for.
            ended, status = os.wait()
            if ended == self._server:
                self._server = None
                code = os.waitstatus_to_exitcode(status)
                return code if code >= 0 else _BY_SIGNAL - code

    def _on_signal(self, _number: int, _frame: FrameType | None) -> None:
        self._told = True
        if self._server is not None:
            self._end(self._server)

    @staticmethod
    def _end(server: int) -> None:
        os.kill(server, signal.SIGTERM)
