"""The user's guide says what the evaluator says."""

from __future__ import annotations

import math
from pathlib import Path

from tests.support.reports import example

from anneal.api.power import minimum_detectable_effect, rows_needed

GUIDE = Path(__file__).resolve().parents[3] / "docs" / "evaluating-and-gating.md"


def test_the_worked_example_is_from_a_run() -> None:
    text = " ".join(GUIDE.read_text(encoding="utf-8").replace("\n>", "\n").split())
    found = example().document
    for gate in found["gates"]:
        assert gate["message"] in text
    assert f"The verdict is `{found['verdict']}`" in text


def test_the_rows_are_those_of_the_formulas() -> None:
    text = GUIDE.read_text(encoding="utf-8")
    for points in (7, 5, 3):
        line = next(line for line in text.splitlines() if f"not worse by {points} points" in line)
        assert line.endswith(f"| {rows_needed(points / 100, 0.1, 0.1, 0.95)} |")
    assert f"| {math.ceil(math.log(0.025) / math.log(0.95))} |" in text
    seen = [f"{100 * minimum_detectable_effect(discordance, 150, 0.95):.1f}" for discordance in (0.1, 0.2)]
    assert f"sees {seen[0]} points" in text
    assert f"tenth of the rows, {seen[1]}" in " ".join(text.split())
