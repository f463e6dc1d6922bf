"""What is left behind: a report whose digest is the file's, a page that runs nothing, a result that always fits."""

from __future__ import annotations

import json
from decimal import Decimal
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
from tests.unit.evaluator.builders import answered, evaluate_run

from anneal.api.artifacts import digest_of_file, digest_of_json
from anneal.api.gates import Comparison, GateResult
from anneal.api.metrics import MetricResult
from anneal.api.runs import MAX_RESULT_BYTES, EvaluateRun, RunResult, encode_result, parse_result
from anneal_evaluator.confusion import confusions
from anneal_evaluator.costs import costs
from anneal_evaluator.decide import Judgement, judge, judge_categories
from anneal_evaluator.held_out import HeldOutRow, groups_of
from anneal_evaluator.metrics import scorer_of
from anneal_evaluator.origin import origin
from anneal_evaluator.page import page
from anneal_evaluator.page.elements import percent
from anneal_evaluator.page.plot import Axis, scale_of
from anneal_evaluator.report import categories, data, document, write_report
from anneal_evaluator.score import Answers, score, write_scores
from anneal_evaluator.taken import Taken

FREE = {"candidate": Decimal(0), "base": Decimal(0)}
EVIL = '</td><script src="//evil">alert(1)</script><img onerror=x>'


class Case:
    """Ten rows; the candidate is right on nine and attacks the reader on the tenth, the base is wrong and cut off."""

    def __init__(self, **changes: object) -> None:
        self.run: EvaluateRun = evaluate_run(**changes)
        self.rows = [
            HeldOutRow.model_validate(
                {"id": f"r{i}", "messages": [{"role": "user", "content": EVIL}], "reference": "yes"}
            )
            for i in range(10)
        ]
        candidate = [answered(f"r{i}", "yes", seconds=0.5) for i in range(9)] + [answered("r9", EVIL)]
        base = [answered(f"r{i}", "no") for i in range(9)] + [answered("r9", EVIL, outcome="truncated", detail=EVIL)]
        self.answers: Answers = {"candidate": candidate, "base": base}
        self.scores = score(self.run, [scorer_of(m) for m in self.run.metrics], self.rows, self.answers)
        self.taken = Taken.of(self.run, self.answers, groups_of(self.rows))
        self.judgement: Judgement = judge(
            self.run, [scorer_of(m) for m in self.run.metrics], self.scores, groups_of(self.rows)
        )

    def report(self) -> dict[str, Any]:
        scorers = [scorer_of(m) for m in self.run.metrics]
        names = [row.category for row in self.rows]
        found = judge_categories(self.run, scorers, self.scores, groups_of(self.rows), names)
        report = document(self.run, self.answers, self.judgement, "triton 2.51.0", FREE, {"scores.jsonl": "sha256:0"})
        confusion = confusions(self.run, scorers, self.rows, self.answers)
        report |= {"training": origin(self.run), "costs": costs(self.run, self.answers, self.taken, FREE)}
        return report | {
            "judge": None,
            "guard": None,
            "confusion": confusion,
            "categories": categories(self.run, found),
        }


def test_scores_are_of_answers_and_nothing_else() -> None:
    scores = Case().scores
    assert scores.shape == (1, 2, 10)
    assert scores[0, 0].tolist() == [1.0] * 9 + [0.0]
    assert scores[0, 1, :9].tolist() == [0.0] * 9
    assert np.isnan(scores[0, 1, 9])


def test_scores_are_written_by_row(tmp_path: Path) -> None:
    case = Case()
    write_scores(tmp_path / "scores.jsonl", case.run, case.rows, case.scores)
    lines = [json.loads(line) for line in (tmp_path / "scores.jsonl").read_text().splitlines()]
    assert lines[9] == {"row": "r9", "scores": {"accuracy": {"candidate": 0.0, "base": None}}}


def test_the_digest_is_that_of_file_and_content(tmp_path: Path) -> None:
    report = Case().report()
    digest = write_report(tmp_path, report)
    assert digest == digest_of_file(tmp_path / "report.json") == digest_of_json(report)
    assert json.loads((tmp_path / "report.json").read_text()) == report


def test_the_report_tells_what_was_judged_and_found() -> None:
    report = Case().report()
    assert report["verdict"] == "Inconclusive"
    assert report["gates"][0]["message"].startswith("accuracy absolute is undecided: score 0.9000")
    assert [(m["name"], m["asked"], m["errors"], m["truncated"]) for m in report["models"]] == [
        ("candidate", 10, 0, 0),
        ("untuned", 10, 1, 1),
    ]
    assert report["models"][0]["secondsP50"] == "0.5000"
    assert report["results"][0]["value"] == "0.9000"


