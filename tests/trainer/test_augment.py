"""Rows that a hosted model writes: only after training rows, checked by another, within the money, never paid twice.

The hosted models are a local server that speaks the wire formats of OpenAI (the generator) and Anthropic (the
validator), since the real ones cost money.
"""

from __future__ import annotations

import json
import os
import shutil
from collections import Counter
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from tests.support.hosted_models import Asked, HostedModels, Said, Script, hosted_models, too_many_requests
from tests.trainer.job import Job
from tests.trainer.test_bad_input import refused
from tests.trainer.test_data_choice import as_dict, data, different, held_out_prompts, rejected

from anneal.api.augmentation import Augmentation
from anneal.api.dataset import AugmentationStatus, DatasetSplit, LeakCheck
from anneal_hosted import asking, batching
from anneal_hosted.ledger import Ledger

KEY = "vncy_of-the-writer"
#: Of one reply: 10 tokens at 1,000 and 2 at 10,000 a million.
ONE = Decimal("0.03")


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asking, "RETRY_SECONDS", 0.01)


def is_generator(asked: Asked) -> bool:
    return asked.path == "/v1/chat/completions"


def document(asked: Asked) -> dict[str, Any]:
    return dict(json.loads(asked.text))


def wrote(*rows: tuple[str, str]) -> Said:
    return Said(json.dumps({"rows": [{"prompt": prompt, "answer": answer} for prompt, answer in rows]}))


def correct(verdict: str = "correct") -> Said:
    return Said(json.dumps({"verdict": verdict}))


def seed_of(asked: Asked) -> str:
    return str(document(asked)["example"]["turns"][-1]["content"])


def new_rows(asked: Asked) -> Said:
    """As many rows as are wanted, with nothing in common."""
    words = seed_of(asked).split()
    count = document(asked)["wanted"]
    return wrote(*((" ".join(f"{word}x{n}" for word in words[:8]), f"On {n}") for n in range(count)))


def diligent(asked: Asked) -> Said:
    return new_rows(asked) if is_generator(asked) else correct()


def wanting(models: HostedModels, **wanted: Any) -> Augmentation:
    price = {"inputPerMillion": "1000", "outputPerMillion": "10000"}
    generator = {"openAI": {"baseUrl": f"{models.url}/v1", "model": "gpt-5"}, "price": price, "maxTokens": 100}
    validator = {"anthropic": {"baseUrl": models.url, "model": "claude-sonnet-4"}, "price": price, "maxTokens": 10}
    usual = {"generator": generator, "validator": validator, "rows": 9, "maxCost": "100", "concurrency": 1}
    return Augmentation.model_validate({**usual, **wanted})


@pytest.fixture
def job(base: Path, tmp_path: Path) -> Job:
    """Thirty rows that have nothing in common, of which six are held out."""
    return Job(base, tmp_path, rows=different(30, 10), split=DatasetSplit(held_out=6))


def augmented(job: Job, script: Script, **wanted: Any) -> tuple[AugmentationStatus, HostedModels]:
    with hosted_models(script) as models:
        job.augmentation = wanting(models, **wanted)
        made = data(job).augmentation
    assert made is not None
    return made, models


def generated(job: Job) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (job.workspace / "data" / "generated.jsonl").read_text().splitlines()]


def test_rows_are_written_after_training_rows_and_checked_by_another_model(job: Job) -> None:
    made, models = augmented(job, diligent, instructions="On is right.")
    assert (made.asked, made.written, made.accepted, made.ended, made.rejected) == (3, 9, 9, "Enough", None)
    assert (made.generator, made.validator, Decimal(made.cost)) == ("gpt-5", "claude-sonnet-4", 12 * ONE)
    status = data(job)
    assert (status.counts.read, status.counts.train, status.counts.held_out) == (30, 24 + 9, 6)
    sent = json.dumps([asked.body for asked in models.asked])
    assert not [prompt for prompt in held_out_prompts(job) if prompt in sent], "held-out rows stay here"
    assert sent.count("On is right.") == 12
    written = generated(job)
    assert len({row["id"] for row in written}) == 9
    assert {(row["generator"], row["validator"], row["promptVersion"]) for row in written} == {
        ("gpt-5", "claude-sonnet-4", "1")
    }
    assert Counter(Counter(row["seed"] for row in written).values()) == {3: 3}
    report = json.loads((job.workspace / "data" / "report.json").read_text())
    assert report["augmentation"]["generator"]["openAI"]["model"] == "gpt-5"


def test_replies_are_asked_for_in_the_providers_own_structured_form(job: Job) -> None:
    _, models = augmented(job, diligent, rows=1, perSeed=1)
    generator, validator = (asked.body for asked in models.asked)
    assert generator["response_format"]["type"] == "json_schema"
    shape = generator["response_format"]["json_schema"]
    assert shape["strict"] is True
    assert shape["schema"]["properties"]["rows"]["items"]["required"] == ["prompt", "answer"]
    assert validator["output_config"]["format"]["schema"]["properties"]["verdict"]["enum"] == ["correct", "incorrect"]


