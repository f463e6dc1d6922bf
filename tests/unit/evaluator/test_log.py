"""Lines on disk: all, in order, and no more flushes than it takes."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from anneal_hosted import log as module
from anneal_hosted.log import Log, write_lines


async def test_lines_that_come_at_once_share_a_flush(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    flushed: list[bytes] = []

    def noting(path: Path, content: bytes) -> None:
        flushed.append(content)
        write_lines(path, content)

    monkeypatch.setattr(module, "write_lines", noting)
    path = tmp_path / "log"
    log = Log(path)
    lines = [b"%d\n" % n for n in range(50)]
    await asyncio.gather(*(log.append(line) for line in lines))
    assert path.read_bytes() == b"".join(lines)
    assert len(flushed) == 1, "all were waiting when the first flush began"
    await log.append(b"later\n")
    assert path.read_bytes().endswith(b"later\n")
    assert len(flushed) == 2


async def test_a_line_is_on_disk_when_append_returns(tmp_path: Path) -> None:
    log = Log(tmp_path / "log")

    async def one(line: bytes) -> bool:
        await log.append(line)
        return line in (tmp_path / "log").read_bytes()

    assert all(await asyncio.gather(*(one(b"line %d;\n" % n) for n in range(20))))


async def test_a_disk_that_is_gone_is_told_to_everyone_who_waits(tmp_path: Path) -> None:
    log = Log(tmp_path / "nowhere" / "log")
    ended = await asyncio.gather(*(log.append(b"x\n") for _ in range(3)), return_exceptions=True)
    assert [type(error) for error in ended] == [FileNotFoundError] * 3
    (tmp_path / "nowhere").mkdir()
    await log.append(b"y\n")
    assert (tmp_path / "nowhere/log").read_bytes() == b"y\n"


async def test_who_stops_waiting_does_not_stop_the_line(tmp_path: Path) -> None:
    log = Log(tmp_path / "log")
    gone = asyncio.create_task(log.append(b"first\n"))
    await asyncio.sleep(0)
    gone.cancel()
    await log.append(b"second\n")
    assert (tmp_path / "log").read_bytes() == b"first\nsecond\n"
