"""A child process that is killed, by a real SIGKILL, just before its n-th change of the file system."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from itertools import count
from typing import Any

_CHANGES = ("fsync", "rename", "replace", "mkdir", "unlink", "rmdir")


def at_every_change(work: Callable[[], Any], stride: int = 1) -> Iterator[int]:
    """Runs `work` in a child that dies before its first change, then in one that dies before its second, and so on.

    Yields the number of the change each time, until a child gets to its end. A larger `stride` leaves some out.
    """
    for number in count(1, stride):
        if not _dies(work, number):
            return
        yield number


def _dies(work: Callable[[], Any], number: int) -> bool:
    child = os.fork()
    if child == 0:
        code = 1
        try:
            _arm(number)
            work()
            code = 0
        finally:
            os._exit(code)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        assert os.WTERMSIG(status) == signal.SIGKILL
        return True
    assert os.WEXITSTATUS(status) == 0, "the child failed by itself"
    return False


def _arm(number: int) -> None:
    left = number

    def counted(change: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **named: Any) -> Any:
            nonlocal left
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return change(*arguments, **named)

        return call

    for name in _CHANGES:
        setattr(os, name, counted(getattr(os, name)))
