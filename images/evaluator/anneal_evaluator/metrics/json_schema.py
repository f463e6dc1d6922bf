"""1 where the whole answer is JSON that satisfies a schema.

A program that reads the answer would stumble over a code fence or a word of prose, so an answer with one scores 0.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from anneal.api.json_schemas import parse_json, parse_schema, references
from anneal.api.metrics import JsonSchema
from anneal_evaluator.metrics.patience import stopped_after
from anneal_evaluator.metrics.scorer import Scorer

#: Longest check of one text, in seconds. A sane schema takes milliseconds.
CHECK_SECONDS = 2.0
_SIMPLEST: tuple[Any, ...] = (None, True, 0, "", [], {})


def scorer(options: JsonSchema) -> Scorer:
    """Raises ValueError when the schema cannot be used."""
    try:
        satisfies = _check(parse_schema(options.schema_))
        for value in _SIMPLEST:
            satisfies(value)
    except ValueError as error:
        raise _unusable(error) from error

    def score(answer: str, reference: str) -> float:
        try:
            value = parse_json(answer)
        except ValueError:
            return 0.0
        try:
            return float(satisfies(value))
        except ValueError as error:
            raise _unusable(error) from error

    def check(reference: str) -> None:
        if not satisfies(parse_json(reference)):
            raise ValueError("it does not satisfy the schema")

    return Scorer(score=score, is_binary=True, check_reference=check)


def _unusable(error: ValueError) -> ValueError:
    return ValueError(f"the schema cannot be used: {error}")


def _check(schema: dict[str, Any]) -> Callable[[Any], bool]:
    """Whether a value satisfies the schema. Raises ValueError, as does what it returns, when the schema is at fault."""
    # Only those who use the metric wait for these.
    from jsonschema import Draft202012Validator, SchemaError
    from referencing import Registry
    from referencing.exceptions import Unresolvable
    from referencing.jsonschema import DRAFT202012

    try:
        with stopped_after(CHECK_SECONDS, f"reading it took over {CHECK_SECONDS:g} s"):
            Draft202012Validator.check_schema(schema)
    except SchemaError as error:
        where = "/".join(map(str, error.absolute_path)) or "its top"
        raise ValueError(f"at {where}: {error.message[:300]}") from error
    resolver = Registry().resolver_with_root(DRAFT202012.create_resource(schema))
    for reference in references(schema):
        try:
            resolver.lookup(reference)
        except Unresolvable as error:
            raise ValueError(f"it has nothing at {reference!r}") from error
    # With a registry of its own it looks nothing up anywhere.
    validator = Draft202012Validator(schema, registry=Registry())

    def satisfies(value: Any) -> bool:
        """No value is nested deeply, so that recursion without end is the schema's doing."""
        try:
            with stopped_after(CHECK_SECONDS, f"checking one text took over {CHECK_SECONDS:g} s"):
                return bool(validator.is_valid(value))
        except RecursionError:
            raise ValueError("its references go round in a circle") from None
        except Unresolvable as error:
            raise ValueError(f"it has nothing at {error.ref!r}") from error

    return satisfies
