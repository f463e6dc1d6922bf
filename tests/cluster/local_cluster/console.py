"""Progress on standard error, one line a step with its seconds: standard output belongs to what a verb answers."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager


def say(text: str) -> None:
    """Print one line of progress."""
    print(text, file=sys.stderr, flush=True)


@contextmanager
def step(text: str) -> Iterator[None]:
    """Print `text` with the seconds that the block took, also when it failed."""
    begin = time.monotonic()
    try:
        yield
    except BaseException:
        say(f"  {text}: failed after {time.monotonic() - begin:.1f} s")
        raise
    say(f"  {text}: {time.monotonic() - begin:.1f} s")
