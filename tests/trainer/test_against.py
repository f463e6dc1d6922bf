"""Files that must not be in what is trained on: what leaks into them is found, and nothing else changes by them."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest
from tests.support.hosted_models import hosted_models
from tests.trainer.job import Job
from tests.trainer.test_augment import diligent, is_generator, wanting, wrote
from tests.trainer.test_bad_input import refused
from tests.trainer.test_data_choice import as_dict, data, different, rejected, row, sentence

from anneal.api.artifacts import digest_of_file
from anneal.api.dataset import Balance, Cleaning, Columns, ComparedFile, DatasetSplit, Deduplication, LeakCheck
from anneal.api.runs import MAX_RESULT_BYTES, SourceInput, encode_result
from anneal_trainer.prepare import leaks
from anneal_trainer.prepare.run import fitting
from anneal_trainer.prepare.words import Dialogues, runs

SEALED = "sealed.jsonl"


def sealed(number: int, question: str) -> dict[str, Any]:
    """A row as an Evaluation reads it: the answer is not among the messages."""
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": question}]
    return {"id": str(number), "messages": messages, "reference": "On", "category": "lamps"}


def others(count: int) -> list[dict[str, Any]]:
    """Sealed rows that have nothing in common with any row here."""
    source = random.Random(77)
    return [sealed(i, sentence(source, 12)) for i in range(count)]


def written(job: Job) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in (job.workspace / "data").iterdir()}


@pytest.fixture
def job(base: Path, tmp_path: Path) -> Job:
    """Forty rows that have nothing in common, of which six are held out."""
    return Job(base, tmp_path, rows=different(40, 10), split=DatasetSplit(held_out=6))


def trained_on(job: Job) -> list[str]:
    """Prompts of rows that are trained on, found by sealing nothing of them."""
    data(job)
    lines = (job.workspace / "data" / "held-out.jsonl").read_text().splitlines()
    away = {json.loads(line)["messages"][-1]["content"] for line in lines}
    return [r["prompt"] for r in job.rows if r["prompt"] not in away]


def test_rows_that_are_sealed_are_not_trained_on_and_the_file_is_told_by_its_digest(job: Job) -> None:
    copy, inside = trained_on(job)[0], sentence(random.Random(2), 9)
    job.rows += [row(f"{sentence(random.Random(1), 4)} {inside} and then")]
    numbers = {r["prompt"]: n for n, r in enumerate(job.rows, start=1)}
    job.split = DatasetSplit(held_out=0)
    job.sealed = {SEALED: [*others(5), sealed(5, copy), sealed(6, inside)]}
    found = data(job)
    assert as_dict(found.left_out) == {"LeakAgainst": 2}
    assert (found.counts.train, found.counts.read) == (39, 41), "rows of the file are rows of no dataset"
    digest = digest_of_file(job.root / SEALED)
    assert found.compared == [ComparedFile(digest=digest, rows=7, leaks=2)]
    assert {(r["line"], r["reason"], r["message"]) for r in rejected(job)} == {
        (numbers[copy], "LeakAgainst", f"gives away line 6 of pvc://vault/{SEALED}"),
        (41, "LeakAgainst", f"gives away line 7 of pvc://vault/{SEALED}"),
    }
    report = json.loads((job.workspace / "data" / "report.json").read_text())
    assert report["against"] == [f"pvc://vault/{SEALED}"]
    assert report["dataset"]["compared"] == [{"digest": digest, "rows": 7, "leaks": 2}]


def test_nothing_of_the_file_is_written_and_no_other_decision_depends_on_it(job: Job) -> None:
    """Sealed rows much like each other, and like held-out rows, change neither the split nor a byte of the rows."""
    before = data(job)
    files = written(job)
    held_out = [json.loads(line) for line in files["held-out.jsonl"].splitlines()]
    alike = [sealed(i, line["messages"][-1]["content"] + " too") for i, line in enumerate(held_out)]
    job.sealed = {SEALED: [*alike, *others(300)]}
    after = data(job)
    again = written(job)
    assert (after.digest, after.test_digest, after.left_out) == (before.digest, before.test_digest, None)
    changed = {name for name in {*files, *again} if files.get(name) != again.get(name)}
    assert changed == {"report.json"}
    quoted = job.sealed[SEALED][20]["messages"][-1]["content"]
    assert not any(quoted.encode() in content for content in again.values())


def test_without_such_files_the_report_is_what_it_was(job: Job) -> None:
    assert data(job).compared is None
    assert "against" not in json.loads((job.workspace / "data" / "report.json").read_text())


def test_leaks_fail_the_job_where_leaks_do(job: Job) -> None:
    job.sealed = {SEALED: [*others(3), sealed(3, trained_on(job)[0])]}
    job.leak_check = LeakCheck(policy="Fail")
    result = job.do(job.prepare_run())
    refused(result, "AgainstLeaked", "1 training rows give rows of dataset.leakCheck.against away: line")
    example = f"is much like line 4 of pvc://vault/{SEALED}. Take them out, or set dataset.leakCheck.policy to Drop"
    assert example in result.message


def test_a_file_that_is_the_training_set_is_refused(job: Job) -> None:
    job.sealed = {"rows.jsonl": job.rows}
    result = job.do(job.prepare_run())
    refused(result, "AgainstLeaked", "all 34 training rows give rows of dataset.leakCheck.against away")
    assert result.message.endswith("None is left to train on")


def test_each_file_is_counted_by_itself_in_any_format_of_sources(job: Job) -> None:
    first, second, third, *_ = trained_on(job)
    job.sealed = {
        "a.jsonl": [row(first), {"instruction": second, "input": "", "output": "On"}],
        "b.csv": ["prompt,completion", f"{first},On"],
        "c.jsonl": [{"messages": [{"role": "user", "content": third}, {"role": "assistant", "content": "On"}]}],
        "d.jsonl": [{"q": sentence(random.Random(9), 12), "a": "B"}],
    }
    run = job.prepare_run()
    run.against[3] = run.against[3].model_copy(update={"columns": Columns(prompt="q", completion="a")})
    result = job.do(run)
    assert result.prepare is not None, result.message
    found = result.prepare.dataset
    assert [(f.rows, f.leaks) for f in found.compared or ()] == [(2, 2), (1, 1), (1, 1), (1, 0)]
    assert as_dict(found.left_out) == {"LeakAgainst": 3}
    assert {r["message"] for r in rejected(job)} >= {"gives away line 1 of pvc://vault/a.jsonl"}, "the first file"


def test_texts_are_compared_as_they_are_cleaned(job: Job) -> None:
    """Where letters are composed in the rows alone, and addresses are redacted in them alone, these are two texts."""
    job.rows.append(row("please write to anna@example.com about the cafe\u0301 in the hall"))
    job.split = DatasetSplit(held_out=0)
    job.cleaning = Cleaning(personal_data="Redact")
    job.sealed = {SEALED: [sealed(1, "please write to berta@example.com about the caf\u00e9 in the hall")]}
    assert as_dict(data(job).left_out) == {"LeakAgainst": 1}


def test_a_sealed_row_may_hold_what_no_training_row_may(job: Job) -> None:
    job.sealed = {SEALED: [sealed(1, "is ghp_" + "a1B2" * 9 + " a key?")]}
    assert data(job).compared is not None


def test_upsampled_rows_leak_once_and_go_wholly(job: Job) -> None:
    job.rows = [{**r, "kind": "few" if i < 4 else "many"} for i, r in enumerate(job.rows)]
    job.category, job.balance, job.split = "kind", Balance(strategy="Upsample", max_ratio=4), DatasetSplit(held_out=0)
    job.sealed = {SEALED: [sealed(1, job.rows[0]["prompt"])]}
    found = data(job)
    assert as_dict(found.left_out) == {"LeakAgainst": 1}
    counted = {c.name: c.train for c in found.categories or ()}
    assert (counted["many"], counted["few"] < 9) == (36, True), "nine of it were to be, two or three of them of the row"


@pytest.mark.parametrize(
    ("content", "reason", "said"),
    [
        ([], "EmptyDataset", f"nothing can be compared with pvc://vault/{SEALED}, which dataset.leakCheck.against"),
        (["{"], "InvalidRows", f"training rows cannot be compared with line 1 of pvc://vault/{SEALED}, which"),
        (
            [sealed(1, "on"), {"question": "on?", "choices": ["A"]}],
            "InvalidRows",
            f"line 2 of pvc://vault/{SEALED}, which dataset.leakCheck.against names: unknown shape: it has question",
        ),
        ([sealed(1, " ")], "InvalidRows", "it has no question. Correct it or take it out"),
        ([{"messages": []}], "InvalidRows", "it has no question"),
        ([{"messages": [{"role": "user"}]}], "InvalidRows", "the content of message 1 is null, not a text"),
        ([b"\xff\xfe\x00"], "InvalidData", f"pvc://vault/{SEALED} is not UTF-8 text"),
        ([b"PK\x03\x04"], "InvalidData", f"pvc://vault/{SEALED} is a zip archive; unpack it first"),
    ],
)
def test_a_file_that_cannot_be_compared_with_is_named(job: Job, content: list[Any], reason: str, said: str) -> None:
    """One row that cannot be read is one row too many: sealed rows are compared whole or not at all."""
    job.sealed = {SEALED: content}
    refused(job.do(job.prepare_run()), reason, said)


def test_a_file_that_is_not_there_is_named(job: Job) -> None:
    run = job.prepare_run()
    run.against.append(SourceInput(uri="pvc://vault/gone.jsonl", path=str(job.root / "gone.jsonl")))
    refused(job.do(run), "SourceNotFound", "the dataset pvc://vault/gone.jsonl is not there")


def test_rows_that_a_model_writes_leak_neither(job: Job) -> None:
    """They are rejected before anybody is paid to check them, and fail no job: nobody could take them out."""
    secret = sentence(random.Random(123), 12)
    job.sealed, job.leak_check = {SEALED: [sealed(1, secret)]}, LeakCheck(policy="Fail")
    with hosted_models(lambda asked: wrote((secret, "On")) if is_generator(asked) else diligent(asked)) as models:
        job.augmentation = wanting(models, rows=3, perSeed=1)
        made = data(job).augmentation
        assert all(is_generator(asked) for asked in models.asked)
    assert made is not None
    assert as_dict(made.rejected)["Leak"] >= 1
    assert made.accepted == 0
    assert any(r["message"] == f"it gives away line 1 of pvc://vault/{SEALED}" for r in rejected(job))


def test_nothing_is_written_after_a_row_that_leaks(job: Job) -> None:
    leaking = trained_on(job)[:24]
    job.sealed = {SEALED: [sealed(i, prompt) for i, prompt in enumerate(leaking)]}
    job.deduplication = Deduplication(near="Ignore")
    with hosted_models(diligent) as models:
        job.augmentation = wanting(models, rows=9, perSeed=1, maxShare="0.9")
        data(job)
        sent = json.dumps([asked.body for asked in models.asked])
    assert models.asked
    assert not [prompt for prompt in leaking if prompt in sent]


def test_what_was_compared_is_told_where_there_is_room_for_little(job: Job) -> None:
    job.rows = [{**r, "kind": str(i % 3)} for i, r in enumerate([*job.rows, row("write to anna@example.com")])]
    job.category, job.sealed = "kind", {SEALED: [*others(2), sealed(2, trained_on(job)[0])]}
    result = job.do(job.prepare_run())
    assert result.prepare is not None
    dataset = result.prepare.dataset
    assert None not in (dataset.categories, dataset.sources, dataset.flagged, dataset.left_out)
    crowd = "a" * (MAX_RESULT_BYTES - len(result.model_dump_json(by_alias=True, exclude_none=True)) + 400)
    resolved = result.prepare.resolved.model_copy(update={"sources": [crowd]})
    prepare = result.prepare.model_copy(update={"resolved": resolved})
    spared = fitting(result.model_copy(update={"message": "", "prepare": prepare}))
    assert len(encode_result(spared)) <= MAX_RESULT_BYTES
    assert spared.prepare is not None
    assert spared.prepare.dataset.left_out is None
    assert spared.prepare.dataset.compared == dataset.compared


def test_words_of_another_file_have_the_numbers_of_the_rows() -> None:
    own, held = Dialogues(), Dialogues()
    for text in ("one two three four", "a b c d"):
        own.add(text, "yes")
    kin = Dialogues(own)
    kin.add("a b c d", "")
    held.add("a b c d", "")
    both = own.followed_by(kin)
    assert (len(own), len(kin), len(both)) == (2, 1, 3)
    assert leaks.find(both, runs(both.questions, 3), [0, 1], [2], 0.8) == {1: 2}
    own.add("grows on", "")
    assert (len(own), len(both)) == (3, 3)
    assert own.questions.of(2).tolist() == own.followed_by(kin).questions.of(2).tolist()
