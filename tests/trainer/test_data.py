"""The formats, the draw of the held-out rows, and the counts that say where rows went."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.trainer.job import Job

from anneal.api.dataset import DatasetSplit, Deduplication
from anneal_trainer.prepare.chat import Message
from anneal_trainer.prepare.formats import to_messages
from anneal_trainer.prepare.split import Candidate, draw

ASKED = [Message("user", "light on"), Message("assistant", "On")]
SYSTEM = Message("system", "Answer with a word.")
ROWS: dict[str, tuple[dict[str, Any], list[Message]]] = {
    "messages": ({"messages": [m.to_json() for m in [SYSTEM, *ASKED]]}, [SYSTEM, *ASKED]),
    "prompt and completion": ({"prompt": "light on", "completion": "On"}, ASKED),
    "prompt and response": ({"prompt": "light on", "response": "On", "system": SYSTEM.content}, [SYSTEM, *ASKED]),
    "prompt and completion as messages": (
        {"prompt": [SYSTEM.to_json(), ASKED[0].to_json()], "completion": [ASKED[1].to_json()]},
        [SYSTEM, *ASKED],
    ),
    "Alpaca": ({"instruction": "light on", "input": "", "output": "On"}, ASKED),
    "Alpaca with history": (
        {"instruction": "light on", "output": "On", "history": [["hello", "Hi"]], "system": SYSTEM.content},
        [SYSTEM, Message("user", "hello"), Message("assistant", "Hi"), *ASKED],
    ),
    "ShareGPT": (
        {
            "conversations": [
                {"from": "system", "value": SYSTEM.content},
                {"from": "human", "value": "light on"},
                {"from": "gpt", "value": "On"},
            ]
        },
        [SYSTEM, *ASKED],
    ),
    "Alpaca with input": (
        {"instruction": "Say what it does.", "input": "light on", "output": "On"},
        [Message("user", "Say what it does.\n\nlight on"), ASKED[1]],
    ),
}


@pytest.mark.parametrize(("row", "expected"), ROWS.values(), ids=ROWS)
def test_every_format_becomes_messages(row: dict[str, Any], expected: list[Message]) -> None:
    assert to_messages(row, "Auto") == expected


@pytest.mark.parametrize("row", [r for r, _ in ROWS.values()], ids=ROWS)
def test_every_format_trains(job: Job, row: dict[str, Any]) -> None:
    def numbered(value: Any, n: int) -> Any:
        return json.loads(json.dumps(value).replace("light on", f"light {n} on"))

    job.rows = [numbered(row, n) for n in range(20)]
    result = job.fitted()
    assert result.outcome == "Succeeded", result.message


def test_the_system_prompt_of_the_job_goes_before_rows_that_have_none(job: Job) -> None:
    job.system_prompt = "Be brief."
    job.rows = [*job.rows, {"messages": [m.to_json() for m in [SYSTEM, *ASKED]]}]
    job.split = DatasetSplit(held_out=14)
    job.prepared()
    held_out = (job.workspace / "data" / "held-out.jsonl").read_text().splitlines()
    systems = {json.loads(line)["messages"][0]["content"] for line in held_out}
    assert "Be brief." in systems <= {"Be brief.", SYSTEM.content}


def candidates(pairs: list[tuple[str, str]]) -> list[Candidate]:
    """One a (group, category); what a row says is its group and its place among equals."""
    return [
        Candidate(index, f"{group}{category}{pairs[:index].count((group, category))}".encode(), ord(group), category)
        for index, (group, category) in enumerate(pairs)
    ]


groups_and_categories = st.lists(st.tuples(st.sampled_from("abcdefgh"), st.sampled_from("xyz")), max_size=40)


@settings(deadline=None)
@given(pairs=groups_and_categories, held_out=st.integers(0, 20), seed=st.integers(0, 3))
def test_no_group_is_on_both_sides(pairs: list[tuple[str, str]], held_out: int, seed: int) -> None:
    rows = candidates(pairs)
    split = draw(rows, held_out, seed)
    assert sorted(split.train + split.held_out) == list(range(len(rows)))
    assert len(split.held_out) <= held_out
    assert not {rows[i].group for i in split.train} & {rows[i].group for i in split.held_out}


@settings(deadline=None)
@given(pairs=groups_and_categories, order=st.randoms(use_true_random=False), seed=st.integers(0, 3))
def test_the_draw_depends_on_what_rows_say_and_not_on_their_order(
    pairs: list[tuple[str, str]], order: Any, seed: int
) -> None:
    def drawn(rows: list[Candidate]) -> tuple[list[bytes], list[bytes]]:
        key = {row.index: row.key for row in rows}
        split = draw(rows, 5, seed)
        return [key[i] for i in split.train], [key[i] for i in split.held_out]

    rows = candidates(pairs)
    shuffled = rows[:]
    order.shuffle(shuffled)
    assert drawn(shuffled) == drawn(rows)


def test_another_seed_draws_other_rows() -> None:
    rows = [Candidate(i, str(i).encode(), i) for i in range(100)]
    first, second = (set(draw(rows, 20, seed).held_out) for seed in (1, 2))
    assert len(first) == len(second) == 20
    assert len(first & second) < 15


def test_the_draw_keeps_the_shares_of_categories() -> None:
    rows = [Candidate(i, str(i).encode(), i, "rare" if i % 10 == 0 else "usual") for i in range(1000)]
    drawn = draw(rows, 50, 0).held_out
    assert (len(drawn), sum(i % 10 == 0 for i in drawn)) == (50, 5)


def test_a_draw_by_row_would_leak_what_the_draw_by_group_keeps_together() -> None:
    rows = candidates([("a", "")] * 10 + [("b", "")] * 10)
    by_row = draw([Candidate(r.index, r.key, r.index) for r in rows], 10, 0)
    assert {rows[i].group for i in by_row.train} & {rows[i].group for i in by_row.held_out}
    by_group = draw(rows, 10, 0)
    assert len(by_group.held_out) == 10
    assert not {rows[i].group for i in by_group.train} & {rows[i].group for i in by_group.held_out}


def test_repeated_rows_can_be_kept_and_have_ids_of_their_own(job: Job) -> None:
    job.deduplication = Deduplication(exact="Keep")
    job.rows = [{"prompt": "same", "completion": "On"}] * 3 + job.rows[:12]
    for seed in range(20):  # until the repeated prompt is among those held out
        job.split = DatasetSplit(held_out=5, seed=seed)
        prepared = job.prepared()
        lines = (job.workspace / "data" / "held-out.jsonl").read_text().splitlines()
        rows = [json.loads(line) for line in lines]
        same = [r for r in rows if r["messages"][-1]["content"] == "same"]
        if same:
            break
    assert len(same) == 3
    assert len({r["id"] for r in rows}) == len(rows) == prepared.dataset.counts.held_out
    report = json.loads((job.workspace / "data" / "report.json").read_text())
    assert report["heldOutPrompts"] == len(rows) - 2
