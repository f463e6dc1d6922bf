"""What a sweep has tried, counted, so that a sweep that tries nothing is seen."""

from __future__ import annotations

from collections import Counter


class Ledger:
    """Counts of one test session."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()

    def count(self, what: str, number: int = 1) -> None:
        self._counts[what] += number

    def summary(self) -> str:
        return ", ".join(f"{number:,} {what}" for what, number in self._counts.items())
