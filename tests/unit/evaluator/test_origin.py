"""Where the candidate comes from, as the report beside its artifact tells it, or why it cannot be told."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tests.support.reports import DATA, TRAINED, example
from tests.unit.evaluator.builders import CANDIDATE_DIGEST, evaluate_run

from anneal_evaluator import origin as module
from anneal_evaluator.origin import origin
from anneal_evaluator.page.training import training_data

CARD: dict[str, Any] = {"digest": CANDIDATE_DIGEST, "data": {"dataset": DATA}, "trained": TRAINED}
#: What augmentation writes, as a whole.
WRITTEN = {"generator": "g", "validator": "v", "asked": 120, "written": 110, "accepted": 100, "ended": "Enough"}


def told_by(folder: Path, content: bytes | None) -> dict[str, Any]:
    if content is not None:
        (folder / "report.json").write_bytes(content)
    return origin(evaluate_run(artifact={"uri": "pvc://models/a", "path": str(folder)}, trainingCost="3.20 USD"))


def test_rows_and_training_are_told_as_they_were_written(tmp_path: Path) -> None:
    data = {**DATA, "augmentation": {**DATA["augmentation"], **WRITTEN}}
    told = told_by(tmp_path, json.dumps({**CARD, "data": {"dataset": data}}).encode())
    assert (told["cost"], told["unknown"]) == ("3.20 USD", None)
    assert (told["data"]["counts"], told["data"]["leftOut"]) == (DATA["counts"], DATA["leftOut"])
    assert told["trained"] == TRAINED


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (None, "No such file or directory"),
        (b"{", "Expecting property name"),
        (b"\xff", "can't decode byte"),
        (b"[1]", "it is not what training writes"),
        (json.dumps({**CARD, "digest": "sha256:0"}).encode(), "it is the report of sha256:0"),
        (json.dumps({**CARD, "data": None}).encode(), "it is not what training writes"),
        (json.dumps({**CARD, "trained": {}}).encode(), "it is not what training writes"),
        (b"[" * 200_000, "recursion"),
    ],
)
def test_what_cannot_be_read_is_said_and_nothing_is_made_up(tmp_path: Path, content: bytes | None, why: str) -> None:
    told = told_by(tmp_path, content)
    assert (told["data"], told["trained"]) == (None, None)
    assert why in told["unknown"]
    assert told["unknown"] in training_data({"training": told}).replace("&#x27;", "'")


def test_a_report_that_is_too_large_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_MOST_BYTES", 100)
    assert "larger than 100 bytes" in told_by(tmp_path, json.dumps(CARD).encode())["unknown"]


def test_the_funnel_goes_from_rows_read_to_rows_trained_on() -> None:
    html = training_data(example().document)
    steps = ["Rows read", "Valid", "Without repeats", "Without conflicting answers", "Without near repeats"]
    steps += ["Balanced over categories", "Without rows that give held-out rows away", "Held out", "Trained on"]
    places = [html.index(f"<div>{step}</div>") for step in steps]
    assert places == sorted(places)
    assert "2200 <small>(91.7 %) −2</small>" in html, "2400 - 12 - 90 - 6 - 50 - 40 - 2"


def test_the_funnel_names_what_leaked_into_files_to_keep_out() -> None:
    told = example().document["training"]
    left_out = [{"reason": "LeakAgainst", "rows": 30}, *DATA["leftOut"]]
    html = training_data({"training": {**told, "data": {**told["data"], "leftOut": left_out}}})
    other, held_out = (
        html.index(f"<div>Without rows that give {what} away</div>")
        for what in ("rows of other files", "held-out rows")
    )
    assert other < held_out
