"""An event loop for what waits for minutes: while nothing happens, its clock jumps to where the next timer is due.

Servers and files are real and take their real time, so it jumps only after a moment in which nothing came. On a busy
machine that moment is as long as new threads wait for a core, as a server's do.
"""

from __future__ import annotations

import asyncio
import selectors
import threading
import time
from collections.abc import Coroutine
from typing import Any, TypeVar

_MOMENT = 0.1
_LOOKS = 4
T = TypeVar("T")


class JumpingClock:
    """Seconds that pass for the loop."""

    def __init__(self) -> None:
        self.skipped = 0.0

    def monotonic(self) -> float:
        return time.monotonic() + self.skipped

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """What `work` returns, run on a loop by this clock."""
        with asyncio.Runner(loop_factory=lambda: _Loop(self)) as runner:
            return runner.run(work)


class _Loop(asyncio.SelectorEventLoop):
    def __init__(self, clock: JumpingClock) -> None:
        self._clock = clock
        super().__init__(_Selector(clock))

    def time(self) -> float:
        return self._clock.monotonic()


class _Selector(selectors.EpollSelector):
    def __init__(self, clock: JumpingClock) -> None:
        super().__init__()
        self._clock = clock

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None or timeout <= _MOMENT:
            return super().select(timeout)
        for _ in range(_LOOKS):
            if found := super().select(_MOMENT / _LOOKS):
                return found
            _wait_for_a_core()
        self._clock.skipped += timeout - _MOMENT
        return []


def _wait_for_a_core() -> None:
    thread = threading.Thread(target=lambda: None)
    thread.start()
    thread.join()
