"""The metric jsonSchema: what satisfies a schema, and schemas that cannot be used, bombs among them."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest

from anneal.api.metrics import Metric
from anneal_evaluator.metrics import json_schema, scorer_of
from anneal_evaluator.metrics.scorer import Scorer

ORDER: dict[str, Any] = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "type": "object",
    "required": ["intent", "items"],
    "properties": {
        "intent": {"enum": ["refund", "delivery"]},
        "items": {"type": "array", "prefixItems": [{"$ref": "#/$defs/item"}], "minItems": 1},
        "price": {"type": "number", "minimum": 0},
    },
    "unevaluatedProperties": False,
    "$defs": {"item": {"type": "string", "pattern": "^[a-z]+$"}},
}
GOOD = '{"intent": "refund", "items": ["shoes"]}'
TREE = {"type": "object", "properties": {"child": {"$ref": "#"}}, "additionalProperties": False}


def scorer(schema: object) -> Scorer:
    text = schema if isinstance(schema, str) else json.dumps(schema)
    return scorer_of(Metric.model_validate({"name": "m", "jsonSchema": {"schema": text}}))


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (GOOD, 1),
        (f"\n {GOOD} ", 1),
        ('{"intent": "refund", "items": ["shoes"], "price": 1.5}', 1),
        ('{"intent": "refund", "items": ["shoes"], "price": -1}', 0),
        ('{"intent": "refund", "items": ["shoes"], "more": 1}', 0),
        ('{"intent": "refund", "items": ["Shoes"]}', 0),
        ('{"intent": "refund", "items": []}', 0),
        ('{"intent": "other", "items": ["shoes"]}', 0),
        ('{"items": ["shoes"]}', 0),
        (f"```json\n{GOOD}\n```", 0),
        (f"Sure: {GOOD}", 0),
        (GOOD + GOOD, 0),
        ("", 0),
        ("null", 0),
        ('{"intent": "refund", "items": ["shoes"], "price": NaN}', 0),
        ('{"intent": "refund", "items": ["shoes"], "price": ' + "9" * 5000 + "}", 0),
        ("[" * 100_000, 0),
        ("[" * 100 + "]" * 100, 0),
    ],
)
def test_an_answer_scores_when_all_of_it_satisfies_the_schema(answer: str, expected: int) -> None:
    metric = scorer(ORDER)
    assert metric.is_binary
    assert metric.score(answer, "whatever was the reference") == expected


def test_true_is_no_number_and_an_unknown_format_is_no_error() -> None:
    assert scorer({"type": "integer"}).score("true", "") == 0
    assert scorer({"type": "integer"}).score("1.0", "") == 1
    assert scorer({"format": "email"}).score('"no address"', "") == 1


def test_a_schema_may_refer_to_itself_as_deep_as_answers_go() -> None:
    deep = '{"child": ' * 63 + "{}" + "}" * 63
    assert scorer(TREE).score(deep, "") == 1
    assert scorer(TREE).score(deep.replace("{}", '{"other": 1}'), "") == 0


@pytest.mark.parametrize(
    ("schema", "sentence"),
    [
        ("{x", "it is not JSON: Expecting property name"),
        ("[]", "it is not an object"),
        ('{"const": NaN}', "it is not JSON: NaN"),
        ({"type": "strin"}, "at type: 'strin' is not valid under any of the given schemas"),
        ({"properties": {"a": {"minimum": "1"}}}, "at properties/a/minimum: '1' is not of type 'number'"),
        ({"pattern": "("}, "at pattern: '(' is not a 'regex'"),
        ({"$ref": "https://example.com/a.json"}, "$ref 'https://example.com/a.json' leaves the schema"),
        ({"properties": {"a": {"$dynamicRef": "other.json#a"}}}, "$dynamicRef 'other.json#a' leaves the schema"),
        ({"$ref": "#/$defs/nothing"}, "it has nothing at '#/$defs/nothing'"),
        ({"properties": {"a": {"$ref": "#/$defs/nothing"}}}, "it has nothing at '#/$defs/nothing'"),
        ({"properties": {"a": {"$ref": "#anchor"}}}, "it has nothing at '#anchor'"),
        ({"$schema": "http://json-schema.org/draft-07/schema#"}, "but schemas are read as https://json-schema.org"),
        ({"$ref": "#"}, "its references go round in a circle"),
        ({"allOf": [{"$ref": "#/$defs/a"}], "$defs": {"a": {"not": {"$ref": "#/$defs/a"}}}}, "round in a circle"),
        ('{"not":' * 200 + "{}" + "}" * 200, "nested deeper than 64 levels"),
        ('{"not":' * 2000 + "{}" + "}" * 2000, "nested deeper than 64 levels"),
    ],
)
def test_a_schema_that_cannot_be_used_is_told(schema: object, sentence: str) -> None:
    with pytest.raises(ValueError) as caught:
        scorer(schema)
    assert str(caught.value).startswith("the schema cannot be used: ")
    assert sentence in str(caught.value)


def test_data_in_a_schema_is_no_reference() -> None:
    assert scorer({"const": {"$ref": "https://example.com"}}).score('{"$ref": "https://example.com"}', "") == 1


@pytest.mark.parametrize(
    ("reference", "sentence"), [("no JSON", "it is not JSON"), ('{"intent": "x"}', "does not satisfy the schema")]
)
def test_a_reference_that_does_not_satisfy_the_schema_is_told(reference: str, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        scorer(ORDER).check_reference(reference)
    scorer(ORDER).check_reference(GOOD)


#: Thirty definitions, each of which is the next one twice: a thousand million checks.
DOUBLING = {
    "$ref": "#/$defs/d0",
    "$defs": {f"d{n}": {"allOf": [{"$ref": f"#/$defs/d{n + 1}"}] * 2} for n in range(30)} | {"d30": True},
}


#: The same, only where an answer has a field.
HIDDEN = {"$defs": DOUBLING["$defs"], "properties": {"a": {"$ref": "#/$defs/d0"}}}


@pytest.mark.parametrize(
    ("schema", "answer"), [({"pattern": "^(a+)+$"}, '"' + "a" * 40 + 'b"'), (HIDDEN, '{"a": 1}')], ids=["regex", "refs"]
)
def test_a_check_without_end_is_stopped(schema: Any, answer: str, monkeypatch: pytest.MonkeyPatch) -> None:
    metric = scorer(schema)  # before the limit is low: on a busy machine reading takes a while
    monkeypatch.setattr(json_schema, "CHECK_SECONDS", 0.3)
    started = time.monotonic()
    with pytest.raises(ValueError, match="checking one text took over"):
        metric.score(answer, "")
    assert time.monotonic() - started < 5


def test_a_schema_that_explodes_by_itself_is_told_before_anybody_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_schema, "CHECK_SECONDS", 0.3)
    # Which of the two is stopped: on a busy machine reading may be late as well.
    with pytest.raises(ValueError, match=r"the schema cannot be used: (reading it|checking one text) took over"):
        scorer(DOUBLING)
