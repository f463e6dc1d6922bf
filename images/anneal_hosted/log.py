"""Lines that are on disk when `append` returns, however many are appended at once.

A flush to disk takes from a fifth of a millisecond to, on network storage, tens of them. One for each line, one after
the other, would make answers wait for the disk: lines that come while one flush is under way share the next.
"""

from __future__ import annotations

import asyncio
import os
from pathlib import Path


class Log:
    """The end of one file, used by one event loop at a time. Lines keep the order in which they were appended."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._waiting: list[tuple[bytes, asyncio.Future[None]]] = []
        self._flushing: asyncio.Task[None] | None = None

    async def append(self, line: bytes) -> None:
        """Raises OSError when it is not on disk. Who stops waiting does not stop the line from being written."""
        done = asyncio.get_running_loop().create_future()
        self._waiting.append((line, done))
        if self._flushing is None or self._flushing.done():
            self._flushing = asyncio.create_task(self._flush())
        await done

    async def _flush(self) -> None:
        while self._waiting:
            lines, self._waiting = self._waiting, []
            try:
                await asyncio.to_thread(write_lines, self._path, b"".join(line for line, _ in lines))
            except OSError as error:
                failed: OSError | None = error
            else:
                failed = None
            for _, done in lines:
                if done.done():
                    continue
                done.set_exception(failed) if failed else done.set_result(None)


def write_lines(path: Path, content: bytes) -> None:
    """Appends whole lines, and returns when they are on disk."""
    with path.open("ab") as stream:
        stream.write(content)
        stream.flush()
        os.fsync(stream.fileno())
