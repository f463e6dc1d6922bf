"""A line in a picture, as SVG that a page holds: no library in the image, no request from the page."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

_WIDTH, _HEIGHT = 640, 240
_LEFT, _RIGHT, _TOP, _BOTTOM = 64, 16, 16, 32

Point = tuple[float, float]


@dataclass(frozen=True)
class Line:
    """A named series of (x, y), x rising; `kind` picks its colour: first or second."""

    name: str
    points: Sequence[Point]
    kind: str = "first"


def chart(lines: Sequence[Line], x_name: str, y_name: str) -> str:
    """The lines over common axes that begin at 0. Empty without at least two points."""
    drawn = [line for line in lines if len(line.points) > 1]
    if not drawn:
        return ""
    x_ticks = ticks(max(x for line in drawn for x, _ in line.points))
    y_ticks = ticks(max(y for line in drawn for _, y in line.points))

    def at(x: float, y: float) -> Point:
        wide, high = _WIDTH - _LEFT - _RIGHT, _HEIGHT - _TOP - _BOTTOM
        return _LEFT + wide * x / x_ticks[-1], _HEIGHT - _BOTTOM - high * y / y_ticks[-1]

    parts = [f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{escape(y_name)} by {escape(x_name)}">']
    for tick in y_ticks:
        left, y = at(0, tick)
        parts.append(f'<path class="grid" d="M{left:.1f} {y:.1f}H{_WIDTH - _RIGHT}"/>')
        parts.append(f'<text x="{left - 8:.1f}" y="{y + 4:.1f}" text-anchor="end">{tick:.4g}</text>')
    for tick in x_ticks:
        x, base = at(tick, 0)
        parts.append(f'<text x="{x:.1f}" y="{base + 20:.1f}" text-anchor="middle">{tick:.4g}</text>')
    for line in drawn:
        path = "L".join(f"{x:.1f} {y:.1f}" for x, y in (at(*point) for point in line.points))
        parts.append(f'<path class="line {line.kind}" d="M{path}"><title>{escape(line.name)}</title></path>')
    return "".join([*parts, "</svg>"])


def ticks(most: float) -> list[float]:
    """Three to six round numbers from 0 to `most` or just above it (steps of 1, 2 or 5 times a power of ten)."""
    if not (math.isfinite(most) and most > 0):
        return [0.0, 1.0]
    rough = most / 4
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough)
    return [step * i for i in range(math.ceil(most / step - 1e-9) + 1)]
