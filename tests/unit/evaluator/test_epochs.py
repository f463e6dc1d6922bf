"""Rows that are asked several times: every answer asked and paid for once, one score a row, and rows for n."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError
from tests.support.hosted_models import Asked, HostedModels, Said, hosted_models
from tests.support.simulated_verdicts import epochs, monte_carlo_error
from tests.unit.evaluator.builders import answered, evaluate_run, write_rows
from tests.unit.evaluator.hosted import PRICE, ask, hosted_run, killed_at, rows

from anneal.api.artifacts import digest_of_file
from anneal.api.evaluation import Evaluation
from anneal.api.runs import EvaluateRun
from anneal_evaluator.decide import judge, refuse_too_many_errors
from anneal_evaluator.epochs import means_of_rows
from anneal_evaluator.errors import EvaluationError
from anneal_evaluator.evaluate import evaluate
from anneal_evaluator.metrics import scorer_of
from anneal_evaluator.replay import replay_answers
from anneal_evaluator.respond import questions
from anneal_evaluator.taken import Taken, taken_by
from anneal_hosted.answers import AnswerFile, read_answers
from anneal_hosted.endpoints import hosted_endpoint

TWICE, THRICE = {"temperature": "0.7", "epochs": 2}, {"temperature": "0.7", "epochs": 3}


def asked_often(run: EvaluateRun, **generation: Any) -> EvaluateRun:
    return EvaluateRun.model_validate({**run.to_json(), "generation": run.generation.to_json() | generation})


def test_every_epoch_has_a_key_and_greedy_models_are_asked_once() -> None:
    run = hosted_run("http://m.test", option={"temperature": "0"})
    versions = {"candidate": "vllm 1", "gpt": "gpt"}
    once = questions(run, rows("a", "b"), versions)
    often = questions(asked_often(run, **THRICE), rows("a", "b"), versions)
    assert Counter((q.model, q.row.id) for q in often) == {("candidate", r): 3 for r in "ab"} | {
        ("gpt", "a"): 1,
        ("gpt", "b"): 1,
    }
    assert len({q.key for q in often}) == len(often)
    greedy = questions(asked_often(hosted_run("http://m.test"), epochs=3), rows("a"), versions)
    assert Counter(q.model for q in greedy) == {"candidate": 1, "gpt": 3}
    assert {q.key for q in once if q.model == "gpt"} < {q.key for q in often}, "what was paid for is still an answer"
    warm = questions(asked_often(run, temperature="0.7"), rows("a"), versions)
    assert warm[0].key not in {q.key for q in once}, "another temperature, another answer"


@pytest.mark.parametrize("write", [2, 5], ids=["before the first is stored", "before the second is"])
def test_a_killed_process_pays_for_no_epoch_twice(tmp_path: Path, write: int) -> None:
    """A question is three writes: noted, answered, settled."""
    with hosted_models() as models:
        run = asked_often(hosted_run(models.url), concurrency=1, epochs=2)
        assert killed_at(write, partial(ask, run, tmp_path, rows("q")))
        before = models.billed["q"]
        _, ledger = asyncio.run(ask(run, tmp_path, rows("q")))
    stored = read_answers(tmp_path / "responses-gpt.jsonl")
    assert len(stored) == len({answer.key for answer in stored}) == 2
    assert (before, models.billed["q"]) == (1 + write // 3, 2 + len(ledger.lost))
    assert ledger.spent() == 2 * Decimal("0.03") + sum(ledger.lost.values())


@pytest.mark.parametrize("protocol", ["openAI", "anthropic"])
async def test_epochs_go_in_one_batch_and_are_told_apart(
    tmp_path: Path, protocol: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("anneal_hosted.batching.POLL_SECONDS", 0.01)
    price = {**PRICE, "batch": {"inputPerMillion": "500", "outputPerMillion": "5000"}}
    with hosted_models(lambda asked: Said(f"{asked.text} {asked.attempt}")) as models:
        run = asked_often(hosted_run(models.url, protocol, requests="Batch", price=price), epochs=3)
        for _ in range(2):
            _, ledger = await ask(run, tmp_path, rows("q", "r"))
    assert len(models.batches.made) == 1
    texts = {answer.text for answer in read_answers(tmp_path / "responses-gpt.jsonl")}
    assert texts == {f"{row} {epoch}" for row in "qr" for epoch in range(3)}
    assert (ledger.spent(), ledger.lost) == (6 * Decimal("0.015"), {})


async def test_stored_answers_stand_in_for_as_many_epochs_as_they_have(tmp_path: Path) -> None:
    with hosted_models(lambda asked: Said(str(asked.attempt))) as models:
        run = asked_often(hosted_run(models.url), epochs=2)
        await ask(run, tmp_path, rows("q"))
    path, told = tmp_path / "responses-gpt.jsonl", run.to_json()
    told["baselines"][0]["answers"] = {"uri": "pvc://m/a.jsonl", "digest": digest_of_file(path)}
    offline = EvaluateRun.model_validate({**told, "answers": {"gpt": str(path)}})
    hosted = offline.baselines[0].hosted
    assert hosted is not None
    version = await hosted_endpoint("gpt", hosted, None, None).version()  # type: ignore[arg-type] - asks nobody

    def replayed(epochs: int) -> set[str]:
        again = asked_often(offline, epochs=epochs)
        asked = [q for q in questions(again, rows("q"), {"candidate": "", "gpt": version}) if q.model == "gpt"]
        files = {"gpt": AnswerFile(tmp_path / f"replayed-{epochs}.jsonl")}
        replay_answers(again, asked, files)
        return {files["gpt"][q.key].text for q in asked}

    assert replayed(2) == {"0", "1"}
    with pytest.raises(EvaluationError, match=r"answers 2 of 3 questions .*asked as often"):
        replayed(3)


#: What the candidate says to each of three rows, in turn; "cut" is cut off.
SAID = {"question 0": ["answer 0"] * 3, "question 1": ["answer 1", "no", "answer 1"], "question 2": ["cut", "no", "no"]}


def script(asked: Asked) -> Said:
    """Of a vLLM with candidate and base, a hosted model that is right, and a judge that believes the reference."""
    model = asked.body["model"]
    if model == "mistral":
        document = json.loads(asked.text)
        if "first" in document:
            return Said('{"better": "neither"}')
        is_right = document["answer"] == document["reference"]
        return Said(json.dumps({"verdict": "correct" if is_right else "incorrect"}))
    if model == "gpt-5":
        return Said(asked.text.replace("question", "answer"))
    if model == "base":
        return Said("no")
    said = SAID[asked.text][TURNS[asked.text]]
    TURNS[asked.text] += 1
    return Said(said, "length" if said == "cut" else "stop")


TURNS: Counter[str] = Counter()


def whole_run(models: HostedModels, directory: Path) -> EvaluateRun:
    """Three rows, asked three times each of candidate and base, once of a greedy hosted model."""
    gpt = {"openAI": {"baseUrl": models.url + "/v1", "model": "gpt-5", "temperature": "0"}, "price": PRICE}
    digest = write_rows(directory / "rows.jsonl", 3)
    return evaluate_run(
        serverUrl=models.url.removeprefix("http://"),
        runtime="vllm",
        models=["candidate", "base", "gpt"],
        baselines=[{"name": "base", "fromCandidate": {}}, {"name": "gpt", "hosted": gpt}],
        heldOut={"uri": "pvc://m/rows.jsonl", "path": str(directory / "rows.jsonl")},
        heldOutDigest=digest,
        generation={**THRICE, "maxTokens": 32, "concurrency": 1},
        metrics=[
            {"name": "accuracy", "exactMatch": {}},
            {"name": "correct", "judged": {}},
            {"name": "preferred", "preference": {"over": "gpt"}},
        ],
        gates=[{"metric": "accuracy", "superiority": {"over": "base"}}],
        judge={"openAI": {"baseUrl": models.url + "/v1", "model": "mistral"}},
        policy={"maxErrorRate": "0.2"},
        report={"uri": "pvc://m/report", "path": str(directory / "report")},
    )


def test_a_whole_evaluation_counts_rows_and_asks_epochs(tmp_path: Path) -> None:
    TURNS.clear()
    with hosted_models(script) as models:
        run = whole_run(models, tmp_path)
        result = evaluate(run)
        asked = Counter(asked.body["model"] for asked in models.asked)
        assert (asked["candidate"], asked["base"], asked["gpt-5"]) == (9, 9, 3)
        assert {a.body["temperature"] for a in models.asked if a.body["model"] == "candidate"} == {0.7}
        evaluate(run)
        assert sum(asked.values()) == len(models.asked), "stored epochs are not asked again"
    data = result.evaluate
    assert data is not None
    assert [row[:3] for row in data.models] == [(9, 1, 1), (9, 0, 0), (3, 0, 0)], "errors count answers"
    means = {(metric, model): (n, float(value)) for metric, model, n, value, *_ in data.results}
    # Row 0 always right, row 1 twice of three, row 2 never in the two answers that there are.
    assert means[0, 0] == means[1, 0] == (3, pytest.approx(5 / 9, abs=1e-4))
    assert means[0, 2] == means[1, 2] == (3, 1.0)
    over_base = next(row for row in data.comparisons if row[:2] == (0, 1))
    assert (over_base[2], float(over_base[3]), over_base[6]) == (3, pytest.approx(5 / 9, abs=1e-4), None)
    report = json.loads((tmp_path / "report" / "report.json").read_text())
    assert (report["heldOut"]["rows"], report["generation"]["epochs"]) == (3, 3)
    assert [model["rowsAnswered"] for model in report["models"]] == [3, 3, 3]
    # Eight answers of the candidate, nine of the base, and three that stand for nine.
    assert [(m["metric"], m["n"]) for m in report["judge"]["metrics"]] == [("correct", 20), ("preferred", 3)]
    scores = [json.loads(line)["scores"]["accuracy"] for line in (tmp_path / "report/scores.jsonl").open()]
    assert [score["candidate"] for score in scores] == [1.0, pytest.approx(2 / 3), 0.0]
    page = (tmp_path / "report" / "report.html").read_text()
    assert "on 3 held-out rows, asked 3 times each." in page
    assert 'candidate, 2 of 3</dt><dd><bdi class="said">answer 1<' in page


def test_a_row_is_one_piece_of_evidence_however_often_it_was_asked() -> None:
    """Taken as rows, three epochs of each make an interval that is too narrow, and let through what is no better."""
    averaged, naive = epochs(60).simulate(200), epochs(60, as_rows=True).simulate(400)
    assert averaged.pass_rate <= 0.025 + monte_carlo_error(0.025, 200)
    assert averaged.coverage >= 0.935 - monte_carlo_error(0.935, 200)
    assert naive.pass_rate > 0.025 + monte_carlo_error(0.025, 400)
    assert naive.coverage < 0.9
    widths = [np.mean(found.upper - found.lower) for found in (averaged, naive)]
    assert widths[1] < 0.75 * widths[0]


def test_exact_methods_are_for_rows_that_are_0_or_1() -> None:
    """Where every row says the same in all its epochs, its mean is 0 or 1 and McNemar's test is what it is."""
    run = evaluate_run(generation=THRICE, gates=[{"metric": "accuracy", "absolute": {"minLowerBound": "0.5"}}])
    base = np.repeat(np.arange(90.0) % 2, 3)
    steady, wavering = np.ones(270), np.where(np.arange(270) % 9 == 0, 0.0, 1.0)
    for candidate, methods, has_p in (
        (steady, ("Wilson", "Tango", "ClopperPearson"), True),
        (wavering, ("Bootstrap", "Bootstrap", "Bootstrap"), False),
    ):
        scores = means_of_rows(run, np.array([[candidate, base]]))
        found = judge(run, [scorer_of(m) for m in run.metrics], scores, np.arange(90))
        (comparison,), (gate,) = found.comparisons, found.gates
        assert (found.results[0, 0].method, comparison.difference.method, gate.estimate.method) == methods
        assert (comparison.difference.n, comparison.mid_p is not None) == (90, has_p)


