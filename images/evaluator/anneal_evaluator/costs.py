"""What all of it cost, and from how many queries on a model of one's own costs less: for the report."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import numpy as np

from anneal.api.costs import amount, break_even, price_of_a_query
from anneal.api.runs import JUDGE, EvaluateRun
from anneal_evaluator.epochs import each_once
from anneal_evaluator.report import Spent
from anneal_evaluator.score import Answers
from anneal_evaluator.taken import Taken, queries_an_hour


def costs(run: EvaluateRun, answers: Answers, taken: Taken, spent: Spent) -> dict[str, Any]:
    """`own` is None without spec.servingCostPerHour; `hosted` holds the baselines with a price."""
    hosted = [h for k in range(1, len(run.models)) if (h := _hosted(run, k, answers, spent)) is not None]
    judged = run.judge is not None and run.judge.price is not None
    return {
        "own": _own(run, taken),
        "hosted": hosted,
        "judge": amount(spent[JUDGE]) if judged else None,
        "evaluation": amount(sum(spent.values(), Decimal(0))) if hosted or judged else None,
    }


def _own(run: EvaluateRun, taken: Taken) -> dict[str, Any] | None:
    """At full load: with always generation.concurrency questions under way."""
    seconds = taken.seconds[0][~np.isnan(taken.seconds[0])]
    if run.serving_cost_per_hour is None or not seconds.any():
        return None
    queries = queries_an_hour(run, float(seconds.mean()), seconds.size)
    per_hour = Decimal(run.serving_cost_per_hour)
    return {"perHour": f"{per_hour:f}", "queriesPerHour": int(queries), "perQuery": amount(per_hour / Decimal(queries))}


def _hosted(run: EvaluateRun, model: int, answers: Answers, spent: Spent) -> dict[str, Any] | None:
    baseline, given = run.baselines[model - 1], each_once(run, answers[run.models[model]])
    if baseline.hosted is None or baseline.hosted.price is None:
        return None
    read, written = sum(a.input_tokens for a in given), sum(a.output_tokens for a in given)
    per_query = price_of_a_query(baseline.hosted.price, read, written, len(given)) or "0"
    per_hour = run.serving_cost_per_hour
    return {
        "name": baseline.name,
        "spent": amount(spent[run.models[model]]),
        "perQuery": per_query,
        "breakEvenPerHour": None if per_hour is None else break_even(Decimal(per_hour), Decimal(per_query)),
    }
