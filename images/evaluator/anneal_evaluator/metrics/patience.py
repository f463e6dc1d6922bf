"""Programs of users (patterns, schemas) meet texts of models: what works without end is stopped.

Python's own code and its regular expressions look for signals while they work.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def stopped_after(seconds: float, why: str) -> Iterator[None]:
    """Raises ValueError(why) in the block when it takes longer. Only in the main thread."""

    def stop(signum: int, frame: FrameType | None) -> None:
        raise ValueError(why)

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
