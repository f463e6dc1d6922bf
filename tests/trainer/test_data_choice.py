"""Which rows are used: repeats, conflicts, near duplicates, the held-out side, balance and leaks.

Each test of a known trap also shows that the naive way falls into it.
"""

from __future__ import annotations

import json
import random
import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.trainer.job import Job, prompt_rows
from tests.trainer.test_bad_input import refused

from anneal.api.dataset import Balance, ComparedFile, DatasetSplit, DatasetStatus, Deduplication, LeakCheck, RowCount
from anneal.api.runs import MAX_RESULT_BYTES, encode_result
from anneal_trainer.prepare import leaks, similar
from anneal_trainer.prepare.run import fitting
from anneal_trainer.prepare.words import Dialogues, runs

WORDS = ["the", "a", "of", "to", "and", "in", "is", "it", "you", "that", "he", "was", "for", "on", "are", "with"]


def sentence(source: random.Random, words: int) -> str:
    return " ".join(source.choice(WORDS) + str(source.randint(0, 50)) for _ in range(words))


def row(prompt: str, completion: str = "On", **more: Any) -> dict[str, Any]:
    return {"prompt": prompt, "completion": completion, **more}


def different(count: int, words: int = 12) -> list[dict[str, Any]]:
    """Rows that have nothing in common."""
    source = random.Random(5)
    return [row(sentence(source, words)) for _ in range(count)]


def data(job: Job) -> DatasetStatus:
    return job.prepared().dataset


def as_dict(counted: list[RowCount] | None) -> dict[str, int]:
    return {found.reason: found.rows for found in counted or ()}


def held_out(job: Job) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (job.workspace / "data" / "held-out.jsonl").read_text().splitlines()]


def held_out_prompts(job: Job) -> list[str]:
    return [line["messages"][-1]["content"] for line in held_out(job)]


def rejected(job: Job) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (job.workspace / "data" / "rejected.jsonl").read_text().splitlines()]


def dialogues(texts: list[str]) -> Dialogues:
    words = Dialogues()
    for text in texts:
        words.add(text, "")
    return words


# --- repeats ---------------------------------------------------------------------------------------------------


def test_a_repeated_row_is_dropped_and_named_with_its_first(job: Job) -> None:
    job.rows = [*prompt_rows(24), prompt_rows(24)[3]]
    assert as_dict(data(job).left_out) == {"Duplicate": 1}
    assert rejected(job) == [
        {
            "source": "pvc://hub/rows.jsonl",
            "line": 25,
            "reason": "Duplicate",
            "message": "the same as line 4 of pvc://hub/rows.jsonl",
        }
    ]


def test_all_rows_the_same_is_one_row(job: Job) -> None:
    job.rows = [row("light on")] * 500
    refused(job.do(job.prepare_run()), "TooFewExamples", "only 1 valid rows (499 left out as Duplicate)")


def test_letters_that_look_the_same_are_the_same(job: Job) -> None:
    """Unicode has two ways to write é; compared by code points, the rows are two."""
    composed, decomposed = "caf\u00e9 on", "cafe\u0301 on"
    assert composed != decomposed
    job.rows = [*prompt_rows(24), row(composed), row(decomposed)]
    assert as_dict(data(job).left_out) == {"Duplicate": 1}


@pytest.mark.parametrize(
    ("policy", "left_out", "flagged"), [("Keep", {}, {"Conflict": 2}), ("Drop", {"Conflict": 2}, {})]
)
def test_one_question_with_two_answers_is_a_conflict(
    job: Job, policy: Any, left_out: dict[str, int], flagged: dict[str, int]
) -> None:
    job.rows = [*prompt_rows(24), row("which is it", "this"), row("which is it", "that")]
    job.deduplication = Deduplication(conflicts=policy)
    found = data(job)
    assert (as_dict(found.left_out), as_dict(found.flagged)) == (left_out, flagged)
    report = json.loads((job.workspace / "data" / "report.json").read_text())
    assert report["conflicts"] == [["line 25 of pvc://hub/rows.jsonl", "line 26 of pvc://hub/rows.jsonl"]]