def test_a_run_that_starts_again_pays_nothing_and_chooses_the_same(job: Job) -> None:
    first, _ = augmented(job, diligent)
    digest = None
    with hosted_models(diligent) as models:
        job.augmentation = wanting(models)
        digest = data(job).digest
        billed = sum(models.billed.values())
        again = data(job)
        assert sum(models.billed.values()) == billed
    assert (again.digest, again.augmentation) == (digest, again.augmentation)
    assert again.augmentation is not None
    assert again.augmentation.accepted == first.accepted


def test_both_models_may_be_asked_in_batches_at_their_own_tariff(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batching, "POLL_SECONDS", 0.01)
    alone, _ = augmented(job, diligent)
    rows, tariff = generated(job), {"inputPerMillion": "500", "outputPerMillion": "5000"}
    shutil.rmtree(job.workspace)
    with hosted_models(diligent) as models:
        usual = wanting(models).to_json()
        for member in ("generator", "validator"):
            usual[member] |= {"requests": "Batch", "price": {**usual[member]["price"], "batch": tariff}}
        job.augmentation = Augmentation.model_validate(usual)
        made = data(job).augmentation
    assert made is not None
    assert generated(job) == rows
    assert made.accepted == alone.accepted
    assert Decimal(made.cost) == Decimal(alone.cost) / 2
    assert len(models.batches.made) == 2, "one to write, one to check"


def test_what_may_not_be_used_is_rejected_by_its_reason_before_it_is_paid_for(job: Job) -> None:
    held_out = "kept away from everyone under all of these different names today"
    job.rows = different(30, 10)
    job.held_out_rows = [{"prompt": held_out, "completion": "On"}]
    job.split = DatasetSplit()
    job.leak_check = LeakCheck(policy="Fail")

    def script(asked: Asked) -> Said:
        if not is_generator(asked):
            return correct("incorrect" if "wrong" in document(asked)["written"]["answer"] else "correct")
        seed = seed_of(asked)
        return wrote(
            (seed, "On"),
            (seed, "Off"),
            (f"{seed} please", "On"),
            (f"tell me: {held_out}", "On"),
            ("my key is -----BEGIN RSA PRIVATE KEY----- as you see", "On"),
            (f"what about {seed.split()[0]} of the {seed.split()[1]} in here", "wrong"),
            (f"anything {seed.split()[2]} and then {seed.split()[3]} for once", "On"),
        )

    made, models = augmented(job, script, rows=2, perSeed=7)
    assert as_dict(made.rejected) == {
        "Duplicate": made.asked,
        "Conflict": made.asked,
        "NearDuplicate": made.asked,
        "Leak": made.asked,
        "Invalid": made.asked,
        "Incorrect": made.asked,
    }
    assert made.accepted == made.asked == 2
    checked = [document(asked)["written"]["turns"][-1]["content"] for asked in models.asked if not is_generator(asked)]
    assert len(checked) == 4, "only what is new is paid for"
    told = Counter(line["reason"] for line in rejected(job) if line["source"] == "dataset.augmentation")
    assert told == as_dict(made.rejected)


def test_nothing_is_written_after_a_row_that_gives_a_held_out_row_away(job: Job) -> None:
    held_out = "kept away from everyone under all of these different names today"
    leaking = f"somebody said: {held_out} and left"
    job.rows = [*different(12, 10), {"prompt": leaking, "completion": "On"}]
    job.held_out_rows, job.split = [{"prompt": held_out, "completion": "On"}], DatasetSplit()
    job.leak_check = LeakCheck(policy="Fail")
    with hosted_models(diligent) as models:
        job.augmentation = wanting(models)
        refused(job.do(job.prepare_run()), "HeldOutLeaked", "1 training rows give held-out rows away")
        assert models.asked == [], "nobody is paid for a job that fails"
    job.leak_check = LeakCheck(policy="Drop")
    made, models = augmented(job, diligent, rows=100, perSeed=1, maxShare="0.9")
    assert (made.asked, made.accepted) == (12, 12)
    assert held_out not in json.dumps([asked.body for asked in models.asked])
    assert [r["reason"] for r in rejected(job)] == ["Leak"]


@pytest.mark.parametrize(("share", "most"), [("0.5", 24), ("0.2", 6), ("0.01", 0)])
def test_the_share_of_written_rows_is_capped(job: Job, share: str, most: int) -> None:
    made, _ = augmented(job, diligent, rows=100, maxShare=share)
    assert (made.accepted, made.ended) == (most, "Share")


def test_when_every_training_row_was_asked_about_it_ends(job: Job) -> None:
    job.rows = job.rows[:16]
    made, _ = augmented(job, lambda asked: new_rows(asked) if is_generator(asked) else correct("incorrect"))
    assert (made.asked, made.written, made.accepted, made.ended) == (10, 30, 0, "Seeds")


