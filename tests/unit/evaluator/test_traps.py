"""Ways in which evaluations give wrong numbers without a word, each beside what the naive way would have said.

Those of reading answers (null content, prose, silence, cut-off text) are in test_hosted, those of keys in test_answers.
"""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from scipy import stats
from tests.support.hosted_models import Asked, Said, hosted_models
from tests.unit.evaluator.builders import evaluate_run
from tests.unit.evaluator.hosted import ask, hosted_run, rows
from tests.unit.evaluator.test_decide import ABSOLUTE, judged, right
from tests.unit.evaluator.test_judging import judge, said

SUPERIOR = {"metric": "accuracy", "superiority": {"over": "untuned"}}


def unpaired_p(candidate: list[float], base: list[float]) -> float:
    """The z-test of two shares, as if other rows had been put to each model."""
    n, first, second = len(base), sum(candidate) / len(candidate), sum(base) / len(base)
    error = math.sqrt((first * (1 - first) + second * (1 - second)) / n)
    return float(2 * stats.norm.sf(abs(first - second) / error))


def test_paired_answers_are_compared_in_pairs() -> None:
    """220 rows: 29 only the candidate has right, 12 only the base, 135 both."""
    candidate = [1.0] * 29 + [0.0] * 12 + [1.0] * 135 + [0.0] * 44
    base = [0.0] * 29 + [1.0] * 12 + [1.0] * 135 + [0.0] * 44
    assert unpaired_p(candidate, base) > 0.05, "the naive way sees nothing"
    found = judged(evaluate_run(gates=[SUPERIOR]), candidate, base)
    (comparison,) = found.comparisons
    assert comparison.mid_p is not None
    assert comparison.mid_p < 0.01
    assert found.verdict == "Passed"


def test_a_floor_is_held_against_what_is_proven_and_not_against_the_mean() -> None:
    found = judged(evaluate_run(gates=[ABSOLUTE]), right(26, 30), right(0, 30))
    (gate,) = found.gates
    assert gate.estimate.value > 0.85, "the naive way passes it"
    assert found.verdict == "Inconclusive"


@pytest.mark.parametrize("model", ["gpt-5", "Qwen2.5-7B-Instruct", "gpt-4o"])
async def test_no_setting_goes_by_letters_in_the_name_of_the_model(tmp_path: Path, model: str) -> None:
    with hosted_models() as models:
        await ask(hosted_run(models.url, option={"model": model, "temperature": "0.2"}), tmp_path, rows("a"))
    (asked,) = models.asked
    assert asked.body["temperature"] == 0.2
    assert set(asked.body) == {"model", "messages", "max_completion_tokens", "temperature"}, "and no stop list to cut"


async def test_two_models_that_are_asked_the_same_do_not_share_answers(tmp_path: Path) -> None:
    with hosted_models(lambda asked: Said(str(asked.body["model"]))) as models:
        found = {
            name: (await ask(hosted_run(models.url, option={"model": name}), tmp_path / "shared", rows("a")))[0]["a"]
            for name in ("gpt-5", "gpt-4")
        }
    assert {name: answer.text for name, answer in found.items()} == {"gpt-5": "gpt-5", "gpt-4": "gpt-4"}


def test_a_changed_rubric_is_asked_anew(tmp_path: Path) -> None:
    """A cache that knows the judge's file by its name gives the verdicts of the rubric before."""
    answers = {"candidate": said("a", "b", "c"), "base": said("a", "b", "c")}

    def strict(asked: Asked) -> Said:
        return Said('{"verdict": "incorrect"}' if "strictly" in asked.text else '{"verdict": "correct"}')

    def shares(criteria: str) -> list[float]:
        metrics = [{"name": "right", "judged": {"criteria": criteria}}]
        found, *_ = judge(tmp_path, strict, answers, metrics=metrics)
        return [float(score) for score in found.scores[0][0]]

    assert shares("kindly") == [1, 1, 1]
    assert shares("strictly") == [0, 0, 0]