def test_conflicts_can_stop_the_job(job: Job) -> None:
    job.rows = [*prompt_rows(24), row("which is it", "this"), row("which is it", "that")]
    job.deduplication = Deduplication(conflicts="Fail")
    refused(
        job.do(job.prepare_run()), "ConflictingRows", "1 prompts have different answers, the first one in line 25 of"
    )


# --- near duplicates -------------------------------------------------------------------------------------------


def brute_force(texts: list[str], threshold: float) -> set[tuple[int, int]]:
    sets = []
    for text in texts:
        words = re.findall(r"\w+", text.casefold())
        sets.append({tuple(words[i : i + 3]) for i in range(max(1, len(words) - 2))})
    return {
        (i, j)
        for j in range(len(sets))
        for i in range(j)
        if len(sets[i] & sets[j]) >= threshold * len(sets[i] | sets[j]) - 1e-9
    }


def found_pairs(texts: list[str], threshold: float) -> set[tuple[int, int]]:
    first, second = similar.pairs(runs(dialogues(texts).questions, 3), threshold, lambda: None)
    return set(zip(first.tolist(), second.tolist(), strict=True))


@settings(deadline=None, max_examples=60)
@given(
    texts=st.lists(st.lists(st.sampled_from("abcd"), max_size=9).map(" ".join), max_size=14),
    threshold=st.sampled_from([0.3, 0.5, 0.8, 1.0]),
)
def test_all_pairs_that_are_alike_are_found_and_no_others(texts: list[str], threshold: float) -> None:
    assert found_pairs(texts, threshold) == brute_force(texts, threshold)


def test_pairs_are_found_across_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    source = random.Random(3)
    texts = [sentence(source, 10) for _ in range(60)]
    texts += [" ".join(text.split()[:-1]) for text in texts]
    expected = brute_force(texts, 0.7)
    monkeypatch.setattr("anneal_trainer.prepare.similar._BLOCK", 7)
    assert found_pairs(texts, 0.7) == expected
    assert len(expected) == 60


def test_short_rows_are_compared_like_all_others() -> None:
    """Where a row needs five words to have a signature at all, these have none, and are never found."""
    texts = ["Lamp on!", "lamp on", "lamp off", "点灯", "点灯。", "開灯"]
    assert all(len(re.findall(r"\w+", text)) < 5 for text in texts)
    assert found_pairs(texts, 0.8) == {(0, 1), (3, 4)}


def test_numbers_tell_rows_apart(job: Job) -> None:
    """Where every number is written as 0, these two are one; in words they are as near as near duplicates get."""
    before, after = sentence(random.Random(1), 20), sentence(random.Random(2), 20)
    texts = [f"{before} refund {n} euros to the customer {after}" for n in (10, 500)]
    assert len({re.sub(r"\d+", "0", text) for text in texts}) == 1
    assert found_pairs(texts, 0.8) == {(0, 1)}
    job.training = job.training.model_copy(update={"max_length": 2048})
    job.rows = [*different(20, 5), row("a b c d e f g h i j 10 k"), row("a b c d e f g h i j 500 k")]
    job.deduplication = Deduplication(near="Drop", threshold="0.5")
    assert data(job).left_out is None


def test_rows_that_differ_in_their_answer_are_no_duplicates(job: Job) -> None:
    """Compared by prompt, or by prompt and answer as one text, the border between two answers would be lost."""
    prompt = "please turn the big lamp in the hall upstairs quickly"
    job.rows = [*different(20, 5), row(f"{prompt} on", "TurnOn"), row(f"{prompt} off", "TurnOff")]
    job.deduplication = Deduplication(near="Drop", threshold="0.7")
    assert data(job).left_out is None
    job.rows[-1] = row(f"{prompt} now", "TurnOn")
    assert as_dict(data(job).left_out) == {"NearDuplicate": 1}
    assert rejected(job)[0]["message"] == "much like line 21 of pvc://hub/rows.jsonl"


