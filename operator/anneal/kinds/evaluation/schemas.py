"""What the operator can tell of the JSON Schemas in a spec. CEL cannot read JSON, so the API server lets them in."""

from __future__ import annotations

from anneal.api.evaluation import EvaluationSpec
from anneal.api.json_schemas import parse_schema


def unusable_schema(spec: EvaluationSpec) -> str | None:
    """Why the first schema that cannot be used cannot; None when there is none such."""
    for n, metric in enumerate(spec.metrics):
        if metric.json_schema is None:
            continue
        try:
            parse_schema(metric.json_schema.schema_)
        except ValueError as error:
            return f"spec.metrics[{n}].jsonSchema.schema cannot be used: {error}"
    return None
