"""What all of it cost, and from how many queries on a model of one's own costs less, by the formulas of status."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import numpy as np

from anneal.api.costs import Costs, amount, cost_benefit, costs_of, price_of_a_query
from anneal.api.runs import GUARD, JUDGE, EvaluateRun
from anneal_evaluator.epochs import each_once
from anneal_evaluator.report import Spent
from anneal_evaluator.score import Answers
from anneal_evaluator.taken import Taken, queries_an_hour


def costs(run: EvaluateRun, answers: Answers, taken: Taken, spent: Spent) -> dict[str, Any]:
    """What status tells (`anneal.api.costs.Costs`), and more: `perHour` is None without spec.servingCostPerHour, and
    then so is every `benefit`; `hosted` holds the baselines with a price.
    """
    asked = [*(b.hosted for b in run.baselines), run.judge, run.guard]
    is_priced = [a is not None and a.price is not None for a in asked]
    evaluation = amount(sum(spent.values(), Decimal(0))) if any(is_priced) else None
    per_hour = run.serving_cost_per_hour
    whole = costs_of(per_hour, queries_at_full_load(run, taken), run.training_cost, evaluation)
    hosted = [_hosted(run, k, answers, spent, whole) for k in range(1, len(run.models)) if is_priced[k - 1]]
    return {
        **whole.to_json(),
        "perHour": None if per_hour is None else f"{Decimal(per_hour):f}",
        "hosted": hosted,
        "judge": amount(spent[JUDGE]) if is_priced[-2] else None,
        "guard": amount(spent[GUARD]) if is_priced[-1] else None,
    }


def queries_at_full_load(run: EvaluateRun, taken: Taken) -> int | None:
    """What the candidate's server answers in an hour, always with generation.concurrency questions under way.

    None where nothing was answered, or in no time that could be measured.
    """
    seconds = taken.seconds[0][~np.isnan(taken.seconds[0])]
    return max(1, int(queries_an_hour(run, float(seconds.mean()), seconds.size))) if seconds.any() else None


def _hosted(run: EvaluateRun, model: int, answers: Answers, spent: Spent, whole: Costs) -> dict[str, Any]:
    baseline, given = run.baselines[model - 1], each_once(run, answers[run.models[model]])
    assert baseline.hosted is not None
    read, written = sum(a.input_tokens for a in given), sum(a.output_tokens for a in given)
    per_query, per_hour = price_of_a_query(baseline.hosted.price, read, written, len(given)), run.serving_cost_per_hour
    return {
        "name": baseline.name,
        "spent": amount(spent[run.models[model]]),
        "perQuery": per_query,
        "benefit": cost_benefit(per_hour, whole, baseline.name, per_query).to_json()
        if per_hour and per_query
        else None,
    }
