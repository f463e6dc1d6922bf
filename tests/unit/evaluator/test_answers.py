"""Answers survive crashes, and are never taken for those of another question."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.unit.evaluator.builders import answered, evaluate_run

from anneal.api.artifacts import digest_of_bytes
from anneal_evaluator.held_out import HeldOutRow
from anneal_evaluator.respond import question_key
from anneal_hosted.answers import AnswerFile

ROW = HeldOutRow.model_validate({"id": "r", "messages": [{"role": "user", "content": "a"}], "reference": "b"})


def test_answers_are_there_after_a_restart(tmp_path: Path) -> None:
    path = tmp_path / "responses.jsonl"
    AnswerFile(path).append(one := answered("a", "größer\n"))
    assert AnswerFile(path)[one.key] == one


def test_a_torn_line_is_cut_off_and_the_next_answer_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "responses.jsonl"
    AnswerFile(path).append(one := answered("a"))
    with path.open("ab") as stream:
        stream.write(b'{"key": "sha')
    again = AnswerFile(path)
    again.append(two := answered("b"))
    assert AnswerFile(path)[one.key] == one
    assert AnswerFile(path)[two.key] == two


@pytest.mark.parametrize("length", range(0, 120, 7))
def test_any_prefix_of_the_file_is_a_good_file(tmp_path: Path, length: int) -> None:
    path = tmp_path / "responses.jsonl"
    file = AnswerFile(path)
    for name in "ab":
        file.append(answered(name))
    path.write_bytes(path.read_bytes()[:length])
    AnswerFile(path).append(three := answered("c"))
    assert AnswerFile(path)[three.key] == three
    assert path.read_bytes().endswith(b"\n")


@pytest.mark.parametrize(
    ("outcome", "again"),
    [
        ("answered", False),
        ("truncated", False),
        ("rejected", False),
        ("declined", False),
        ("empty", False),
        ("unreadable", False),
        ("timedOut", True),
    ],
)
def test_only_what_could_go_better_is_asked_again(tmp_path: Path, outcome: str, again: bool) -> None:
    file = AnswerFile(tmp_path / "responses.jsonl")
    file.append(one := answered("a", outcome=outcome))
    assert file.has(one.key) is not again
    assert not file.has(digest_of_bytes(b"never asked"))


def test_the_last_answer_counts_and_compacting_drops_the_rest(tmp_path: Path) -> None:
    file = AnswerFile(path := tmp_path / "responses.jsonl")
    late, other = answered("a", outcome="timedOut"), answered("stale")
    for answer in (late, other, final := answered("a", "yes")):
        file.append(answer)
    file.compact([final.key])
    assert path.read_bytes().count(b"\n") == 1
    assert AnswerFile(path)[final.key] == final


@pytest.mark.parametrize(
    "change",
    [
        {"candidateDigest": digest_of_bytes(b"another artifact")},
        {"generation": {"maxTokens": 33}},
    ],
)
def test_what_decides_an_answer_is_in_its_key(change: dict[str, object]) -> None:
    """A cache without the model in its key gives every model the answers of the first."""
    runs = (evaluate_run(), evaluate_run(**change))
    keys = {
        question_key(run, model, ROW, "triton 2.51.0", run.generation.max_tokens) for run in runs for model in (0, 1)
    }
    assert len(keys) == 4


def test_an_incumbent_answers_under_its_own_digest() -> None:
    """What a deployment serves is another model each time, though the baseline's name stays."""
    incumbent = [{"name": "champion", "incumbent": {"modelDeploymentRef": {"name": "intents"}}}]
    runs = [
        evaluate_run(baselines=incumbent, incumbents={"champion": digest_of_bytes(text)}) for text in (b"one", b"two")
    ]
    assert len({question_key(run, 1, ROW, "triton", 32) for run in (*runs, evaluate_run())}) == 3


def test_server_and_messages_are_in_the_key() -> None:
    run = evaluate_run()
    other_row = ROW.model_copy(update={"messages": [ROW.messages[0].model_copy(update={"content": "changed"})]})
    asked = [(ROW, "triton 2"), (ROW, "triton 3"), (other_row, "triton 2")]
    assert len({question_key(run, 0, row, server, 32) for row, server in asked}) == 3


def test_how_many_are_asked_at_once_is_not_in_the_key() -> None:
    one, many = evaluate_run(generation={"concurrency": 1}), evaluate_run(generation={"concurrency": 9})
    assert question_key(one, 0, ROW, "t", 32) == question_key(many, 0, ROW, "t", 32)