def test_percentiles_are_of_answers_and_means_of_all_of_them() -> None:
    run = evaluate_run(
        generation=TWICE,
        gates=[{"latency": {"percentile": 50, "maxMilliseconds": 1}}, {"cost": {"maxPerQuery": "1"}}],
        servingCostPerHour="3600",
    )
    given = [answered(f"r{i}", seconds=1.0 if i % 2 else 3.0) for i in range(200)]
    taken = Taken.of(run, dict.fromkeys(run.models, given), np.arange(100))
    latency, cost = (taken_by(run, gate, taken) for gate in run.gates)
    assert (latency.n, latency.value) == (100, 3000.0), "the first of each row"
    assert (cost.n, cost.value) == (100, pytest.approx(2.0 / run.generation.concurrency))


def test_errors_are_counted_by_answers() -> None:
    given = [answered(f"r{i}") for i in range(9)] + [answered("cut", outcome="truncated")]
    run = evaluate_run(generation=TWICE)
    with pytest.raises(EvaluationError, match=r"1 of 10 questions \(10\.0%"):
        refuse_too_many_errors(run, {"candidate": given, "base": given})
    greedy = asked_often(run, temperature="0")
    twice = [answer for answer in given for _ in range(2)]
    with pytest.raises(EvaluationError, match=r"1 of 10 questions"):
        refuse_too_many_errors(greedy, {"candidate": twice, "base": twice})


