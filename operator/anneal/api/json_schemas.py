"""What a user's JSON Schema may be, as far as it can be told without a validator: both sides refuse the same.

A schema is a program. What it may not do is reach out (a reference to another document) or be of a dialect that would
be read otherwise than it was meant.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

DIALECT = "https://json-schema.org/draft/2020-12/schema"
#: Of a schema, and of an answer that is checked: validators recurse.
MOST_NESTED = 64
_REFERENCES = ("$ref", "$dynamicRef")
#: What these hold is data, whatever it looks like.
_DATA = ("const", "enum", "default", "examples")


def parse_json(text: str) -> Any:
    """The value. Raises ValueError, in words, also for what only Python takes for JSON, and for what is nested deeper
    than MOST_NESTED."""
    try:
        value = json.loads(text, parse_constant=_refuse)
    except RecursionError:
        raise ValueError(f"it is nested deeper than {MOST_NESTED} levels") from None
    except json.JSONDecodeError as error:
        raise ValueError(f"it is not JSON: {error}") from error
    if _depth(value) > MOST_NESTED:
        raise ValueError(f"it is nested deeper than {MOST_NESTED} levels")
    return value


def parse_schema(text: str) -> dict[str, Any]:
    """The schema that `text` holds. Raises ValueError, in words that follow "the schema cannot be used:"."""
    schema = parse_json(text)
    if not isinstance(schema, dict):
        raise ValueError("it is not an object")
    for found in _schemas(schema):
        dialect = found.get("$schema", DIALECT)
        if dialect not in (DIALECT, f"{DIALECT}#"):
            raise ValueError(f"$schema is {str(dialect)[:100]!r}, but schemas are read as {DIALECT}")
        for key in _REFERENCES:
            target = found.get(key, "#")
            if not isinstance(target, str) or not target.startswith("#"):
                raise ValueError(f"{key} {str(target)[:100]!r} leaves the schema; bring what it names below $defs")
    return schema


def references(schema: dict[str, Any]) -> list[str]:
    """What its $ref name, all of it in the schema itself; empty where parts have names of their own ($id)."""
    found = list(_schemas(schema))
    if any("$id" in part for part in found if part is not schema):
        return []
    return [part["$ref"] for part in found if "$ref" in part]


def _schemas(value: Any) -> Iterator[dict[str, Any]]:
    """Every object in a schema that may be one."""
    waiting = [value]
    while waiting:
        part = waiting.pop()
        if isinstance(part, dict):
            yield part
            waiting += [v for k, v in part.items() if k not in _DATA]
        elif isinstance(part, list):
            waiting += part


def _depth(value: Any) -> int:
    """Levels of objects and lists."""
    depth, level = 0, [value]
    while level := [v for v in level if isinstance(v, dict | list)]:
        depth += 1
        level = [inner for v in level for inner in (v.values() if isinstance(v, dict) else v)]
    return depth


def _refuse(constant: str) -> None:
    raise ValueError(f"it is not JSON: {constant}")
