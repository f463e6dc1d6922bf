"""What every estimate here ends in."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Interval:
    """Two-sided confidence bounds."""

    lower: float
    upper: float