def test_a_chain_of_near_duplicates_is_not_eaten_whole(job: Job) -> None:
    """Each is alike to the next, the first and the last are not: only rows alike to one that stays are dropped."""
    words = sentence(random.Random(2), 12).split()
    chain = [" ".join([*words[i:], *(f"x{n}" for n in range(i))]) for i in range(10)]
    pairs = found_pairs(chain, 0.8)
    assert {(i, i + 1) for i in range(9)} <= pairs
    assert (0, 9) not in pairs
    job.rows = [*different(20, 5), *map(row, chain)]
    job.training = job.training.model_copy(update={"max_length": 2048})
    job.deduplication = Deduplication(near="Drop", threshold="0.8")
    left_out = as_dict(data(job).left_out)["NearDuplicate"]
    assert 0 < left_out < 9


@pytest.mark.parametrize("beginning", ["system", "instruction"])
def test_what_all_rows_share_does_not_make_them_alike(job: Job, beginning: str) -> None:
    """Counted in, one system prompt or one instruction of twenty words makes near duplicates of all rows."""
    shared = sentence(random.Random(0), 12)
    own = [sentence(random.Random(i), 3) for i in range(1, 61)]
    assert len(brute_force([f"{shared} {text}" for text in own], 0.6)) > 1000
    job.training = job.training.model_copy(update={"max_length": 2048})
    if beginning == "system":
        job.rows = [row(text, system=shared) for text in own]
    else:
        job.rows = [row(f"{shared} {text}") for text in own]
    job.deduplication = Deduplication(near="Drop", threshold="0.6")
    found = data(job)
    assert (found.left_out, found.counts.train, found.counts.held_out) == (None, 54, 6)


# --- the held-out side -----------------------------------------------------------------------------------------


def test_near_duplicates_are_held_out_together_or_not_at_all(job: Job) -> None:
    texts = different(40, 10)
    job.rows = [*texts, *(row(r["prompt"] + " too") for r in texts)]
    job.split = DatasetSplit(held_out=20)
    for near, together in (("Group", 10), ("Ignore", None)):
        job.deduplication = Deduplication(near=near)
        job.leak_check = LeakCheck(threshold="1")
        data(job)
        stems = [prompt.removesuffix(" too") for prompt in held_out_prompts(job)]
        assert len(stems) == 20
        assert (len(set(stems)) == together) == (together is not None)


