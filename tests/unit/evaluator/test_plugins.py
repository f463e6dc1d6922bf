"""Plugins: what they are handed, and that whatever they leave is taken whole or not at all."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.unit.evaluator.builders import answered, evaluate_run
from tests.unit.evaluator.hosted import rows

from anneal.api.runs import EvaluateRun
from anneal_evaluator.errors import EvaluationError
from anneal_evaluator.metrics import scorer_of
from anneal_evaluator.plugins import plugin_scores, write_items
from anneal_evaluator.score import score

ROWS = rows("one", "two", "three")
ANSWERS = {
    "candidate": [answered("0", "yes"), answered("1", "a long answer"), answered("2", "no")],
    "base": [answered("0", "yes"), answered("1", "short"), answered("2", "cut", "truncated")],
}
#: A plugin as somebody would write it: the length of an answer in words.
PROGRAM = """
import json, os
with open(os.environ["ANNEAL_ANSWERS"]) as answers, open(os.environ["ANNEAL_SCORES"], "w") as scores:
    for item in map(json.loads, answers):
        print(json.dumps({"id": item["id"], "score": len(item["answer"].split())}), file=scores)
"""


def plugin_run(directory: Path, **options: Any) -> EvaluateRun:
    plugin = {"image": "words:1", "highest": "5", **options}
    metrics = [{"name": "exact", "exactMatch": {}}, {"name": "words", "plugin": plugin}]
    return evaluate_run(metrics=metrics, plugins=str(directory))


def handed(directory: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (directory / "answers/answers.jsonl").read_text().splitlines()]


def scores_file(directory: Path) -> Path:
    path = directory / "scores/words/scores.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def lines(directory: Path, scored: Callable[[dict[str, Any]], Any] = lambda item: 1) -> list[str]:
    """What a good plugin writes."""
    return [json.dumps({"id": item["id"], "score": scored(item)}) for item in handed(directory)]


def test_the_scores_of_a_program_are_those_of_its_answers(tmp_path: Path) -> None:
    run, path = plugin_run(tmp_path), scores_file(tmp_path)
    write_items(run, ROWS, ANSWERS)
    environment = {"ANNEAL_ANSWERS": str(tmp_path / "answers/answers.jsonl"), "ANNEAL_SCORES": str(path)}
    subprocess.run([sys.executable, "-c", PROGRAM], env=environment, check=True)
    given = plugin_scores(run, ROWS, ANSWERS)
    scores = score(run, [scorer_of(m) for m in run.metrics], ROWS, ANSWERS, given)
    assert scores[1, 0].tolist() == [0.2, 0.6, 0.2], "words, on the declared scale of 0 to 5"
    assert scores[1, 1, :2].tolist() == [0.2, 0.2]
    assert np.isnan(scores[1, 1, 2]), "no answer, no score"
    assert scores[0, 0].tolist() == [1, 0, 0], "other metrics are what they were"


def test_a_plugin_is_not_told_who_answered(tmp_path: Path) -> None:
    write_items(plugin_run(tmp_path), ROWS, ANSWERS)
    items = handed(tmp_path)
    assert [set(item) for item in items] == [{"id", "messages", "reference", "answer"}] * 4
    assert sorted(item["answer"] for item in items) == ["a long answer", "no", "short", "yes"], "equal ones once"
    assert [item["id"] for item in items] == sorted(item["id"] for item in items)
    other = tmp_path / "other"
    write_items(plugin_run(other), ROWS, {"candidate": ANSWERS["base"], "base": ANSWERS["candidate"]})
    assert handed(other) == items, "and could not tell if they changed places"


BAD: dict[str, tuple[Callable[[list[str]], list[str]], str]] = {
    "nothing": (lambda good: [], "wrote 0 scores for 4 answers, the first without one being '"),
    "too few": (lambda good: good[:-1], "wrote 3 scores for 4 answers"),
    "twice": (lambda good: [*good, good[0]], "twice, the second time in line 5"),
    "unknown": (lambda good: [*good, '{"id": "x", "score": 1}'], "scored 'x' in line 5, which is the id of no answer"),
    "NaN": (lambda good: [*good[:-1], good[-1].replace(": 1}", ": NaN}")], "wrote the score nan in line 4"),
    "infinite": (lambda good: [good[0].replace(": 1}", ": 1e999}")], "wrote the score inf in line 1"),
    "too high": (lambda good: [good[0].replace(": 1}", ": 5.1}")], "wrote the score 5.1 in line 1; declared is 0 to 5"),
    "negative": (lambda good: [good[0].replace(": 1}", ": -1}")], "wrote the score -1 in line 1"),
    "text": (lambda good: [good[0].replace(": 1}", ': "1"}')], "in line 1; demanded is"),
    "true": (lambda good: [good[0].replace(": 1}", ": true}")], "in line 1; demanded is"),
    "null": (lambda good: [good[0].replace(": 1}", ": null}")], "in line 1; demanded is"),
    "no JSON": (lambda good: ["score: 1"], "wrote 'score: 1' in line 1; demanded is"),
    "no object": (lambda good: ["[]"], "wrote '[]' in line 1"),
    "a word more": (lambda good: [good[0].replace("}", ', "why": "x"}')], "and nothing else"),
    "torn": (lambda good: [*good[:-1], good[-1][:20]], "in line 4; demanded is"),
    "endless": (lambda good: ["x" * 2000], "wrote 2001 bytes of scores, more than the 1280 that its answers can need"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_scores_are_an_error_and_never_a_zero(tmp_path: Path, name: str) -> None:
    spoil, said = BAD[name]
    run, path = plugin_run(tmp_path), scores_file(tmp_path)
    write_items(run, ROWS, ANSWERS)
    path.write_text("".join(line + "\n" for line in spoil(lines(tmp_path))))
    with pytest.raises(EvaluationError) as raised:
        plugin_scores(run, ROWS, ANSWERS)
    assert str(raised.value).startswith("Nothing is judged: the plugin of metric words (words:1) ")
    assert said in str(raised.value)
    assert (raised.value.reason, raised.value.retryable) == ("PluginScoresInvalid", False)


@pytest.mark.parametrize("leave", [Path.mkdir, os.mkfifo, lambda path: path.symlink_to("/etc/passwd"), None])
def test_what_is_no_file_is_not_read(tmp_path: Path, leave: Callable[[Path], None] | None) -> None:
    run, path = plugin_run(tmp_path), scores_file(tmp_path)
    if leave is not None:
        leave(path)
    with pytest.raises(EvaluationError, match=r"no file to read|wrote no /scores/scores\.jsonl"):
        plugin_scores(run, ROWS, ANSWERS)


def test_a_plugin_is_handed_what_a_row_has_for_it(tmp_path: Path) -> None:
    told = {"doc": {"question": "one", "numbers": [1, None]}}
    rows_ = [ROWS[0].model_copy(update={"scoring": told}), *ROWS[1:]]
    write_items(plugin_run(tmp_path), rows_, ANSWERS)
    by_answer = {item["answer"]: item for item in handed(tmp_path)}
    assert by_answer["yes"]["scoring"] == told
    assert not any("scoring" in by_answer[answer] for answer in ("a long answer", "no", "short"))


def test_of_rows_that_its_metric_does_not_cover_a_plugin_may_say_nothing(tmp_path: Path) -> None:
    categories = ["sums", "words", "sums"]
    some = [row.model_copy(update={"category": c}) for row, c in zip(ROWS, categories, strict=True)]
    plugin = {"name": "words", "plugin": {"image": "words:1"}, "only": {"categories": ["sums"]}}
    run, path = evaluate_run(metrics=[plugin], plugins=str(tmp_path)), scores_file(tmp_path)
    write_items(run, some, ANSWERS)
    good = dict(zip((item["answer"] for item in handed(tmp_path)), lines(tmp_path), strict=True))
    assert set(good) == {"yes", "no", "a long answer", "short"}
    path.write_text("\n".join([good["yes"], good["no"]]))
    given = plugin_scores(run, some, ANSWERS)
    assert given[0][0, [0, 2]].tolist() == [1, 1]
    assert np.isnan(given[0][:, 1]).all()
    path.write_text("\n".join([good["yes"], good["short"]]))
    with pytest.raises(EvaluationError, match="wrote 1 scores for 2 answers, the first without one"):
        plugin_scores(run, some, ANSWERS)


def test_a_binary_metric_has_two_values(tmp_path: Path) -> None:
    run, path = plugin_run(tmp_path, values="Binary"), scores_file(tmp_path)
    write_items(run, ROWS, ANSWERS)
    assert scorer_of(run.metrics[1]).is_binary
    path.write_text("\n".join(lines(tmp_path, lambda item: 5 if item["answer"] == "yes" else 0)))
    assert plugin_scores(run, ROWS, ANSWERS)[1][0].tolist() == [1, 0, 0]
    path.write_text("\n".join(lines(tmp_path, lambda item: 2.5)))
    with pytest.raises(EvaluationError, match=r"2\.5 in line 1; a Binary metric has 0 and 5 alone"):
        plugin_scores(run, ROWS, ANSWERS)


def test_scores_of_other_answers_are_no_scores(tmp_path: Path) -> None:
    run, path = plugin_run(tmp_path), scores_file(tmp_path)
    write_items(run, ROWS, ANSWERS)
    path.write_text("\n".join(lines(tmp_path)))
    later = {**ANSWERS, "candidate": [answered("0", "another"), *ANSWERS["candidate"][1:]]}
    with pytest.raises(EvaluationError, match="without one"):
        plugin_scores(run, ROWS, later)