def test_what_could_cost_more_than_may_be_spent_is_not_asked(job: Job) -> None:
    made, models = augmented(job, diligent, rows=24, perSeed=1, maxCost="3")
    assert made.ended == "Cost"
    assert ONE * sum(models.billed.values()) == Decimal(made.cost) <= 3
    assert 0 < sum(models.billed.values()) < 48
    assert made.accepted + as_dict(made.rejected).get("Unjudged", 0) == made.written
    assert data(job).counts.train == 24 + made.accepted


def test_trouble_with_single_replies_is_counted_and_waited_out(job: Job) -> None:
    troubles = [
        too_many_requests("0"),
        Said("I cannot", "content_filter"),
        Said("Sure! Here are your rows: 1."),
        Said('{"rows": []}'),
        Said(None),
        Said('{"rows": [{"prompt": "a"', "length"),
        Said(status=500, error={"message": "overloaded"}),
    ]

    def script(asked: Asked) -> Said:
        if not is_generator(asked):
            return Said("Looks fine to me!") if "x1" in asked.text.split("written")[1] else correct()
        return troubles.pop() if troubles else new_rows(asked)

    made, models = augmented(job, script, rows=6)
    assert made.unanswered == 5
    assert made.accepted == 6
    assert as_dict(made.rejected)["Unjudged"] > 0
    assert Decimal(made.cost) >= ONE * sum(models.billed.values())


def test_a_model_that_never_says_anything_usable_ends_the_run_with_what_it_said(job: Job) -> None:
    with hosted_models(lambda _: Said("As a language model, I would love to.")) as models:
        job.augmentation = wanting(models)
        result = job.do(job.prepare_run())
        refused(result, "GeneratorUnusable", "gpt-5 gave no usable reply to the first 9 questions")
        refused(result, "GeneratorUnusable", "As a language model")
    with hosted_models(lambda asked: new_rows(asked) if is_generator(asked) else Said("5/5")) as models:
        job.augmentation = wanting(models)
        refused(job.do(job.prepare_run()), "ValidatorUnusable", "'5/5'")


def test_a_model_that_never_answers_in_time_can_be_tried_again_and_counts_at_its_most(job: Job) -> None:
    with hosted_models(lambda _: Said(seconds=2)) as models:
        job.augmentation = wanting(models, timeoutSeconds=1, rows=24, perSeed=1, concurrency=16)
        result = job.do(job.prepare_run())
        assert (result.outcome, result.reason, result.retryable) == ("Failed", "GeneratorUnusable", True)
        assert "to the last one it gave no answer within 1 s: raise augmentation.timeoutSeconds" in result.message
        asked = len(models.asked)
    spent = Ledger(job.workspace / "augmentation" / "spending.jsonl", None).spent()
    assert spent >= asked * 100 * Decimal("0.01"), "100 tokens at 10,000 a million may have been written"


def test_the_key_is_sent_to_its_own_provider_and_written_nowhere(job: Job) -> None:
    keys = job.root / "keys"
    (keys / "generator").mkdir(parents=True)
    (keys / "generator" / "key").write_text(f"{KEY}\n")
    with hosted_models(diligent) as models:
        wanted = wanting(models, rows=1, perSeed=1)
        generator = wanted.generator.model_dump(by_alias=True) | {"secretRef": {"name": "vincony", "key": "key"}}
        job.augmentation = wanting(models, rows=1, perSeed=1, generator=generator)
        run = job.prepare_run().model_copy(update={"keys": str(keys)})
        assert job.do(run).outcome == "Succeeded"
    first, second = models.asked
    assert first.headers["Authorization"] == f"Bearer {KEY}"
    assert KEY not in str(second.headers)
    assert not [p for p in job.workspace.rglob("*") if p.is_file() and KEY.encode() in p.read_bytes()]


def killed_at(write: int, job: Job, folder: str = "augmentation") -> bool:
    """Prepares in a process that dies at its `write`-th flush of the folder of replies; whether it came that far."""
    if pid := os.fork():
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 9
    flush, flushed = os.fsync, Counter[str]()

    def fsync(descriptor: int) -> None:
        if folder in str(Path(f"/proc/self/fd/{descriptor}").readlink()):
            flushed["all"] += 1
            if flushed["all"] == write:
                os._exit(9)
        flush(descriptor)

    os.fsync = fsync
    try:
        job.prepared()
    finally:
        os._exit(0)


def test_a_run_killed_at_any_write_pays_for_no_reply_twice(base: Path, tmp_path: Path) -> None:
    digests = set()
    for write in range(1, 100):
        with hosted_models(diligent) as models:
            job = Job(base, tmp_path / str(write), rows=different(12, 10), split=DatasetSplit(held_out=2))
            job.root.mkdir()
            job.augmentation = wanting(models, rows=2, perSeed=2)
            is_killed = killed_at(write, job)
            status = data(job)
            assert set(models.billed.values()) == {1}
        digests.add(status.digest)
        if not is_killed:
            assert write == 3 * 3 + 1, "a question is three writes: noted, answered, settled"
            break
    assert len(digests) == 1
