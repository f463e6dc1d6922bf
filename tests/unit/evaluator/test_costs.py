"""What the report tells of money: the same figures as gates and status, by the same formulas."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import numpy as np
import pytest
from tests.support.reports import costs as reported
from tests.support.reports import example
from tests.unit.evaluator.builders import answered, evaluate_run
from tests.unit.kinds.evaluation.objects import RECORDED, told

from anneal.api.costs import cost_benefit, costs_of
from anneal.api.evaluation import EvaluationSpec
from anneal.api.runs import parse_result
from anneal.kinds.evaluation.children import Subject
from anneal.kinds.evaluation.judgement import judge
from anneal_evaluator.costs import costs as found_costs
from anneal_evaluator.page.costs import costs as shown
from anneal_evaluator.taken import Taken, taken_by

PRICE = {"inputPerMillion": "1.25", "outputPerMillion": "10"}
GATES = [{"cost": {"maxPerQuery": "1"}}]
SPENT = {"candidate": Decimal(0), "premium": Decimal("0.15"), "judge": Decimal("0.05")}


def costs(seconds: float = 0.5, **changes: Any) -> dict[str, Any]:
    """Of 100 questions, 400 tokens long, answered by 100 tokens."""
    hosted = {"openAI": {"model": "m"}, "price": PRICE}
    run = evaluate_run(
        **{
            "models": ["candidate", "premium"],
            "baselines": [{"name": "premium", "hosted": hosted}],
            "gates": GATES,
            "servingCostPerHour": "1.80",
            **changes,
        }
    )
    given = [answered(f"r{i}", seconds=seconds, inputTokens=400, outputTokens=100) for i in range(100)]
    answers = {"candidate": given, "premium": given}
    taken = Taken.of(run, answers, np.arange(100))
    found = found_costs(run, answers, taken, SPENT)
    if "perQuery" in found:
        assert float(found["perQuery"]) == pytest.approx(taken_by(run, run.gates[0], taken).value, abs=1e-6)
    return found


def test_a_query_costs_its_share_of_the_hour_or_its_tokens() -> None:
    found = costs(trainingCost="40 USD")
    # 4 at once, half a second each: 28,800 an hour. 400 · 1.25 + 100 · 10 a million: 0.0015. 1.80 / 0.0015 = 1,200.
    assert (found["perHour"], found["queriesPerHour"], found["perQuery"]) == ("1.80", 28_800, "0.000062")
    (premium,) = found["hosted"]
    assert (premium["name"], premium["spent"], premium["perQuery"]) == ("premium", "0.150000", "0.001500")
    assert (found["training"], found["evaluation"], found["invested"]) == ("40.000000", "0.200000", "40.200000")
    assert found["judge"] is None
    benefit = premium["benefit"]
    # 28,800 queries for 43.20 are 41.40 more than the hour: 40.20 are saved within it.
    assert (benefit["breakEvenPerHour"], benefit["savedPerHour"]) == (1200, "41.400000")
    assert benefit["paybackHours"] == "1.0"


def test_status_and_report_tell_the_same_of_money() -> None:
    hosted = {"openAI": {"model": "m"}, "price": PRICE}
    found = costs(trainingCost="40 USD")
    spec = {
        "candidate": {"fineTuneJobRef": {"name": "a"}},
        "baselines": [{"name": "premium", "hosted": hosted}],
        "metrics": [{"name": "accuracy", "exactMatch": {}}],
        "gates": [{"metric": "accuracy", "absolute": {"minLowerBound": "0.8"}}],
        "servingCostPerHour": "1.80",
    }
    message = told(
        models=[(100, 0, 0, 0, 0, 1, 1, "", ""), (100, 0, 0, 0, 0, 40_000, 10_000, "0.2", "")],
        results=[],
        comparisons=[],
        gates=[("Passed", "1", "1", "1", None)],
        queriesPerHour=found["queriesPerHour"],
    )
    data = parse_result(message).evaluate
    assert data is not None
    subject = Subject.model_validate(RECORDED)
    status = judge(EvaluationSpec.model_validate(spec), subject, data, "40 USD").fields
    assert status["costBenefit"] == [premium["benefit"] for premium in found["hosted"]]
    assert status["costs"] == {k: found[k] for k in status["costs"]}
    assert set(status["costs"]) == {"training", "evaluation", "invested", "queriesPerHour", "perQuery"}


@pytest.mark.parametrize(
    ("changes", "own", "break_even"),
    [({"servingCostPerHour": None}, False, None), ({"seconds": 0.0}, False, 1200), ({}, True, 1200)],
)
def test_what_nobody_told_is_not_made_up(changes: dict[str, Any], own: bool, break_even: int | None) -> None:
    found = costs(**changes)
    assert ("perQuery" in found, "queriesPerHour" in found) == (own, own)
    assert (found["hosted"][0]["benefit"] or {}).get("breakEvenPerHour") == break_even
    assert "invested" not in found
    unpriced = costs(baselines=[{"name": "premium", "hosted": {"openAI": {"model": "m"}}}])
    assert (unpriced["hosted"], "evaluation" in unpriced) == ([], False)


@pytest.mark.parametrize(
    ("queries", "training", "sentence"),
    [
        (None, "40 USD", "from 1200 queries an hour on, the candidate costs less, if its server can answer so many."),
        (1000, "40 USD", "a server would have to answer 1200 an hour to cost less, and answers 1000 at most."),
        (1200, "40 USD", "answers 1200 at most."),
        (28_800, None, "a query to it costs 0.000062 and 41.400000 are saved in an hour."),
        (28_800, "40 USD", "in an hour: the 40.200000 of training and evaluation in 1.0 hours."),
        (28_800, "a fortune", "saved in an hour."),
    ],
)
def test_the_benefit_in_a_sentence(queries: int | None, training: str | None, sentence: str) -> None:
    found = cost_benefit("1.80", costs_of("1.80", queries, training, "0.200000"), "premium", "0.001500")
    assert found.message.endswith(sentence)
    assert (found.payback_hours is not None) == ("of training" in sentence)


def test_the_page_shows_what_was_spent_and_where_lines_meet() -> None:
    html = shown(example().document)
    for text in ("320.00 USD", "1.381000", "0.003600", "500 queries an hour", "130.32", "36,700 queries"):
        assert text in html
    assert html.count("<circle") == 2, "one for each hosted model"


def test_the_page_tells_when_training_and_evaluation_are_paid_back() -> None:
    document = example().document
    html = shown(document)
    # 36,700 queries at 0.0036 cost 132.12, 130.32 more than the hour: 320 and 1.381 are saved in 2.5.
    assert "<td>130.32</td><td>2.5 hours</td>" in html
    assert "<td>5.80</td><td>55.4 hours</td>" in html
    assert "takes them for USD" in html
    for cost in (None, "a fortune"):
        training = {**document["training"], "cost": cost}
        unknown = shown({**document, "training": training, "costs": reported(training=cost)})
        assert "hours" not in unknown
        assert "takes them for" not in unknown
    assert "<td>nothing</td><td>never</td>" in shown({**document, "costs": reported(400)})


def test_no_price_no_section() -> None:
    document = example().document
    nothing: dict[str, Any] = {"perHour": None, "hosted": [], "judge": None, "guard": None}
    free = {"cost": None, "data": None, "trained": None, "unknown": "?"}
    assert shown({**document, "costs": nothing, "training": free}) == ""
    assert "<svg" not in shown({**document, "costs": {k: v for k, v in reported().items() if k != "perQuery"}})


@pytest.mark.parametrize(("queries", "break_even"), [(1, 1), (1, 10**9), (10**9, 1)])
def test_a_picture_of_any_traffic_stays_in_its_frame(queries: int, break_even: int) -> None:
    document = example().document
    told = reported(queries)
    told["hosted"][0]["benefit"]["breakEvenPerHour"] = break_even
    html = shown({**document, "costs": {**told, "hosted": told["hosted"][:1]}})
    places = [float(part.split("%")[0]) for part in html.replace('cx="', 'x1="').split('x1="')[1:] if "%" in part[:8]]
    assert places
    assert all(0 <= place <= 100 for place in places)
