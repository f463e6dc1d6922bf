"""How an answer is scored against its reference. To add a metric: one module with `scorer`, one line in REGISTRY.

The key is the member of `anneal.api.metrics.Metric`; a test holds the two together.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from anneal.api.metrics import Metric
from anneal_evaluator.metrics import (
    chrf,
    exact_match,
    json_field,
    json_schema,
    judged,
    label,
    normalized_match,
    numeric,
    plugin,
    regex,
    rouge_l,
    token_f1,
)
from anneal_evaluator.metrics.scorer import Scorer

REGISTRY: dict[str, Callable[[Any], Scorer]] = {
    "exact_match": exact_match.scorer,
    "normalized_match": normalized_match.scorer,
    "f1": token_f1.scorer,
    "regex": regex.scorer,
    "json_field": json_field.scorer,
    "json_schema": json_schema.scorer,
    "numeric": numeric.scorer,
    "label": label.scorer,
    "rouge_l": rouge_l.scorer,
    "chrf": chrf.scorer,
    "judged": judged.scorer,
    "rubric": judged.rubric_scorer,
    "preference": judged.preference_scorer,
    "no_refusal": judged.no_refusal_scorer,
    "guard": judged.guard_scorer,
    "plugin": plugin.scorer,
}


def scorer_of(metric: Metric) -> Scorer:
    """The scorer that `metric` asks for. Raises ValueError when its options cannot be used or it has no kind."""
    for member, make in REGISTRY.items():
        options = getattr(metric, member)
        if options is not None:
            return make(options)
    raise ValueError("it has no kind that this evaluator knows")
