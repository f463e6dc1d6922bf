"""Virtual time: tests move it, nothing waits for it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

START = datetime(2026, 1, 1, tzinfo=UTC)


@dataclass
class Clock:
    """The one time of a test."""

    time: datetime = START

    def now(self) -> datetime:
        return self.time

    def advance(self, seconds: float) -> None:
        self.time += timedelta(seconds=seconds)

    def text(self) -> str:
        """Now, as Kubernetes writes it: RFC 3339, whole seconds."""
        return self.time.strftime("%Y-%m-%dT%H:%M:%SZ")
