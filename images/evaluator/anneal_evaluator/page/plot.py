"""Intervals as pictures: inline SVG whose positions are percentages, so that it has the width that there is."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from anneal_evaluator.statistics.interval import Interval

_STEPS = tuple(digit * 10.0**power for power in range(-7, 7) for digit in (1, 2, 5))
_TICKS = 8  # at most
_HEIGHT = 30


@dataclass(frozen=True)
class Axis:
    """The part of a scale that a picture shows."""

    low: float
    high: float
    step: float

    @classmethod
    def around(cls, values: Iterable[float], scale: Interval, finest: float = 0.01) -> Axis:
        """Wide enough for all finite values, from tick to tick, and never beyond the scale."""
        values = [value for value in values if math.isfinite(value)]
        low, high = min(values), max(values)
        steps = (s for s in _STEPS if s >= finest * (1 - 1e-9) and (high - low) / s <= _TICKS - 2)
        step = next(steps, _STEPS[-1])
        return cls(
            max(scale.lower, math.floor(low / step - 0.2) * step),
            min(scale.upper, math.ceil(high / step + 0.2) * step),
            step,
        )

    def x(self, value: float) -> str:
        """Where a value is, in percent of the width; beyond the end, at the end."""
        return f"{100 * (min(value, self.high) - self.low) / (self.high - self.low):.2f}%"

    @property
    def ticks(self) -> Sequence[float]:
        first = math.ceil(self.low / self.step - 1e-9)
        return [i * self.step for i in range(first, math.floor(self.high / self.step + 1e-9) + 1)]


def interval(
    estimate: dict[str, Any],
    axis: Axis,
    label: str,
    outcome: str = "",
    demanded: float | None = None,
    good: Interval | None = None,
) -> str:
    """Point and bounds of an estimate on the axis; a line at what is demanded, with what is good shaded."""
    value, lower, upper = (float(estimate[k]) for k in ("value", "lower", "upper"))
    middle, x = _HEIGHT / 2, axis.x
    beyond = ""
    if demanded is not None and good is not None:
        width = 100 * (good.upper - good.lower) / (axis.high - axis.low)
        beyond = (
            f'<rect class="beyond" x="{x(good.lower)}" width="{max(0.0, width):.2f}%" y="0" height="{_HEIGHT}"/>'
            f'<line class="demanded" x1="{x(demanded)}" x2="{x(demanded)}" y1="0" y2="{_HEIGHT}"/>'
        )
    grid = "".join(
        f'<line class="{"zero" if abs(t) < 1e-9 else "grid"}" x1="{x(t)}" x2="{x(t)}" y1="0" y2="{_HEIGHT}"/>'
        for t in axis.ticks
    )
    return (
        f'<svg class="interval {outcome}" height="{_HEIGHT}" role="img" aria-label="{label}">{grid}{beyond}'
        f'<line class="bounds" x1="{x(lower)}" x2="{x(upper)}" y1="{middle}" y2="{middle}"/>'
        + "".join(
            f'<line class="bounds" x1="{x(end)}" x2="{x(end)}" y1="{middle - 5}" y2="{middle + 5}"/>'
            for end in (lower, upper)
        )
        + f'<circle class="point" cx="{x(value)}" cy="{middle}" r="5"/></svg>'
    )


def scale_of(axis: Axis, written: Callable[[float], str]) -> str:
    """The numbers below pictures that share an axis."""
    inner = [t for t in axis.ticks if axis.low < t < axis.high]
    texts = "".join(f'<text x="{axis.x(t)}" y="13" text-anchor="middle">{_short(written(t))}</text>' for t in inner)
    return f'<svg class="scale" height="18" aria-hidden="true">{texts}</svg>'


def _short(number: str) -> str:
    """Without decimals that say nothing."""
    return re.sub(r"\.0(?!\d)", "", number).replace("±0", "0")
