"""What the interpreter does at the start and the end of a process, and need not do for us.

Every resume is a start, and of several ranks each makes its own. Imports nothing big: it comes before all that is.
"""

from __future__ import annotations

import atexit
import gc
import os
import sys
from contextlib import suppress


def collect_no_garbage() -> None:
    """Until `collect_again`, no cycles of garbage are searched for.

    What is imported stays. To look through all of it again each time that it has grown by a quarter took a fifth of the
    processor time of a start, and found nothing.
    """
    gc.disable()


def collect_again() -> None:
    """Ends `collect_no_garbage`; what there is by then is never looked through. Changes nothing where it is not on."""
    if not gc.isenabled():
        gc.freeze()
        gc.enable()


class QuickEnd:
    """Ends the process without taking the interpreter apart: the kernel frees at once what it would free bit by bit.

    It is the last that `atexit` runs, if it is made first: by then threads were waited for, and whatever libraries want
    to be called at the end was called.

    Attributes:
        code: the exit code; a crash until it is set.
    """

    def __init__(self) -> None:
        self.code = 1
        atexit.register(self._leave)

    def _leave(self) -> None:
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError, ValueError):  # whoever read it may be gone
                stream.flush()
        os._exit(self.code)
