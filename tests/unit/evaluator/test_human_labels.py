"""People's labels: how they are read, what they say of the judge, and what they make of its scores."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.support.hosted_models import Asked, Said, hosted_models
from tests.unit.evaluator.builders import answered, evaluate_run
from tests.unit.evaluator.hosted import rows

from anneal.api.runs import EvaluateRun
from anneal_evaluator.errors import EvaluationError
from anneal_evaluator.judging import Judgements, judge_answers
from anneal_evaluator.judging.labels import read_labels
from anneal_evaluator.statistics.agreement import corrected_mean, corrected_share, kappa
from anneal_hosted.ledger import Ledger

JUDGED = {"name": "right", "judged": {}}
RUBRIC = {"name": "tone", "rubric": {"criteria": "kind"}}
PREFERENCE = {"name": "preferred", "preference": {"over": "untuned"}}
LINE: dict[str, Any] = {"metric": "right", "messages": [{"role": "user", "content": "q"}], "reference": "yes"}


def labelled(count: int, **more: Any) -> list[dict[str, Any]]:
    """Lines on different answers; of every fifth answer "no 4", "no 9" … a person says that it is right."""
    said = [{"answer": f"{'no' if i % 5 == 4 else 'yes' if i % 2 else 'wrong'} {i}"} for i in range(count)]
    return [LINE | one | {"verdict": "incorrect" if "wrong" in one["answer"] else "correct"} | more for one in said]


def labels_run(
    directory: Path, lines: Sequence[object], metric: dict[str, Any] = JUDGED, **changes: Any
) -> EvaluateRun:
    path = directory / "labels.jsonl"
    path.write_text("".join(line if isinstance(line, str) else json.dumps(line) + "\n" for line in lines))
    labels = {"uri": "pvc://models/labels.jsonl", "path": str(path)}
    report = {"uri": "pvc://models/report", "path": str(directory)}
    gates = [{"metric": metric["name"], "absolute": {"minLowerBound": "0.5"}}]
    return evaluate_run(**{"metrics": [metric], "gates": gates, "humanLabels": labels, "report": report} | changes)


def starts_with_yes(asked: Asked) -> Said:
    good = json.loads(asked.text)["answer"].startswith("yes")
    return Said(json.dumps({"verdict": "correct" if good else "incorrect"}))


def judged_by_labels(directory: Path, lines: Sequence[object], **changes: Any) -> tuple[Judgements, int]:
    asked_rows = rows("one", "two", "three")
    answers = {m: [answered(row.id, "yes") for row in asked_rows] for m in ("candidate", "base")}
    with hosted_models(starts_with_yes) as models:
        judge = {"openAI": {"baseUrl": models.url + "/v1", "model": "mistral-large"}}
        run = labels_run(directory, lines, judge=judge, **changes)
        ledger = Ledger(directory / "spending.jsonl", None)
        found = judge_answers(run, asked_rows, answers, ledger, 5.0, read_labels(run))
        assert found is not None
        return found, len(models.asked)


def test_agreement_is_told_beside_the_judges_scores(tmp_path: Path) -> None:
    found, asked = judged_by_labels(tmp_path, labelled(40))
    quality = found.qualities[0]
    assert quality.agreement is not None
    assert (quality.n, asked) == (6, 40 + 3), "labels are no answers of this evaluation"
    assert quality.agreement.share == pytest.approx(0.8)
    row = quality.row()
    assert row[6:9] == (40, "0.8000", f"{kappa(quality.agreement.judged, quality.agreement.human):.4f}")
    assert row[9] == "1.0000"


def test_a_judge_that_people_disagree_with_judges_nothing(tmp_path: Path) -> None:
    demand = {"humanLabels": {"uri": "pvc://models/labels.jsonl"}, "minAgreement": "0.85"}
    with pytest.raises(EvaluationError, match=r"of 80\.0% of 40 labelled answers.*demands 85\.0%") as caught:
        judged_by_labels(tmp_path, labelled(40), judgeQuality=demand)
    assert (caught.value.reason, caught.value.retryable) == ("JudgeUnreliable", False)


@pytest.mark.parametrize(
    ("metric", "line", "score"),
    [
        (RUBRIC, {"metric": "tone", "answer": "a", "grade": 4}, 0.75),
        (PREFERENCE, {"metric": "preferred", "answers": ["a", "b"], "better": "second"}, 0.0),
        (PREFERENCE, {"metric": "preferred", "answers": ["a", "b"], "better": "neither"}, 0.5),
    ],
)
def test_people_speak_in_the_judges_words(
    tmp_path: Path, metric: dict[str, Any], line: dict[str, Any], score: float
) -> None:
    found = read_labels(labels_run(tmp_path, [LINE | line] * 20, metric))
    assert {(label.score, len(label.texts)) for label in found} == {(score, len(line.get("answers", "a")))}


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("not json\n", "Line 1 of the human labels pvc://models/labels.jsonl"),
        ({"metric": "right"}, "messages: Field required"),
        (LINE | {"metric": "other", "answer": "a", "verdict": "correct"}, "'other' is no metric that needs the judge"),
        (LINE | {"verdict": "correct"}, "it has no answer"),
        (LINE | {"answer": "a"}, "{} is nothing that the judge could say for right"),
        (LINE | {"answer": "a", "verdict": "fine"}, "nothing that the judge could say"),
        (LINE | {"answer": "a", "grade": 5}, "nothing that the judge could say"),
        (LINE | {"answer": "a", "verdict": "correct"}, "has 1 human labels, too few"),
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, line: object, sentence: str) -> None:
    with pytest.raises(EvaluationError, match="human labels") as caught:
        read_labels(labels_run(tmp_path, [line]))
    assert caught.value.reason == "HumanLabelsInvalid"
    assert sentence in str(caught.value)


def test_labels_that_are_not_there_are_missed_before_anybody_is_asked(tmp_path: Path) -> None:
    run = labels_run(tmp_path, [])
    with pytest.raises(EvaluationError, match="are not a file"):
        read_labels(run.model_copy(update={"human_labels": run.report}))
    demand = {"humanLabels": {"uri": "pvc://models/labels.jsonl"}, "minAgreement": "0.8"}
    with pytest.raises(EvaluationError, match="has 0 human labels"):
        read_labels(labels_run(tmp_path, [], judgeQuality=demand))


def test_kappa_is_that_of_the_textbook() -> None:
    """Of 50 applications two readers say yes to 20 and no to 15 alike, and differ on 5 and 10: 0.4."""
    one = np.array([1.0] * 25 + [0.0] * 25)
    other = np.array([1.0] * 20 + [0.0] * 5 + [1.0] * 10 + [0.0] * 15)
    assert kappa(one, other) == pytest.approx(0.4)
    assert kappa(np.ones(5), np.ones(5)) is None


def test_the_corrected_share_covers_what_people_would_say() -> None:
    """A judge that is right of 90 % of right answers and of 80 % of wrong ones; 60 labels, 150 rows, 70 % right."""
    random, covered = np.random.default_rng(5), 0
    simulations = 2000
    for _ in range(simulations):
        truth, human = random.random(150) < 0.7, (random.random(60) < 0.6).astype(float)
        scores = np.where(truth, random.random(150) < 0.9, random.random(150) < 0.2).astype(float)
        judged = np.where(human == 1, random.random(60) < 0.9, random.random(60) < 0.2).astype(float)
        found = corrected_share(scores, judged, human, 0.95)
        assert found is not None
        covered += found[1].lower <= 0.7 <= found[1].upper
    assert 0.935 <= covered / simulations <= 0.985
    perfect = corrected_share(np.array([1.0, 0.0]), np.tile([1.0, 0.0], 50), np.tile([1.0, 0.0], 50), 0.95)
    assert perfect is not None
    assert perfect[0] == pytest.approx(0.5)
    assert corrected_share(np.ones(9), np.tile([0.0, 1.0], 9), np.tile([1.0, 0.0], 9), 0.95) is None
    assert corrected_share(np.ones(9), np.ones(20), np.ones(20), 0.95) is None


def test_the_corrected_mean_covers_what_people_would_give() -> None:
    """A judge that gives a grade too much to every second answer."""
    random, covered, naive = np.random.default_rng(6), 0, 0
    simulations = 2000
    for _ in range(simulations):
        truth, human = random.integers(0, 4, 150) / 4, random.integers(0, 4, 50) / 4
        scores, judged = truth + random.integers(0, 2, 150) / 4, human + random.integers(0, 2, 50) / 4
        found = corrected_mean(scores, judged, human, 0.95)
        assert found is not None
        covered += found[1].lower <= 0.375 <= found[1].upper
        naive += abs(scores.mean() - 0.375) <= 1.96 * scores.std() / np.sqrt(150)
    assert 0.935 <= covered / simulations <= 0.97
    assert naive / simulations < 0.1, "the judge's own interval does not hold it"
