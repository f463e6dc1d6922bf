"""What the API server in memory knows of kinds: what it adds to a spec, what may not change, what it refuses."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

from pydantic import ValidationError

from anneal.api.crd import crd
from anneal.api.kinds import BY_NAME
from anneal.kube.errors import RefusedError

Object = Mapping[str, Any]

#: Parts of a spec that the API server refuses to change, per kind.
IMMUTABLE: Mapping[str, tuple[str, ...]] = {
    "Job": ("template", "selector", "completions", "completionMode", "podFailurePolicy", "backoffLimitPerIndex"),
    "Deployment": ("selector",),
    "PersistentVolumeClaim": ("accessModes", "storageClassName", "volumeMode"),
}
#: What the API server adds to a spec and Anneal may see.
DEFAULTS: Mapping[str, Mapping[str, Any]] = {
    "Job": {"suspend": False, "parallelism": 1, "completions": 1, "completionMode": "NonIndexed"},
    "Deployment": {"replicas": 1, "revisionHistoryLimit": 10, "progressDeadlineSeconds": 600},
    "PersistentVolumeClaim": {"volumeMode": "Filesystem"},
    "ModelDeployment": {"replicas": 1},
}


def with_defaults(body: dict[str, Any]) -> dict[str, Any]:
    """With what the API server adds, at every write, where nobody says anything."""
    defaults = DEFAULTS.get(body["kind"], {})
    missing = defaults.keys() - body.get("spec", {}).keys()
    if not missing:
        return body
    return {**body, "spec": {**{m: defaults[m] for m in defaults if m in missing}, **body.get("spec", {})}}


def refuse_immutable(live: Object, body: Object) -> None:
    for member in IMMUTABLE.get(body["kind"], ()):
        old, new = live["spec"].get(member), body["spec"].get(member)
        if old != new:
            raise RefusedError(f"{_named(body)} is invalid: spec.{member}: field is immutable")


def refuse_invalid(body: Object) -> None:
    """Our own kinds pass their schema, in spec and in status, as the CRD demands."""
    info = BY_NAME.get(body["kind"])
    if info is None:
        return
    if (wrong := next(_undeclared(body, _schema(info.kind)), None)) is not None:
        raise RefusedError(f"{_named(body)}: {wrong}: field not declared in schema")
    try:
        info.model.model_validate(body)
    except ValidationError as error:
        raise RefusedError(f"{_named(body)} is invalid: {error}") from error


@cache
def _schema(kind: str) -> Mapping[str, Any]:
    found: Mapping[str, Any] = crd(BY_NAME[kind])["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    return found


def _undeclared(value: Any, schema: Mapping[str, Any], path: str = "") -> Iterator[str]:
    """Paths of members that the schema does not have, and of nulls."""
    if value is None:
        yield path
    elif isinstance(value, dict):
        for name, child in value.items():
            inner = schema.get("properties", {}).get(name) or schema.get("additionalProperties")
            if inner is not None:
                yield from _undeclared(child, inner, f"{path}.{name}")
            elif "properties" in schema:
                yield f"{path}.{name}"
    elif isinstance(value, list):
        for child in value:
            yield from _undeclared(child, schema.get("items", {}), path)


def _named(body: Object) -> str:
    return f'{body["kind"]} "{body["metadata"]["name"]}"'
