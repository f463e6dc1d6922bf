"""The parts of the plugin for lm-eval's tasks that need no lm-eval: its files, and where an answer ends."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from anneal_evaluator.held_out import HeldOutRow
from anneal_lm_eval.__main__ import main
from anneal_lm_eval.errors import TaskError
from anneal_lm_eval.items import Item, Origin, as_line, cut, read_items, row, write_scores

ORIGIN = Origin("sums", 7, {"question": "1 + 1", "answer": "é 2"}, 0, "sha256:1")
ASKED = [{"role": "system", "content": "Add."}, {"role": "user", "content": "1 + 1"}]


def handed(path: Path, *items: dict[str, Any]) -> Path:
    path.write_text("".join(json.dumps(item) + "\n" for item in items))
    return path


def test_what_a_row_carries_comes_back_with_its_answer(tmp_path: Path) -> None:
    sealed = HeldOutRow.model_validate_json(as_line(row(ASKED, "2", "maths", ORIGIN, sealed=True)))
    assert (sealed.id, sealed.reference, sealed.category) == ("sums-7", "2", "maths")
    mine = {"id": "a", "messages": ASKED, "reference": "2", "answer": "two", "scoring": sealed.scoring}
    others = [{"id": "b", "answer": "x"}, {"id": "c", "answer": "x", "scoring": {"theirs": 1}}]
    assert read_items(handed(tmp_path / "answers", *others, mine)) == [Item("a", "two", ORIGIN)]


def test_a_row_for_training_is_a_chat_that_ends_with_its_answer() -> None:
    made = row(ASKED, "2", "maths", ORIGIN, sealed=False)
    assert made["messages"] == [*ASKED, {"role": "assistant", "content": "2"}]
    assert set(made) == {"messages", "category", "scoring"}
    with pytest.raises(TaskError, match=r"Document 7 of task sums has an empty answer.* \(--sealed\)"):
        row(ASKED, " ", "maths", ORIGIN, sealed=False)
    assert row(ASKED, "", "maths", ORIGIN, sealed=True)["reference"] == ""


@pytest.mark.parametrize(
    ("answer", "until", "left"),
    [
        ("4\nQuestion: 5", ["Question:", "\n"], "4"),
        ("4\nQuestion: 5", ["Question:", "</s>"], "4\n"),
        ("</s>4", ["</s>"], ""),
        ("4", ["</s>", ""], "4"),
        ("4", [], "4"),
    ],
)
def test_an_answer_ends_where_the_task_lets_models_end(answer: str, until: list[str], left: str) -> None:
    assert cut(answer, until) == left


@pytest.mark.parametrize(
    "line", ["[]", "{", '{"id": "a", "answer": "x", "scoring": {"lmEval": {"task": "sums"}}}', '{"scoring": 1}']
)
def test_a_line_that_is_none_is_named(tmp_path: Path, line: str) -> None:
    (tmp_path / "answers").write_text("\n" + line)
    with pytest.raises(TaskError, match=r"Line 2 of .* is no answer to a row"):
        read_items(tmp_path / "answers")


def test_scores_are_lines_as_plugins_write_them(tmp_path: Path) -> None:
    write_scores(tmp_path / "scores.jsonl", {"a": 0.5, "b": 1.0})
    assert (tmp_path / "scores.jsonl").read_text() == '{"id": "a", "score": 0.5}\n{"id": "b", "score": 1.0}\n'
    assert [path.name for path in tmp_path.iterdir()] == ["scores.jsonl"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "required: command"),
        (["score"], "required: --task"),
        (["rows", "--task", "sums"], "required: --output"),
        (["rows", "--task", "sums", "--output", "x", "--limit", "0"], "--limit: must be 1 or more"),
        (["rows", "--task", "sums", "--output", "x", "--shots", "-1"], "--shots: must be 0 or more"),
    ],
)
def test_what_is_missing_is_said(capsys: pytest.CaptureFixture[str], arguments: list[str], said: str) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(arguments)
    assert said in capsys.readouterr().err


def test_files_that_are_not_there_end_in_a_sentence(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["score", "--task", "sums", "--answers", str(tmp_path / "none")]) == 1
    assert "No such file" in capsys.readouterr().err
