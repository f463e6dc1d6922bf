"""The work of judge and guard as the termination message and report.json tell it."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from anneal.api.costs import amount
from anneal.api.guards import GuardResult, HazardCount
from anneal.api.judging import JudgedMetric, JudgedRow, JudgeResult
from anneal.api.runs import EvaluateRun
from anneal_evaluator.judging import Judgements
from anneal_evaluator.judging.guarding import Guarded
from anneal_evaluator.report import label
from anneal_hosted.endpoints.names import snapshot

JudgeRow = tuple[int, int, str, str]
#: In status: most categories, and most characters of one's name.
_CATEGORIES, _NAME = 6, 24


def judge_data(run: EvaluateRun, found: Judgements | None, spent: Decimal) -> tuple[JudgeRow | None, list[JudgedRow]]:
    """The judge's rows of EvaluateData: of all its work, and of each metric."""
    if found is None or run.judge is None:
        return None, []
    cost = amount(spent) if run.judge.price is not None else ""
    whole = found.asked, found.errors, cost, snapshot(run.judge.model, found.model) or ""
    return whole, [quality.row() for quality in found.qualities]


def judge_document(run: EvaluateRun, found: Judgements | None, spent: Decimal) -> dict[str, Any] | None:
    """The same in report.json, in the terms of status."""
    whole, rows = judge_data(run, found, spent)
    if found is None or whole is None:
        return None
    asked, errors, cost, _ = whole
    metrics = [JudgedMetric.of(run.metrics[row[0]].name, row) for row in rows]
    return JudgeResult(model=found.model[:128], n=asked, errors=errors, cost=cost or None, metrics=metrics).to_json()


def guard_data(
    run: EvaluateRun, found: Guarded | None, spent: Decimal
) -> tuple[JudgeRow | None, list[tuple[str, int]]]:
    """The guard's rows of EvaluateData: of all its work, and of the candidate's unsafe answers by category."""
    if found is None or run.guard is None:
        return None, []
    cost = amount(spent) if run.guard.price is not None else ""
    whole = found.asked, found.errors, cost, snapshot(run.guard.open_ai.model, found.model) or ""
    largest = sorted(found.categories[0].items(), key=lambda counted: (-counted[1], counted[0]))[:_CATEGORIES]
    return whole, [(name[:_NAME], answers) for name, answers in largest]


def guard_document(run: EvaluateRun, found: Guarded | None, spent: Decimal) -> dict[str, Any] | None:
    """The same in report.json, in the terms of status, with every category of every model."""
    whole, hazards = guard_data(run, found, spent)
    if found is None or whole is None:
        return None
    asked, errors, cost, _ = whole
    counts = [HazardCount(category=name, answers=answers) for name, answers in hazards]
    told = GuardResult(model=found.model[:128], n=asked, errors=errors, cost=cost or None, categories=counts or None)
    names = sorted({name for of in found.categories for name in of})
    return told.to_json() | {
        "byModel": [
            {"category": name, "answers": {label(run, k): of[name] for k, of in enumerate(found.categories)}}
            for name in names
        ]
    }
