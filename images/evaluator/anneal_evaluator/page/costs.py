"""What was spent, what a query costs, and how much traffic makes a model of one's own the cheaper one."""

from __future__ import annotations

import math
from dataclasses import dataclass
from html import escape
from typing import Any

from anneal.api.subjects import CANDIDATE
from anneal_evaluator.page.elements import section, table

_HEIGHT = 180
_APART = 8.0  # percent of the height between two names
_BEYOND = 4.0  # times the traffic that matters, shown on both sides


def costs(report: dict[str, Any]) -> str:
    """Spent so far, then the price of a query; nothing where no price is told."""
    found, training = report["costs"], report["training"]
    return "".join(
        (
            section("Spent", table(["What", "Cost"], _spent(found, training))),
            section(
                "What a query costs",
                _picture(found),
                table(_HEADS, _queries(found)),
                hint=_hint(found, training["cost"]),
            ),
        )
    )


def _spent(found: dict[str, Any], training: dict[str, Any]) -> list[list[str]]:
    lines = [["Training the candidate", training["cost"]]]
    for what, where in (("Rows written by a hosted model", "augmentation"), ("Meanings compared", "semantic")):
        lines += [[what, ((training["data"] or {}).get(where) or {}).get("cost")]]
    lines += [[f"Answers of {h['name']}", h["spent"]] for h in found["hosted"]]
    lines += [["The judge", found["judge"]], ["The guard", found["guard"]]]
    lines += [["This evaluation, hosted models in all", found.get("evaluation")]]
    return [[escape(what), escape(cost)] for what, cost in lines if cost is not None]


_HEADS = [
    "Model",
    "A query",
    "Cheaper than the candidate below",
    "At full load, one server saves an hour",
    "and pays back training and evaluation in",
]


def _queries(found: dict[str, Any]) -> list[list[str]]:
    own = found.get("perQuery")
    lines = [] if own is None else [[CANDIDATE, f"{own} <small>at full load</small>", "", "", ""]]
    for hosted in found["hosted"]:
        benefit = hosted["benefit"] or {}
        below = benefit.get("breakEvenPerHour")
        traffic = "" if below is None else f"{below:,} queries an hour"
        worth = ("", "") if own is None else _worth(benefit)
        lines.append([escape(hosted["name"]), hosted["perQuery"], traffic, *worth])
    return lines


def _worth(benefit: dict[str, Any]) -> tuple[str, str]:
    """(money saved in an hour, hours until what was invested is saved), at full load."""
    if (saved := benefit.get("savedPerHour")) is None:
        return "nothing", "never"
    hours = benefit.get("paybackHours")
    return f"{float(saved):.2f}", "" if hours is None else f"{float(hours):,.1f} hours"


def _hint(found: dict[str, Any], training: str | None) -> str:
    if "perQuery" not in found:
        return "In the currency of the prices in the spec. spec.servingCostPerHour would tell the candidate's."
    return (
        f"In the currency of the prices in the spec. A server of the candidate costs {escape(found['perHour'])} an hour"
        f" and answers up to {found['queriesPerHour']:,} queries in it; the fewer there are, the more each costs."
        + (
            ""
            if "invested" not in found
            else f" What pays back takes them for {escape(str(training).partition(' ')[2])}."
        )
    )


@dataclass(frozen=True)
class _Traffic:
    """Queries an hour, from left to right on a logarithmic scale."""

    low: float
    high: float

    def x(self, queries: float) -> float:
        """In percent."""
        return 100 * math.log(queries / self.low) / math.log(self.high / self.low)


def _picture(found: dict[str, Any]) -> str:
    """Price of a query over traffic, both logarithmic: the candidate's falls as a straight line, hosted ones are level.

    Top and bottom are the candidate's prices at the ends, so that a hosted price crosses it as far down as right.
    """
    hosted = [h["benefit"] for h in found["hosted"] if h["benefit"] and h["benefit"].get("breakEvenPerHour")]
    if "perQuery" not in found or not hosted:
        return ""
    most = found["queriesPerHour"]
    matters = [most, *(h["breakEvenPerHour"] for h in hosted)]
    traffic = _Traffic(min(matters) / _BEYOND, max(matters) * _BEYOND)
    full = f"{traffic.x(most):.2f}%"
    ticks = [10**power for power in range(math.ceil(math.log10(traffic.low)), math.ceil(math.log10(traffic.high)))]
    grid = "".join(f'<line class="grid" x1="{x}" x2="{x}" y1="0" y2="{_HEIGHT}"/>' for x in _percents(traffic, ticks))
    scale = "".join(
        f'<text x="{x}" y="13" text-anchor="middle">{tick:,}</text>'
        for tick, x in zip(ticks, _percents(traffic, ticks), strict=True)
        if 3 < traffic.x(tick) < 97
    )
    label = "; ".join(f"{h['baseline']} costs the same at {h['breakEvenPerHour']} queries an hour" for h in hosted)
    return (
        f'<div class="forest costs"><svg height="{_HEIGHT}" role="img" aria-label="{escape(label)}">{grid}'
        f'<line class="full" x1="{full}" x2="{full}" y1="0" y2="{_HEIGHT}"/>'
        f'<line class="bounds" x1="0" y1="0" x2="100%" y2="{_HEIGHT}"/>{_levels(traffic, hosted)}</svg>'
        f'<svg class="scale" height="18" aria-hidden="true">{scale}</svg>'
        '<p class="hint">Queries an hour, against the price of one. Falling: the candidate; level: hosted; they cost'
        " the same where they meet. Upright: all that one server answers.</p></div>"
    )


def _levels(traffic: _Traffic, hosted: list[dict[str, Any]]) -> str:
    drawn, last = "", -_APART
    for h in sorted(hosted, key=lambda h: int(h["breakEvenPerHour"])):
        at = traffic.x(h["breakEvenPerHour"])
        drawn += f'<line class="level" x1="0" x2="100%" y1="{at:.2f}%" y2="{at:.2f}%"/>'
        drawn += f'<circle class="point" cx="{at:.2f}%" cy="{at:.2f}%" r="5"/>'
        if at - last >= _APART:
            drawn += f'<text x="100%" y="{at:.2f}%" dy="-5" text-anchor="end">{escape(h["baseline"])}</text>'
            last = at
    return drawn


def _percents(traffic: _Traffic, ticks: list[int]) -> list[str]:
    return [f"{traffic.x(tick):.2f}%" for tick in ticks]