@pytest.mark.parametrize(
    ("generation", "serving", "option", "problem"),
    [
        (THRICE, "vllm", None, None),
        (THRICE, "triton", None, "needs serving.vllm"),
        ({"epochs": 3}, "vllm", None, "the same answers again"),
        ({"epochs": 3}, "triton", {"model": "m"}, None),
        ({"epochs": 3}, "triton", {"model": "m", "temperature": "0.0"}, "the same answers again"),
        ({"temperature": "2.1"}, "vllm", None, "temperature must be 0 to 2"),
    ],
)
def test_what_would_mean_nothing_is_refused(
    generation: dict[str, Any], serving: str, option: dict[str, str] | None, problem: str | None
) -> None:
    baseline = {"name": "base", **({"hosted": {"openAI": option}} if option else {"fromCandidate": {}})}
    spec = {
        "candidate": {"fineTuneJobRef": {"name": "a"}},
        "baselines": [baseline],
        "serving": {serving: {}},
        "generation": generation,
        "metrics": [{"name": "accuracy", "exactMatch": {}}],
        "gates": [{"metric": "accuracy", "superiority": {"over": "base"}}],
    }
    if problem is None:
        Evaluation.model_validate({"spec": spec})
    else:
        with pytest.raises(ValidationError, match=problem):
            Evaluation.model_validate({"spec": spec})
