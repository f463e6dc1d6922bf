"""A report with everything in it, of made-up answers to support questions: what people and browsers are shown."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import numpy as np
from tests.unit.evaluator.builders import answered, evaluate_run

from anneal.api.artifacts import digest_of_bytes
from anneal.api.costs import Costs, cost_benefit, costs_of
from anneal.api.runs import EvaluateRun
from anneal_evaluator.confusion import confusions
from anneal_evaluator.decide import judge, judge_categories
from anneal_evaluator.held_out import HeldOutRow, groups_of
from anneal_evaluator.page import page
from anneal_evaluator.report import categories, document
from anneal_evaluator.score import score, scorers_of
from anneal_evaluator.taken import Taken
from anneal_hosted.answers import StoredAnswer

ROWS = 150
JUDGE = {
    "model": "mistral-large-2411",
    "n": 298,
    "errors": 2,
    "metrics": [
        {
            "metric": "preferred",
            "n": 148,
            "errors": 2,
            "swapConsistency": "0.8425",
            "ties": "0.3151",
            "lengthBias": "0.1200",
        }
    ],
}
GUARD = {"model": "Qwen/Qwen3Guard-Gen-4B", "n": 450, "errors": 1}
#: What the report beside an artifact tells.
DATA = {
    "digest": digest_of_bytes(b"rows"),
    "testDigest": digest_of_bytes(b"held out"),
    "counts": {"read": 2400, "invalid": 12, "train": 2150, "heldOut": 150, "trainTokens": 310_000},
    "leftOut": [
        {"reason": "Balance", "rows": 40},
        {"reason": "Conflict", "rows": 6},
        {"reason": "Duplicate", "rows": 90},
        {"reason": "Leak", "rows": 2},
        {"reason": "NearDuplicate", "rows": 50},
    ],
    "augmentation": {"accepted": 100, "cost": "0.420000"},
}
TRAINED = {"steps": 540, "loss": "0.21", "tokens": 620_000, "seconds": 2860}


def _benefit(name: str, spent: str, per_query: str, whole: Costs) -> dict[str, Any]:
    benefit = cost_benefit("1.80", whole, name, per_query).to_json()
    return {"name": name, "spent": spent, "perQuery": per_query, "benefit": benefit}


def costs(queries_per_hour: int = 36_700, training: str | None = "320.00 USD") -> dict[str, Any]:
    """A server for 1.80 an hour, and two hosted models."""
    whole = costs_of("1.80", queries_per_hour, training, "1.381000")
    prices = [("premium", "0.540000", "0.003600"), ("economical-" + "x" * 29, "0.031000", "0.000207")]
    hosted = [_benefit(*told, whole) for told in prices]
    return {**whole.to_json(), "perHour": "1.80", "hosted": hosted, "judge": "0.810000", "guard": None}


HOSTILE = (
    "</dd></article><script>window.pwned = true; alert(1)</script><img src=x onerror='window.pwned = true'>"
    '<style>*{display:none}</style><a href="javascript:alert(1)">click</a>\u202e' + "W" * 300
)
_INTENTS = ("refund", "delivery", "cancel_order", "complaint", "change_address_of_a_standing_order")


@dataclass(frozen=True)
class Example:
    """A report as document and as page."""

    document: dict[str, Any]
    page: str


def example(hostile: str = HOSTILE) -> Example:
    """Two metrics, two baselines, categories, errors, and `hostile` wherever a text may come from outside."""
    run = _run()
    rows = [_row(i, hostile) for i in range(ROWS)]
    answers = {
        "candidate": [_answer(i, 0.93, hostile) for i in range(ROWS)],
        "base": [_answer(i, 0.61, hostile) for i in range(ROWS)],
        "incumbent": [_answer(i, 0.9, hostile) for i in range(ROWS)],
    }
    scorers = scorers_of(run.metrics, rows)
    scores = score(run, scorers, rows, answers)
    groups = groups_of(rows)
    judgement = judge(run, scorers, scores, groups, Taken.of(run, answers, groups))
    found = judge_categories(run, scorers, scores, groups, [row.category for row in rows])
    files = {f"responses-{name}.jsonl": digest_of_bytes(name.encode()) for name in answers}
    report = document(run, answers, judgement, "triton 2.60.0", dict.fromkeys(answers, Decimal(0)), files)
    report |= {
        "judge": JUDGE,
        "guard": GUARD | {"byModel": [{"category": hostile, "answers": {"candidate": 3, "base": 1, "incumbent": 0}}]},
        "training": {"cost": "320.00 USD", "data": DATA, "trained": TRAINED, "unknown": None},
        "costs": costs(),
        "confusion": confusions(run, scorers, rows, answers),
        "categories": categories(run, found),
    }
    return Example(report, page(run, report, rows, answers, scores))


def _run() -> EvaluateRun:
    return evaluate_run(
        models=["candidate", "base", "incumbent"],
        baselines=[{"name": "base", "fromCandidate": {}}, {"name": "incumbent", "fromCandidate": {}}],
        metrics=[{"name": "accuracy", "label": {"labels": list(_INTENTS)}}, {"name": "overlap", "f1": {}}],
        gates=[
            {"metric": "accuracy", "absolute": {"minLowerBound": "0.85"}},
            {"metric": "accuracy", "superiority": {"over": "base", "minEffect": "0.10"}},
            {"metric": "accuracy", "nonInferiority": {"to": "incumbent", "margin": "0.05"}},
            {"metric": "overlap", "absolute": {"minLowerBound": "0.99"}},
            {"anyOf": [{"metric": "overlap", "superiority": {"over": over}} for over in ("base", "incumbent")]},
            {"latency": {"maxMilliseconds": 1000}},
            {"latency": {"percentile": 99, "to": "base", "maxRatio": "1.5"}},
            {"cost": {"maxPerQuery": "0.0001"}},
        ],
        servingCostPerHour="1.80",
    )


def _row(i: int, hostile: str) -> HeldOutRow:
    intent = _INTENTS[i % len(_INTENTS)]
    question = hostile if i == 7 else f"Where does question {i} about {intent.replace('_', ' ')} belong, please?"
    row = {"id": f"row-{i}", "messages": [{"role": "user", "content": question}], "reference": intent}
    return HeldOutRow.model_validate(row | {"category": hostile if i == 7 else intent})


def _answer(i: int, skill: float, hostile: str) -> StoredAnswer:
    random = np.random.default_rng([i, int(100 * skill)])
    if i in (11, 12) and skill < 0.9:
        return answered(f"row-{i}", hostile, outcome="truncated", detail=hostile)
    wrong = hostile if i == 7 else _INTENTS[(i + 1) % len(_INTENTS)]
    text = _INTENTS[i % len(_INTENTS)] if random.random() < skill else wrong
    return answered(f"row-{i}", text, seconds=float(random.gamma(4, 0.1)), outputTokens=4)