def test_the_report_counts_which_label_is_taken_for_which() -> None:
    case = Case(metrics=[{"name": "accuracy", "label": {"labels": ["yes", "no"]}}])
    report = case.report()
    candidate, base = report["confusion"]
    assert candidate["cells"] == [
        {"reference": "yes", "answered": "yes", "answers": 9},
        {"reference": "yes", "answered": "no label", "answers": 1},
    ]
    assert base["cells"] == [{"reference": "yes", "answered": "no", "answers": 9}], "what was cut off is in no cell"
    seen = Page(page(case.run, report, case.rows, case.answers, case.scores))
    assert "Taken for another (accuracy)" in seen.text
    assert "yesno label1" in seen.text
    assert "yesno9" not in seen.text, "only the candidate's"


class Page(HTMLParser):
    """Collects what a browser would see."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.text = ""
        self.policy = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        if dict(attrs).get("http-equiv") == "Content-Security-Policy":
            self.policy = dict(attrs)["content"] or ""

    def handle_data(self, data: str) -> None:
        self.text += data


def test_the_page_shows_answers_and_runs_nothing() -> None:
    case = Case()
    seen = Page(page(case.run, case.report(), case.rows, case.answers, case.scores))
    assert not {"script", "img", "iframe", "link", "a"} & set(seen.tags)
    assert "svg" in seen.tags
    assert seen.policy.startswith("default-src 'none'")
    assert seen.text.count(EVIL) >= 4, "question, answers and error of the row, as text"
    assert "90.0 % (55.5 % to 99.8 %), demanded at least 80.0 %. About 108 held-out rows" in seen.text


def test_the_report_says_whether_training_rows_were_compared_with_sealed_ones() -> None:
    for compared, said in ((True, "trained on none that gives one away"), (False, "Nobody looked"), (None, "")):
        case = Case(heldOutCompared=compared)
        report = case.report()
        assert report["heldOut"].get("compared") is compared
        seen = Page(page(case.run, report, case.rows, case.answers, case.scores))
        assert (said in seen.text, "Sealed rows" in seen.text) == (True, compared is not None)


def test_ticks_lose_no_digits() -> None:
    ticks = scale_of(Axis(0.00005, 0.00025, 0.0001), lambda x: f"{x:.7g}")
    assert ">0.0001<" in ticks
    assert ">10 %<" in scale_of(Axis(0.0, 0.2, 0.1), percent)


def test_the_largest_judgement_fits_the_termination_message() -> None:
    """4 metrics, 4 baselines, 8 gates and 99,999 rows are the most that the API allows or data can hold."""
    name = "n" * 38
    metrics = [{"name": f"{name}-{i}", "f1": {}} for i in range(4)]
    price = {"inputPerMillion": "1.25", "outputPerMillion": "10"}
    hosted = {"openAI": {"model": "m" * 96}, "price": price}
    baselines = [{"name": f"{name}-{i}", "hosted": hosted} for i in range(4)]
    gates = [{"metric": f"{name}-{i % 4}", "superiority": {"over": f"{name}-{i % 4}"}} for i in range(8)]
    models = ["candidate", *(b["name"] for b in baselines)]
    uri = "pvc://" + "c" * 63 + "/" + "p" * 180
    run = evaluate_run(
        metrics=metrics, baselines=baselines, gates=gates, models=models, report={"uri": uri, "path": "/r"}
    )
    scores = np.random.default_rng(0).random((4, 5, 60))
    judgement = judge(run, [scorer_of(m) for m in run.metrics], scores, np.arange(60))
    said = answered("r", model="m" * 96 + "-2025-08-07", input_tokens=10_000_000, output_tokens=10_000_000)
    answers = {model: [said] * 60 for model in models}
    result = RunResult(
        role="evaluate",
        outcome="Succeeded",
        reason="Judged",
        message="m" * 5000,
        evaluate=data(
            run, answers, judgement, dict.fromkeys(models, Decimal("99999.999999")), digest_of_json(1), 460_800_000
        ),
    )
    encoded = encode_result(result)
    assert len(encoded) <= MAX_RESULT_BYTES
    assert parse_result(encoded.decode()).evaluate == result.evaluate


def test_every_number_fits_the_status_of_the_object() -> None:
    case = Case()
    found = data(case.run, case.answers, case.judgement, FREE, digest_of_json(1))
    for metric, model, n, value, lower, upper in found.results:
        MetricResult(metric=str(metric), model=str(model), n=n, value=value, lower=lower, upper=upper)
    for _, _, n, delta, lower, upper, p, mde in found.comparisons:
        Comparison(metric="m", baseline="b", n=n, delta=delta, lower=lower, upper=upper, p=p, mde=mde)
    for outcome, observed, lower, upper, needed in found.gates:
        told = {"observed": observed, "lower": lower, "upper": upper, "rows_needed": needed}
        GateResult(gate="g", outcome=outcome, required=">= 0.80", message="m", **told)