def test_groups_stay_together(job: Job) -> None:
    job.rows = [{**r, "customer": {"id": i // 4}} for i, r in enumerate(different(40))]
    job.split = DatasetSplit(held_out=12, group_by="customer.id")
    data(job)
    by_prompt = {r["prompt"]: r["customer"]["id"] for r in job.rows}
    held_out = [by_prompt[p] for p in held_out_prompts(job)]
    assert sorted(held_out.count(c) for c in set(held_out)) == [4, 4, 4]


def test_held_out_rows_say_what_they_are_about_and_what_they_belong_to(job: Job) -> None:
    """The Evaluation scores by category, and takes rows of one group for one piece of evidence."""
    job.rows = [{**r, "intent": "usual", "customer": f"c{i // 4}"} for i, r in enumerate(different(40))]
    job.category, job.split = "intent", DatasetSplit(held_out=12, group_by="customer")
    data(job)
    by_prompt = {r["prompt"]: r["customer"] for r in job.rows}
    for line in held_out(job):
        assert (line["category"], line["group"]) == ("usual", by_prompt[line["messages"][-1]["content"]])
    job.category, job.split = None, DatasetSplit(held_out=12)
    data(job)
    assert not any({"category", "group"} & set(line) for line in held_out(job))


def test_categories_are_counted_and_keep_their_shares(job: Job) -> None:
    job.rows = [{**r, "intent": "rare" if i % 5 == 0 else "usual"} for i, r in enumerate(different(50))]
    job.category, job.split = "intent", DatasetSplit(held_out=10)
    found = data(job).categories
    assert found is not None
    assert [(c.name, c.train, c.held_out) for c in found] == [("usual", 32, 8), ("rare", 8, 2)]


def test_one_category_is_no_problem(job: Job) -> None:
    job.rows = [{**r, "intent": "all"} for r in different(50)]
    job.category, job.balance = "intent", Balance()
    assert data(job).counts.train == 44


def test_a_category_that_rows_lack_is_named(job: Job) -> None:
    job.category = "intent"
    refused(job.do(job.prepare_run()), "InvalidRows", 'no value in "intent", which dataset.category names')


def test_a_group_of_everything_can_not_be_split(job: Job) -> None:
    job.rows = [row("tell me a story", f"story {i}") for i in range(40)]
    refused(job.do(job.prepare_run()), "NothingHeldOut", "rows that belong together")


@pytest.mark.parametrize(
    ("balance", "train", "left_out"),
    [
        (Balance(strategy="Downsample", max_ratio=2), {"many": 18, "few": 9}, {"Balance": 27}),
        (Balance(strategy="Upsample", max_ratio=2), {"many": 45, "few": 23}, {}),
        (Balance(strategy="Upsample", max_ratio=1), {"many": 45, "few": 27}, {}),
    ],
)
def test_training_rows_are_evened_and_held_out_rows_are_not(
    job: Job, balance: Balance, train: dict[str, int], left_out: dict[str, int]
) -> None:
    job.rows = [{**r, "kind": "few" if i % 6 == 0 else "many"} for i, r in enumerate(different(60))]
    job.category, job.balance = "kind", balance
    found = data(job)
    assert {c.name: c.train for c in found.categories or ()} == train
    assert {c.name: c.held_out for c in found.categories or ()} == {"many": 5, "few": 1}
    assert as_dict(found.left_out) == left_out
    assert found.counts.train == sum(train.values())


# --- leaks -----------------------------------------------------------------------------------------------------


def test_planted_copies_are_all_found_and_nothing_else() -> None:
    source = random.Random(11)
    test = [sentence(source, 12) for _ in range(100)]
    train = [sentence(source, 12) for _ in range(900)]
    copies = [
        (f"{text} now" if i % 2 else f"{sentence(source, 40)} {text} {sentence(source, 40)}")
        for i, text in enumerate(test)
    ]
    jaccard_alone = brute_force([test[0], copies[0]], 0.8)
    assert not jaccard_alone  # a question inside of a longer text is not much like that text
    words = dialogues([*train, *copies, *test])
    found = leaks.find(words, runs(words.questions, 3), range(1000), range(1000, 1100), 0.8)
    assert found == {900 + i: 1000 + i for i in range(100)}


def test_a_held_out_file_that_is_the_training_set_is_refused(job: Job) -> None:
    job.held_out_rows = job.rows
    job.split = DatasetSplit()
    refused(job.do(job.prepare_run()), "HeldOutLeaked", "all 24 training rows give held-out rows away: line")


def test_a_held_out_file_is_used_whole_and_what_it_leaks_is_dropped(job: Job) -> None:
    job.rows = different(30)
    test = [row(sentence(random.Random(i), 9)) for i in range(100, 108)]
    job.held_out_rows = [*test, {**job.rows[4], "completion": "Off"}]
    job.split = DatasetSplit()
    found = data(job)
    assert (found.counts.train, found.counts.held_out, as_dict(found.left_out)) == (29, 9, {"Leak": 1})
    assert rejected(job)[0] == {
        "source": "pvc://hub/rows.jsonl",
        "line": 5,
        "reason": "Leak",
        "message": "gives away the held-out line 9 of pvc://hub/held-out.jsonl",
    }
    assert sorted(held_out_prompts(job)) == sorted(r["prompt"] for r in job.held_out_rows)
    job.leak_check = LeakCheck(policy="Fail")
    refused(job.do(job.prepare_run()), "HeldOutLeaked", "1 training rows give held-out rows away: line 5 of")


def test_what_plugins_need_to_score_goes_with_the_rows_of_a_held_out_file_alone(job: Job) -> None:
    told = {"task": "sums", "doc": {"question": "é", "parts": [1, None, {"a": ""}]}}
    job.rows = [{**r, "scoring": told} for r in different(30)]
    job.held_out_rows = [row(sentence(random.Random(i), 9)) for i in range(100, 108)]
    job.held_out_rows[0]["scoring"] = told
    job.split = DatasetSplit()
    data(job)
    by_prompt = {line["messages"][-1]["content"]: line for line in held_out(job)}
    assert by_prompt[job.held_out_rows[0]["prompt"]]["scoring"] == told
    assert ["scoring" in line for line in by_prompt.values()].count(True) == 1
    job.held_out_rows[1]["scoring"] = "strict"
    refused(
        job.do(job.prepare_run()),
        "InvalidRows",
        'line 2 of pvc://hub/held-out.jsonl: its "scoring", which plugins are handed, is no object',
    )


def test_an_empty_held_out_file_is_named(job: Job) -> None:
    job.held_out_rows, job.split = [], DatasetSplit()
    refused(
        job.do(job.prepare_run()), "EmptyDataset", "the held-out file is empty: no rows in pvc://hub/held-out.jsonl"
    )


# --- custody ---------------------------------------------------------------------------------------------------


def test_every_row_is_accounted_for(job: Job) -> None:
    texts = different(60)
    job.rows = [*texts, *texts[:7], *(row(r["prompt"] + " too") for r in texts[:5])]
    job.deduplication = Deduplication(near="Drop")
    found = data(job)
    left_out = as_dict(found.left_out)
    assert left_out == {"Duplicate": 7, "NearDuplicate": 5}
    counts = found.counts
    assert counts.read == counts.invalid + counts.train + counts.held_out + sum(left_out.values()) == len(job.rows)
    assert [r["line"] for r in rejected(job)] == list(range(61, 73))


def test_preparing_twice_gives_the_same_bytes(job: Job) -> None:
    job.rows = [{**r, "kind": i % 3} for i, r in enumerate(different(40))]
    job.category, job.balance = "kind", Balance(max_ratio=1)

    def files() -> dict[str, bytes]:
        data(job)
        return {p.name: p.read_bytes() for p in (job.workspace / "data").iterdir()}

    first = files()
    assert files() == first
    assert sorted(first) == [
        "chat_template.jinja",
        "held-out.jsonl",
        "rejected.jsonl",
        "report.json",
        "train.safetensors",
    ]


def test_a_status_with_everything_in_it_fits_the_termination_message_beside_the_shape_of_a_model(job: Job) -> None:
    job.rows = [{**r, "kind": "ä" * 40 + str(i)} for i, r in enumerate(different(40))]
    job.rows += [*prompt_rows(3), row("which is it", "this", kind="x"), row("which is it", "a@b.cd", kind="x")]
    job.rows = [{"kind": "é" * 40, **r} for r in job.rows]
    job.category = "kind"
    prepared = job.prepared()
    dataset = prepared.dataset
    rows = 10_000_000
    full = dataset.model_copy(
        update={
            "sources": [s.model_copy(update={"detected": "x" * 96, "rows": rows}) for s in (dataset.sources or []) * 4],
            "left_out": [RowCount(reason="NearDuplicate", rows=rows)] * 7,
            "compared": [ComparedFile(digest=dataset.digest, rows=rows, leaks=rows)] * 4,
            "flagged": [RowCount(reason="PersonalData", rows=rows)] * 4,
        }
    )
    assert dataset.categories is not None
    assert len(dataset.categories) == 6
    assert all(len(c.name.encode()) <= 24 for c in dataset.categories)
    DatasetStatus.model_validate(full.to_json())
    assert len(full.model_dump_json(by_alias=True, exclude_none=True).encode()) < 2200


def test_what_does_not_fit_is_spared_before_what_is_needed(job: Job) -> None:
    job.rows = [{**r, "kind": str(i % 3)} for i, r in enumerate(different(40))]
    job.category = "kind"
    result = job.do(job.prepare_run())
    assert result.prepare is not None
    assert fitting(result) == result
    used = len(result.model_dump_json(by_alias=True, exclude_none=True).encode())
    filled = "a" * (MAX_RESULT_BYTES + 60 - used)  # too many even without the message
    resolved = result.prepare.resolved.model_copy(update={"sources": [*result.prepare.resolved.sources, filled]})
    crowded = result.model_copy(
        update={"message": "", "prepare": result.prepare.model_copy(update={"resolved": resolved})}
    )
    with pytest.raises(ValueError, match="does not fit"):
        encode_result(crowded)
    spared = fitting(crowded).prepare
    assert spared is not None
    assert spared.dataset.categories is None
    assert len(encode_result(fitting(crowded))) <= MAX_RESULT_BYTES
    assert spared.dataset.counts == result.prepare.dataset.counts
    assert spared.dataset.sources == result.prepare.dataset.sources
