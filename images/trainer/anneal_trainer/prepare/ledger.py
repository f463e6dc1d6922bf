"""The account of every row that is not used: where it was and why, in one file, whatever becomes of the run."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TextIO

_SHOWN = 3


@dataclass
class Ledger:
    """Writes one JSON object a line: source, the place in it, reason.

    Attributes:
        invalid: rows that could not be learned from.
        first: sentences of the first few of them, for messages.
    """

    stream: TextIO
    invalid: int = 0
    first: list[str] = field(default_factory=list)

    def refuse(self, source: str, unit: str, number: int, reason: str) -> None:
        """Notes an invalid row."""
        # What the row says is quoted, and may hold what no file can: halves of surrogate pairs.
        reason = reason.encode(errors="replace").decode()
        self.invalid += 1
        if len(self.first) < _SHOWN:
            self.first.append(f"{unit} {number} of {source}: {reason}")
        self.leave_out(source, unit, number, "Invalid", reason)

    def leave_out(self, source: str, unit: str, number: int, reason: str, why: str) -> None:
        """Notes a row that is not used."""
        entry = {"source": source, unit: number, "reason": reason, "message": why}
        self.stream.write(json.dumps(entry, ensure_ascii=False) + "\n")


@contextmanager
def kept(path: Path) -> Iterator[Ledger]:
    """A ledger that becomes `path` when the block ends, also by an exception: then it says why."""
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.partial")
    with aside.open("w", encoding="utf-8") as stream:
        try:
            yield Ledger(stream)
        finally:
            stream.flush()
            os.fsync(stream.fileno())
            aside.replace(path)
