"""1 where a field of the JSON object in the answer equals that of the reference.

Models wrap JSON in prose and code fences, so the object is the first that parses, wherever it begins.
"""

from __future__ import annotations

import json
from typing import Any

from anneal.api.metrics import JsonField
from anneal_evaluator.metrics.scorer import Scorer

_DECODER = json.JSONDecoder()
_MISSING = object()
#: Opening braces that are tried: an answer of nothing else would take seconds.
_BRACES = 200


def scorer(options: JsonField) -> Scorer:
    names = options.path.split(".")

    def score(answer: str, reference: str) -> float:
        found = _field(answer, names)
        return float(found is not _MISSING and _same(found, _field(reference, names)))

    def check(reference: str) -> None:
        if _field(reference, names) is _MISSING:
            raise ValueError(f"it has no JSON object with the field {options.path}")

    return Scorer(score=score, is_binary=True, check_reference=check)


def _field(text: str, names: list[str]) -> Any:
    value: Any = _first_object(text)
    for name in names:
        if not isinstance(value, dict) or name not in value:
            return _MISSING
        value = value[name]
    return value


def _first_object(text: str) -> dict[str, Any] | None:
    start = text.find("{")
    for _ in range(_BRACES):
        if start < 0:
            return None
        try:
            value, _ = _DECODER.raw_decode(text, start)
        except (ValueError, RecursionError):
            start = text.find("{", start + 1)
        else:
            return value if isinstance(value, dict) else None
    return None


def _same(one: Any, other: Any) -> bool:
    """Equality of JSON values: numbers by value, and unlike in Python true is not 1."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_same(one[key], other[key]) for key in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(_same(a, b) for a, b in zip(one, other, strict=True))
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    return bool(one == other)
