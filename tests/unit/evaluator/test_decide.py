"""Judgements on scores whose answer is known, and the errors that forbid one."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from tests.unit.evaluator.builders import answered, evaluate_run

from anneal.api.runs import EvaluateRun
from anneal_evaluator.decide import Judgement, judge, judge_categories, refuse_too_many_errors
from anneal_evaluator.errors import EvaluationError
from anneal_evaluator.metrics import scorer_of
from anneal_hosted.answers import StoredAnswer

ABSOLUTE = {"metric": "accuracy", "absolute": {"minLowerBound": "0.85"}}
SUPERIOR = {"metric": "accuracy", "superiority": {"over": "untuned", "minEffect": "0.20"}}
NOT_WORSE = {"metric": "accuracy", "nonInferiority": {"to": "untuned", "margin": "0.05"}}
NAN = float("nan")
RUN = evaluate_run(gates=[SUPERIOR])


def judged(run: EvaluateRun, *scores: list[float]) -> Judgement:
    """The judgement of one metric with these scores, candidate first, on rows that have nothing in common."""
    return grouped(run, range(len(scores[0])), *scores)


def grouped(run: EvaluateRun, groups: Sequence[int], *scores: list[float]) -> Judgement:
    """The same for rows of these groups."""
    scorers = [scorer_of(metric) for metric in run.metrics]
    return judge(run, scorers, np.array([scores], dtype=np.float64), np.array(groups))


def right(count: int, n: int) -> list[float]:
    return [1.0] * count + [0.0] * (n - count)


@pytest.mark.parametrize(
    ("candidate", "base", "outcomes", "verdict"),
    [
        (right(146, 150), right(0, 150), ["Passed", "Passed", "Passed"], "Passed"),
        (right(30, 150), right(120, 150), ["Failed", "Failed", "Failed"], "Failed"),
        (right(130, 150), right(130, 150), ["Inconclusive", "Failed", "Passed"], "Failed"),
        (right(130, 150), right(100, 150), ["Inconclusive", "Inconclusive", "Passed"], "Inconclusive"),
        (right(1, 1), right(0, 1), ["Inconclusive", "Inconclusive", "Inconclusive"], "Inconclusive"),
        (right(20, 20), right(20, 20), ["Inconclusive", "Failed", "Inconclusive"], "Failed"),
    ],
)
def test_gates(candidate: list[float], base: list[float], outcomes: list[str], verdict: str) -> None:
    found = judged(evaluate_run(gates=[ABSOLUTE, SUPERIOR, NOT_WORSE]), candidate, base)
    assert [gate.outcome for gate in found.gates] == outcomes
    assert found.verdict == verdict


def test_gates_keep_the_order_of_the_spec() -> None:
    gates = [SUPERIOR, ABSOLUTE, NOT_WORSE, ABSOLUTE]
    found = judged(evaluate_run(gates=gates), right(9, 10), right(1, 10))
    assert [gate.gate.to_json() for gate in found.gates] == gates


def test_rows_without_an_answer_count_for_nothing() -> None:
    """Means are over the rows that a model answered, differences over those that both did."""
    found = judged(evaluate_run(), [1, 1, 0, NAN, 1], [0, NAN, 0, 1, 1])
    assert (found.results[0, 0].n, found.results[0, 0].value) == (4, 0.75)
    assert (found.results[0, 1].n, found.results[0, 1].value) == (4, 0.5)
    (comparison,) = found.comparisons
    assert (comparison.difference.n, comparison.difference.value) == (3, pytest.approx(1 / 3))


def test_no_row_in_common_is_inconclusive_and_no_crash() -> None:
    found = judged(evaluate_run(gates=[SUPERIOR, NOT_WORSE]), [1, NAN], [NAN, 0])
    assert [gate.outcome for gate in found.gates] == ["Inconclusive", "Inconclusive"]
    assert (found.comparisons[0].difference.bounds.lower, found.comparisons[0].difference.bounds.upper) == (-1, 1)


def test_an_undecided_gate_says_how_many_rows_would_decide_it() -> None:
    """13 points better than the 20 demanded of a difference of 33: more rows than there are, but not thousands."""
    found = judged(evaluate_run(gates=[ABSOLUTE, SUPERIOR]), right(100, 120), right(70, 120))
    absolute, superior = found.gates
    assert superior.outcome == "Inconclusive"
    assert superior.rows_needed is not None
    assert 120 < superior.rows_needed < 2000
    assert absolute.rows_needed is not None
    assert absolute.rows_needed > 120


def test_more_rows_are_advised_even_where_all_rows_agree() -> None:
    found = judged(evaluate_run(gates=[NOT_WORSE]), right(10, 10), right(10, 10))
    assert found.gates[0].rows_needed is not None
    assert found.gates[0].rows_needed > 10


def test_significance_is_of_the_rows_where_exactly_one_is_right() -> None:
    candidate, base = [1.0] * 12 + [0.0] * 5 + [1.0] * 40, [0.0] * 12 + [1.0] * 5 + [1.0] * 40
    (comparison,) = judged(evaluate_run(), candidate, base).comparisons
    assert comparison.mid_p == pytest.approx(0.0963, abs=1e-3)


def test_graded_scores_have_bounds_but_no_test_of_shares() -> None:
    run = evaluate_run(metrics=[{"name": "accuracy", "f1": {}}])
    rng = np.random.default_rng(5)
    found = judged(run, list(rng.random(80)), list(rng.random(80)))
    assert found.comparisons[0].mid_p is None
    bounds = found.results[0, 0].bounds
    assert 0 < bounds.lower < found.results[0, 0].value < bounds.upper < 1


def test_a_demand_is_held_against_the_exact_bound_and_results_show_wilsons() -> None:
    """90 of 100: Wilson's lower bound is 0.826, the exact one 0.824."""
    gates = [{"metric": "accuracy", "absolute": {"minLowerBound": "0.825"}}]
    found = judged(evaluate_run(gates=gates), right(90, 100), right(50, 100))
    assert found.results[0, 0].method == "Wilson"
    assert found.results[0, 0].bounds.lower > 0.825 > found.gates[0].estimate.bounds.lower
    assert (found.gates[0].estimate.method, found.verdict) == ("ClopperPearson", "Inconclusive")


