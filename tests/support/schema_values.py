"""Objects drawn from a CRD's schema: mostly valid, with near misses, to hold pydantic and the API server together."""

from __future__ import annotations

import re
from typing import Any

from hypothesis import strategies as st

Schema = dict[str, Any]
_ENTRY_NAME = r"^[a-z]([-a-z0-9]*[a-z0-9])?$"
_LABEL_KEYS = st.from_regex(r"[a-z]{1,8}(/[a-z]{1,8})?", fullmatch=True)


def values(schema: Schema) -> st.SearchStrategy[Any]:
    """A strategy of values for a structural schema; about one leaf in fifty is a near miss."""
    match schema["type"]:
        case "object" if "properties" in schema:
            return _objects(schema)
        case "object" if "additionalProperties" in schema:
            least = schema.get("minProperties", 0)
            return st.dictionaries(_LABEL_KEYS, values(schema["additionalProperties"]), min_size=least, max_size=3)
        case "object":
            return st.just({})
        case "array":
            least = schema.get("minItems", 0)
            return st.lists(values(schema["items"]), min_size=least, max_size=max(least, 2))
        case "boolean":
            return st.booleans()
        case "integer":
            return _integers(schema)
        case "string":
            return _strings(schema)
    raise ValueError(f"no strategy for {schema}")


def _objects(schema: Schema) -> st.SearchStrategy[Any]:
    members = {name: values(member) for name, member in schema["properties"].items()}
    required = set(schema.get("required", ()))
    variants = _one_of(schema)
    if not variants:
        return st.fixed_dictionaries(
            {n: s for n, s in members.items() if n in required},
            optional={n: s for n, s in members.items() if n not in required},
        )
    base = st.fixed_dictionaries(
        {n: s for n, s in members.items() if n in required},
        optional={n: s for n, s in members.items() if n not in required and n not in variants},
    )
    chosen = st.one_of(*[st.fixed_dictionaries({n: members[n]}) for n in variants])
    near_miss = st.fixed_dictionaries({}, optional={n: members[n] for n in variants})
    return st.builds(lambda a, b: {**a, **b}, base, _mostly(chosen, near_miss))


def _one_of(schema: Schema) -> list[str]:
    for rule in schema.get("x-kubernetes-validations", ()):
        if rule["message"].startswith("exactly one of"):
            return re.findall(r"has\(self\.(\w+)\)", rule["rule"])
    return []


def _integers(schema: Schema) -> st.SearchStrategy[int]:
    low, high = schema.get("minimum", 0), schema.get("maximum", 2**31)
    return _mostly(st.integers(low, high), st.sampled_from([low - 1, high + 1]))


def _strings(schema: Schema) -> st.SearchStrategy[str]:
    if "enum" in schema:
        return _mostly(st.sampled_from(schema["enum"]), st.just("Nonsense"))
    longest = schema.get("maxLength", 64)
    pattern = schema.get("pattern") or _cel_pattern(schema)
    if pattern == _ENTRY_NAME:  # few names, so that those who name each other often meet
        return _mostly(st.sampled_from(["a", "a", "a", "a", "b"]), st.sampled_from(["candidate", "Nonsense"]))
    if pattern:
        good = st.from_regex(re.compile(pattern.rstrip("$") + r"\Z", re.ASCII)).filter(lambda s: len(s) <= longest)
        return _mostly(good, st.sampled_from(["", "abc!", "-1", "UPPER", "a" * (longest + 1)]))
    text = st.text(st.characters(min_codepoint=32, max_codepoint=126), min_size=schema.get("minLength", 0), max_size=12)
    return _mostly(text, st.just("a" * (longest + 1)))


def _cel_pattern(schema: Schema) -> str | None:
    for rule in schema.get("x-kubernetes-validations", ()):
        found = re.fullmatch(r"self\.matches\('(.*)'\)", rule["rule"])
        if found:
            return found[1].replace("\\\\", "\\")
    return None


def _mostly(good: st.SearchStrategy[Any], bad: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    # Not 0 and not 49: Hypothesis draws the ends of a range far more often than once in fifty.
    return st.integers(0, 49).flatmap(lambda roll: bad if roll == 23 else good)
