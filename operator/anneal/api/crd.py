"""Generates crds/ (and the chart's copy) from the API models: `python -m anneal.api.crd`.

pydantic's JSON schema is not what the API server takes: references must be inlined, optional fields must be absent
rather than nullable, exclusive bounds are booleans, and several keywords are refused. Each rewrite below is one rule
with its reason. Descriptions, bounds, patterns, list types and CEL rules pass through unchanged.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import yaml

from anneal.api import GROUP, VERSION
from anneal.api.kind import Column, KindInfo
from anneal.api.kinds import KINDS

Schema = dict[str, Any]

REPOSITORY = Path(__file__).resolve().parents[3]
CRDS = REPOSITORY / "crds"
CHART_CRDS = REPOSITORY / "charts" / "anneal" / "templates" / "crds"
HEADER = "# Generated from operator/anneal/api by `make generate`; do not edit.\n"

#: Keywords that the API server refuses or that only repeat what is there.
_DROPPED = ("title", "examples", "additionalProperties", "const", "discriminator", "x-anneal-server-default")


def structural(schema: Schema, definitions: Schema, path: str) -> Schema:
    """The structural schema that the API server takes for a pydantic one. Raises ValueError for what has none."""
    schema = _optional_is_absent(_inlined(schema, definitions, path), definitions, path)
    if "const" in schema:
        schema["enum"] = [schema["const"]]
    if "prefixItems" in schema or "oneOf" in schema or "anyOf" in schema:
        raise ValueError(f"{path}: tuples and unions have no structural schema; use one optional member per variant")
    if "type" not in schema:
        raise ValueError(f"{path}: a schema without a type is not structural")
    if not schema.get("x-anneal-server-default"):
        schema.pop("default", None)
    if isinstance(schema.get("additionalProperties"), dict):
        return _map(schema, definitions, path)
    for bound in ("exclusiveMinimum", "exclusiveMaximum"):
        if bound in schema:
            schema["minimum" if bound == "exclusiveMinimum" else "maximum"] = schema[bound]
            schema[bound] = True
    if "properties" in schema:
        schema["properties"] = {
            name: structural(member, definitions, f"{path}.{name}") for name, member in schema["properties"].items()
        }
    if "items" in schema:
        schema["items"] = structural(schema["items"], definitions, f"{path}[]")
        schema["items"].pop("description", None)
    return {k: v for k, v in schema.items() if k not in _DROPPED}


def _inlined(schema: Schema, definitions: Schema, path: str) -> Schema:
    """`$ref` replaced by what it names; what stands beside it (the field's own description) wins."""
    if "$ref" not in schema:
        return dict(schema)
    if path.count(".") > 12:
        raise ValueError(f"{path}: recursive models have no structural schema")
    beside = {k: v for k, v in schema.items() if k != "$ref"}
    return {**definitions[schema["$ref"].rpartition("/")[2]], **beside}


def _optional_is_absent(schema: Schema, definitions: Schema, path: str) -> Schema:
    """`X | None` becomes X: in Kubernetes an optional field is absent, not null."""
    branches = [b for b in schema.get("anyOf", ()) if b.get("type") != "null"]
    if len(branches) != 1:
        return schema
    beside = {k: v for k, v in schema.items() if k not in ("anyOf", "default")}
    return {**_inlined(branches[0], definitions, path), **beside}


def _map(schema: Schema, definitions: Schema, path: str) -> Schema:
    """A map of strings: pydantic bounds it with minProperties/maxProperties, keys with propertyNames (not allowed)."""
    value = structural(schema["additionalProperties"], definitions, f"{path}.*")
    kept = {k: v for k, v in schema.items() if k not in (*_DROPPED, "propertyNames", "patternProperties")}
    return {**kept, "additionalProperties": value}


def crd(info: KindInfo) -> Schema:
    """The CustomResourceDefinition of a kind."""
    raw = info.model.model_json_schema(by_alias=True, mode="validation")
    schema = structural(raw, raw.get("$defs", {}), info.kind)
    schema.pop("$defs", None)
    schema["properties"] = {
        "apiVersion": {"type": "string", "description": f"{GROUP}/{VERSION}"},
        "kind": {"type": "string", "description": info.kind},
        "metadata": {"type": "object"},
        **schema["properties"],
    }
    if info.rules:
        schema["x-kubernetes-validations"] = [dict(r) for r in info.rules]
    subresources: Schema = {"status": {}}
    if info.scale is not None:
        subresources["scale"] = {
            "specReplicasPath": info.scale.spec_replicas,
            "statusReplicasPath": info.scale.status_replicas,
            "labelSelectorPath": info.scale.selector,
        }
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{info.plural}.{GROUP}", "labels": {"app.kubernetes.io/part-of": "anneal"}},
        "spec": {
            "group": GROUP,
            "scope": "Namespaced",
            "names": {
                "kind": info.kind,
                "listKind": f"{info.kind}List",
                "plural": info.plural,
                "singular": info.singular,
                "shortNames": list(info.short_names),
                "categories": list(info.categories),
            },
            "versions": [
                {
                    "name": VERSION,
                    "served": True,
                    "storage": True,
                    "schema": {"openAPIV3Schema": schema},
                    "subresources": subresources,
                    "selectableFields": [{"jsonPath": p} for p in info.selectable_fields],
                    "additionalPrinterColumns": [_column(c) for c in info.columns],
                }
            ],
        },
    }


def _column(column: Column) -> Schema:
    entry: Schema = {"name": column.name, "type": column.type, "jsonPath": column.path}
    if column.description:
        entry["description"] = column.description
    if column.priority:
        entry["priority"] = column.priority
    return entry


class _Plain(yaml.SafeDumper):
    """YAML without anchors: every field reads on its own."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


# kubectl and Helm still read YAML 1.1, where a bare `n` is false; it is the name of a field of ours.
_Plain.add_implicit_resolver("tag:yaml.org,2002:bool", re.compile("^[yYnN]$"), list("yYnN"))


def render(definition: Schema) -> str:
    """The CRD as YAML, keys in reading order."""
    return HEADER + yaml.dump(definition, Dumper=_Plain, sort_keys=False, width=110, allow_unicode=True)


def chart_template(definition: Schema) -> str:
    """The CRD as a Helm template: kept when the release is removed, so that no user's object dies with a chart."""
    kept = {**definition, "metadata": {**definition["metadata"], "annotations": {"helm.sh/resource-policy": "keep"}}}
    body = render(kept).removeprefix(HEADER).replace("{{", "{{ `{{` }}")
    return f"{HEADER}{{{{- if .Values.crds.install }}}}\n{body}{{{{- end }}}}\n"


def generated() -> dict[Path, str]:
    """Every generated file with its content."""
    files: dict[Path, str] = {}
    for info in KINDS:
        name = f"{GROUP}_{info.plural}.yaml"
        definition = crd(info)
        files[CRDS / name] = render(definition)
        files[CHART_CRDS / name] = chart_template(definition)
    return files


def main() -> int:
    for path, content in generated().items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
        sys.stdout.write(f"{path.relative_to(REPOSITORY)}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
