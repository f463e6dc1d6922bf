"""What the candidate was trained on: from the rows that were read to those that it learned from."""

from __future__ import annotations

from html import escape
from typing import Any

from anneal_evaluator.page.elements import bars, section

#: Reasons to leave a row out, in the order in which they are looked for, and what is left then.
_LEFT = {
    "Duplicate": "Without repeats",
    "Conflict": "Without conflicting answers",
    "NearDuplicate": "Without near repeats",
    "Balance": "Balanced over categories",
    "LeakAgainst": "Without rows that give rows of other files away",
    "Leak": "Without rows that give held-out rows away",
    "SemanticLeak": "Without rows that ask in other words what a held-out row asks",
}


def training_data(report: dict[str, Any]) -> str:
    """The funnel of the training data, as far as the report beside the artifact tells it."""
    told = report["training"]
    if told["data"] is None:
        return section("Training data", f'<p class="hint">{escape(told["unknown"])}</p>')
    return section("Training data", bars(_steps(told["data"])), hint=_hint(told))


def _steps(data: dict[str, Any]) -> list[tuple[str, int, str]]:
    counts, left_out = data["counts"], {c["reason"]: c["rows"] for c in data.get("leftOut", ())}
    left = counts["read"]
    steps = [("Rows read", left, "")]
    gone = {"Invalid": counts["invalid"], **{r: left_out[r] for r in (*_LEFT, *left_out) if r in left_out}}
    for reason, rows in gone.items():
        left -= rows
        if rows:
            what = "Valid" if reason == "Invalid" else _LEFT.get(reason, f"Without {reason}")
            steps.append((what, left, f" −{rows}"))
    written = (data.get("augmentation") or {}).get("accepted", 0)
    steps += [("Written by a hosted model", written, "")] if written else []
    return [*steps, ("Held out", counts["heldOut"], ""), ("Trained on", counts["train"], "")]


def _hint(told: dict[str, Any]) -> str:
    trained, counts = told["trained"], told["data"]["counts"]
    return (
        f"Told by the report beside the artifact. {counts['trainTokens']:,} tokens of training rows;"
        f" {trained['steps']:,} steps in {trained['seconds']:,} s over {trained['tokens']:,} tokens."
    )