def test_rows_of_one_document_are_not_many_pieces_of_evidence() -> None:
    """Five documents of thirty questions each: the candidate gains on one of them, on all its questions."""
    candidate, base = right(150, 150), right(120, 150)
    groups = [i // 30 for i in range(150)]
    naive, found = (f.comparisons[0] for f in (judged(RUN, candidate, base), grouped(RUN, groups, candidate, base)))
    assert (naive.difference.method, found.difference.method) == ("Tango", "ClusterBootstrap")
    assert naive.difference.bounds.lower > 0.1
    assert found.difference.bounds.lower <= 0
    assert found.mde > 2 * naive.mde
    assert found.mid_p is None, "McNemar's test is about independent rows"


def test_categories_are_estimated_on_their_rows_and_decide_nothing() -> None:
    scores = np.array([[[1, 1, 0, 1, NAN], [0, 0, 0, 0, 1]]], dtype=np.float64)
    categories = ["refund", "refund", "refund", "delivery", None]
    found = judge_categories(RUN, [scorer_of(m) for m in RUN.metrics], scores, np.arange(5), categories)
    assert list(found) == ["refund", "delivery"], "the largest first, rows of none left out"
    assert (found["refund"].results[0, 0].n, found["refund"].results[0, 0].value) == (3, pytest.approx(2 / 3))
    assert found["delivery"].comparisons[0].difference.value == 1.0
    assert found["refund"].gates == []


def given(**outcomes: int) -> list[StoredAnswer]:
    return [
        answered(f"{outcome}-{i}", outcome=outcome, detail="why", text="as said")
        for outcome, count in outcomes.items()
        for i in range(count)
    ]


@pytest.mark.parametrize(
    ("base", "share", "retryable"),
    [
        ({"answered": 98, "truncated": 2}, "0.02", None),
        ({"answered": 97, "truncated": 3}, "0.02", False),
        ({"answered": 97, "timedOut": 3}, "0.02", True),
        ({"answered": 95, "truncated": 2, "timedOut": 3}, "0.02", True),
        ({"answered": 95, "rejected": 3, "timedOut": 2}, "0.02", False),
        ({"answered": 100}, "0", None),
        ({"answered": 99, "rejected": 1}, "0", False),
        ({"truncated": 100}, "1", False),
        ({"timedOut": 100}, "1", True),
    ],
)
def test_too_many_errors_are_no_verdict(base: dict[str, int], share: str, retryable: bool | None) -> None:
    run = evaluate_run(policy={"maxErrorRate": share})
    answers = {"candidate": given(answered=100), "base": given(**base)}
    if retryable is None:
        refuse_too_many_errors(run, answers)
        return
    with pytest.raises(EvaluationError, match="No verdict: base has no usable answer") as caught:
        refuse_too_many_errors(run, answers)
    assert (caught.value.reason, caught.value.retryable) == ("TooManyErrors", retryable)


def test_the_sentence_counts_advises_and_shows_examples() -> None:
    answers = {"candidate": given(answered=7, truncated=2, timedOut=1), "base": given(answered=10)}
    with pytest.raises(EvaluationError) as caught:
        refuse_too_many_errors(evaluate_run(), answers)
    sentence = str(caught.value)
    assert "3 of 10 rows (30.0%, allowed 2.0%): 2 cut off at the limit of tokens, 1 too late." in sentence
    assert "Raise generation.maxTokens" in sentence
    assert "row truncated-0: why, it began 'as said'" in sentence
    assert len(sentence) < 1024
