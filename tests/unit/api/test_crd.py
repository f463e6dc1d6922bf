"""The generated CRDs are fresh, described, bounded, and free of floats."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from anneal.api import crd as generator
from anneal.api.kind import KindInfo
from anneal.api.kinds import KINDS

#: How a description may say what holds when the field is absent.
_TELLS_DEFAULT = ("Default", "instead of", "until it is removed", "means all")


def test_generated_files_are_fresh() -> None:
    for path, content in generator.generated().items():
        assert path.read_text() == content, f"{path.name} is stale: run `make generate`"


def test_no_other_crd_lies_there() -> None:
    listed = {p for folder in (generator.CRDS, generator.CHART_CRDS) for p in folder.glob("anneal.dev_*.yaml")}
    assert listed == set(generator.generated())


def schema_of(kind: KindInfo) -> dict[str, Any]:
    found: dict[str, Any] = generator.crd(kind)["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    return found


def fields(schema: dict[str, Any], path: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every field below a schema with its path."""
    for name, member in schema.get("properties", {}).items():
        yield f"{path}.{name}", member
        yield from fields(member, f"{path}.{name}")
    if "items" in schema:
        yield from fields(schema["items"], f"{path}[]")


@pytest.mark.parametrize("kind", KINDS, ids=[k.kind for k in KINDS])
def test_every_field_is_described_and_bounded(kind: KindInfo) -> None:
    for path, field in fields(schema_of(kind), kind.kind):
        if path.endswith((".metadata", ".apiVersion", ".kind")):
            continue
        assert field.get("description", "").strip(), f"{path} has no description"
        if field["type"] == "string":
            assert "maxLength" in field or "enum" in field or "pattern" in field, f"{path} is unbounded"
        if field["type"] == "array":
            assert "maxItems" in field, f"{path} is unbounded"
            assert "x-kubernetes-list-type" in field, f"{path} does not say how lists merge"
        if "additionalProperties" in field:
            assert "maxProperties" in field, f"{path} is unbounded"
        assert field["type"] != "number", f"{path} is a float"


@pytest.mark.parametrize("kind", KINDS, ids=[k.kind for k in KINDS])
def test_every_optional_field_of_spec_tells_its_default(kind: KindInfo) -> None:
    spec = schema_of(kind)["properties"]["spec"]
    for path, field in fields({"properties": {"spec": spec}}, kind.kind):
        parent, _, name = path.rpartition(".")
        if field["type"] == "object" or name in required_below(spec, parent):
            continue
        told = any(word in field["description"] for word in _TELLS_DEFAULT)
        assert told, f"{path} does not tell its default"


def required_below(spec: dict[str, Any], path: str) -> set[str]:
    """Names that the object at `path` requires."""
    place: dict[str, Any] = {"properties": {"spec": spec}}
    for part in path.split(".")[1:]:
        place = place["properties"][part.removesuffix("[]")]
        if part.endswith("[]"):
            place = place["items"]
    return set(place.get("required", ()))


def test_only_replicas_is_defaulted_by_the_server() -> None:
    defaulted = {path for kind in KINDS for path, field in fields(schema_of(kind), kind.kind) if "default" in field}
    assert defaulted == {"ModelDeployment.spec.replicas"}


def test_a_union_is_refused_by_the_generator() -> None:
    with pytest.raises(ValueError, match=r"here: tuples and unions"):
        generator.structural({"anyOf": [{"type": "string"}, {"type": "integer"}], "type": "string"}, {}, "here")
