"""Rows that cannot be trusted or read are refused with the line and what is wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from anneal.api.artifacts import digest_of_bytes
from anneal.api.runs import MountedPath
from anneal_evaluator.errors import EvaluationError
from anneal_evaluator.held_out import HeldOutRow, groups_of, read_held_out

GOOD = '{"id": "1", "messages": [{"role": "user", "content": "a"}], "reference": "b"}\n'


def read(path: Path, content: str) -> list[str]:
    path.write_text(content, encoding="utf-8")
    rows = read_held_out(MountedPath(uri="pvc://m/h.jsonl", path=str(path)), digest_of_bytes(content.encode()))
    return [row.id for row in rows]


def test_rows_keep_their_order(tmp_path: Path) -> None:
    assert read(tmp_path / "h", GOOD + "\n" + GOOD.replace('"1"', '"0"').replace('"a"', '"a\u2028b"')) == ["1", "0"]


@pytest.mark.parametrize(
    ("content", "reason", "sentence"),
    [
        ("", "HeldOutEmpty", "holds no rows"),
        ("\n\n", "HeldOutEmpty", "dataset.split.heldOut"),
        (GOOD + "{\n", "HeldOutInvalid", "Line 2 of pvc://m/h.jsonl"),
        (GOOD.replace('"reference": "b"', '"x": 1'), "HeldOutInvalid", "Line 1 of pvc://m/h.jsonl: reference"),
        (GOOD.replace('"content": "a"', '"content": 5'), "HeldOutInvalid", "messages.0.content"),
        (GOOD + GOOD, "HeldOutInvalid", "occurs twice"),
    ],
)
def test_bad_files(tmp_path: Path, content: str, reason: str, sentence: str) -> None:
    with pytest.raises(EvaluationError, match=sentence) as caught:
        read(tmp_path / "h", content)
    assert (caught.value.reason, caught.value.retryable) == (reason, False)


def test_a_changed_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "h").write_text(GOOD)
    with pytest.raises(EvaluationError, match="are not those that were recorded") as caught:
        read_held_out(MountedPath(uri="pvc://m/h.jsonl", path=str(tmp_path / "h")), digest_of_bytes(b"before"))
    assert caught.value.reason == "DigestMismatch"


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(EvaluationError, match="do not exist"):
        read_held_out(MountedPath(uri="pvc://m/h.jsonl", path=str(tmp_path / "h")), digest_of_bytes(b""))


def test_rows_belong_together_by_their_group_and_else_stand_alone() -> None:
    given = [("a", "doc"), ("b", None), ("doc", None), ("c", "doc"), ("d", "b")]
    rows = [
        HeldOutRow.model_validate(
            {"id": id_, "messages": [{"role": "user", "content": "?"}], "reference": "", "group": group}
        )
        for id_, group in given
    ]
    assert groups_of(rows).tolist() == [0, 1, 2, 0, 3], "a row named like a group is not in it"
