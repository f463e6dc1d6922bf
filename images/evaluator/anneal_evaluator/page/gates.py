"""The gates: what was demanded, what was seen, and what to do."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from html import escape
from typing import Any

from anneal_evaluator.page.elements import SYMBOLS, percent, points, section
from anneal_evaluator.page.plot import Axis, interval, scale_of
from anneal_evaluator.statistics.interval import Interval


@dataclass(frozen=True)
class _Unit:
    """How a measure is written and drawn."""

    written: Callable[[float | str], str]
    name: str
    scale: Interval
    finest: float
    """Shortest distance of two ticks."""


def _plain(value: float | str) -> str:
    return "without bound" if math.isinf(float(value)) else f"{float(value):.7g}"


_UNITS = {
    "Score": _Unit(percent, "", Interval(0.0, 1.0), 0.01),
    "Difference": _Unit(points, " points", Interval(-1.0, 1.0), 0.01),
    "Milliseconds": _Unit(_plain, " ms", Interval(0.0, math.inf), 1),
    "Ratio": _Unit(_plain, " times", Interval(0.0, math.inf), 0.01),
    "Cost": _Unit(_plain, "", Interval(0.0, math.inf), 1e-6),
}


def gates(report: dict[str, Any]) -> str:
    """All gates as cards."""
    confidence = float(report["statistics"]["confidence"])
    hint = (
        f"All must pass. A gate decides on the bounds of a {confidence:.0%} interval, never on the point: it passes"
        " when the whole interval lies in the shaded part, fails when none of it does, and is undecided in between."
    )
    if any(gate["claims"] for gate in report["gates"]):
        hint += (
            " Of several claims one must hold, by wider intervals for each (Holm): the picture shows the surest, at the"
            " confidence that is said of it; all fail by the usual ones."
        )
    return section("Gates", f'<div class="cards">{"".join(map(_card, report["gates"]))}</div>', hint=hint)


def _card(gate: dict[str, Any]) -> str:
    outcome, unit = gate["outcome"], _UNITS[gate["measure"]]
    written = unit.written
    values = [float(gate[k]) for k in ("value", "lower", "upper", "bound")]
    axis = Axis.around(values, unit.scale, unit.finest)
    label = f"{written(gate['value'])}, {written(gate['lower'])} to {written(gate['upper'])}"
    more = f" About {gate['rowsNeeded']} held-out rows would decide it." if gate["rowsNeeded"] else ""
    demanded = "at most" if gate["isCeiling"] else "more than" if gate["measure"] == "Difference" else "at least"
    good = Interval(axis.low, float(gate["bound"])) if gate["isCeiling"] else Interval(float(gate["bound"]), axis.high)
    return (
        f'<article class="card {outcome}"><h3><span class="badge">{SYMBOLS[outcome]} {outcome}</span>'
        f" {escape(gate['gate'])}</h3>"
        f"<p><strong>{written(gate['value'])}{unit.name}</strong> ({written(gate['lower'])} to"
        f" {written(gate['upper'])}), demanded {demanded} {written(gate['bound'])}{unit.name}.{more}</p>"
        f"{interval(gate, axis, label, outcome, float(gate['bound']), good)}{scale_of(axis, written)}"
        f"{_claims(gate['claims'])}</article>"
    )


def _claims(claims: list[dict[str, Any]]) -> str:
    """All of several claims, each by the interval that its outcome rests on."""
    return f'<ul class="claims">{"".join(map(_claim, claims))}</ul>' if claims else ""


def _claim(claim: dict[str, Any]) -> str:
    outcome, confidence = claim["outcome"], 100 * float(claim["confidence"])
    bounds = f"{points(claim['lower'])} to {points(claim['upper'])}, {confidence:.4g} %"
    return (
        f'<li><span title="{outcome}">{SYMBOLS[outcome]}</span> {escape(claim["claim"])}:'
        f" <strong>{points(claim['value'])}</strong> ({bounds}), demanded {escape(claim['required'])}"
        f" <small>so many rows detect {100 * float(claim['mde']):.1f} points</small></li>"
    )
