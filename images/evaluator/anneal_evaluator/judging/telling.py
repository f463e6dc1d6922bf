"""The judge's work as the termination message and report.json tell it."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from anneal.api.costs import amount
from anneal.api.judging import JudgedMetric, JudgedRow, JudgeResult
from anneal.api.runs import EvaluateRun
from anneal_evaluator.judging import Judgements
from anneal_hosted.endpoints.names import snapshot

JudgeRow = tuple[int, int, str, str]


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
