"""What the report tells of money: the same figures as gates and status, by the same formulas."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import numpy as np
import pytest
from tests.support.reports import example
from tests.unit.evaluator.builders import answered, evaluate_run

from anneal.api.subjects import ModelResult
from anneal.kinds.evaluation.benefit import cost_benefit
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
    if found["own"] is not None:
        assert float(found["own"]["perQuery"]) == pytest.approx(taken_by(run, run.gates[0], taken).value, abs=1e-6)
    return found


def test_a_query_costs_its_share_of_the_hour_or_its_tokens() -> None:
    found = costs()
    # 4 at once, half a second each: 28,800 an hour. 400 · 1.25 + 100 · 10 a million: 0.0015. 1.80 / 0.0015 = 1,200.
    assert found["own"] == {"perHour": "1.80", "queriesPerHour": 28_800, "perQuery": "0.000062"}
    assert found["hosted"] == [
        {"name": "premium", "spent": "0.150000", "perQuery": "0.001500", "breakEvenPerHour": 1200}
    ]
    assert (found["evaluation"], found["judge"]) == ("0.200000", None)


def test_status_and_report_agree_on_where_both_cost_the_same() -> None:
    found = costs()["hosted"][0]
    model = ModelResult(name="premium", n=100, errors=0, truncated=0, cost_per_query=found["perQuery"])
    (benefit,) = cost_benefit("1.80", [model])
    assert benefit.break_even_per_hour == found["breakEvenPerHour"]


@pytest.mark.parametrize(
    ("changes", "own", "break_even"),
    [({"servingCostPerHour": None}, False, None), ({"seconds": 0.0}, False, 1200), ({}, True, 1200)],
)
def test_what_nobody_told_is_not_made_up(changes: dict[str, Any], own: bool, break_even: int | None) -> None:
    found = costs(**changes)
    assert (found["own"] is not None) == own
    assert found["hosted"][0]["breakEvenPerHour"] == break_even
    unpriced = costs(baselines=[{"name": "premium", "hosted": {"openAI": {"model": "m"}}}])
    assert (unpriced["hosted"], unpriced["evaluation"]) == ([], None)


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
        unknown = shown({**document, "training": {**document["training"], "cost": cost}})
        assert "hours" not in unknown
        assert "takes them for" not in unknown
    own = {**document["costs"]["own"], "queriesPerHour": 400}
    assert "<td>nothing</td><td>never</td>" in shown({**document, "costs": {**document["costs"], "own": own}})


def test_no_price_no_section() -> None:
    document = example().document
    nothing = {"own": None, "hosted": [], "judge": None, "evaluation": None}
    free = {"cost": None, "data": None, "trained": None, "unknown": "?"}
    assert shown({**document, "costs": nothing, "training": free}) == ""
    assert "<svg" not in shown({**document, "costs": {**document["costs"], "own": None}})


@pytest.mark.parametrize(("queries", "break_even"), [(1, 1), (1, 10**9), (10**9, 1)])
def test_a_picture_of_any_traffic_stays_in_its_frame(queries: int, break_even: int) -> None:
    document = example().document
    hosted = [{**document["costs"]["hosted"][0], "breakEvenPerHour": break_even}]
    own = {**document["costs"]["own"], "queriesPerHour": queries}
    html = shown({**document, "costs": {**document["costs"], "own": own, "hosted": hosted}})
    places = [float(part.split("%")[0]) for part in html.replace('cx="', 'x1="').split('x1="')[1:] if "%" in part[:8]]
    assert places
    assert all(0 <= place <= 100 for place in places)
