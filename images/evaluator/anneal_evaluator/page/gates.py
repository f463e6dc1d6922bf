"""The gates: what was demanded, what was seen, and what to do."""

from __future__ import annotations

from html import escape
from typing import Any

from anneal_evaluator.page.elements import SYMBOLS, percent, points, section
from anneal_evaluator.page.plot import Axis, interval, scale_of
from anneal_evaluator.statistics.interval import Interval

_SHARE, _DIFFERENCE = Interval(0.0, 1.0), Interval(-1.0, 1.0)


def gates(report: dict[str, Any]) -> str:
    """All gates as cards."""
    confidence = float(report["statistics"]["confidence"])
    hint = (
        f"All must pass. A gate decides on the bounds of a {confidence:.0%} interval, never on the point: it passes"
        " when the whole interval lies in the shaded part, fails when none of it does, and is undecided in between."
    )
    return section("Gates", f'<div class="cards">{"".join(map(_card, report["gates"]))}</div>', hint=hint)


def _card(gate: dict[str, Any]) -> str:
    outcome, compares = gate["outcome"], gate["baseline"] is not None
    written = points if compares else percent
    values = [float(gate[k]) for k in ("value", "lower", "upper", "bound")]
    axis = Axis.around(values, _DIFFERENCE if compares else _SHARE)
    label = f"{written(gate['value'])}, {written(gate['lower'])} to {written(gate['upper'])}"
    more = f" About {gate['rowsNeeded']} held-out rows would decide it." if gate["rowsNeeded"] else ""
    unit = " points" if compares else ""
    return (
        f'<article class="card {outcome}"><h3><span class="badge">{SYMBOLS[outcome]} {outcome}</span>'
        f" {escape(gate['gate'])}</h3>"
        f"<p><strong>{written(gate['value'])}{unit}</strong> ({written(gate['lower'])} to {written(gate['upper'])}),"
        f" demanded {'more than' if compares else 'at least'} {written(gate['bound'])}{unit}.{more}</p>"
        f"{interval(gate, axis, label, outcome, float(gate['bound']))}{scale_of(axis, written)}</article>"
    )
