"""Conditions: the part of status that programs wait on.

`kubectl wait --for=condition=Complete` and kstatus (Argo CD, Flux) both read this list. A condition that a plan
makes carries no time: when it last changed is known only beside the old status, in `reconcile/status.py`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Literal

from pydantic import Field

from anneal.api.model import ApiModel, Sentence, Timestamp

ConditionStatus = Literal["True", "False", "Unknown"]


class Condition(ApiModel):
    """One observation of the object's state, in the shape that all of Kubernetes uses."""

    type: str = Field(max_length=64, description="Name of the condition, in CamelCase.")
    status: ConditionStatus = Field(description="True, False or Unknown.")
    reason: str = Field(max_length=64, description="Why, in one CamelCase word out of a closed list per kind.")
    message: Sentence = Field(default="", description="Why, in a sentence for people, with what to do.")
    observed_generation: int = Field(
        default=0, ge=0, description="The metadata.generation that this condition speaks of."
    )
    last_transition_time: Timestamp | None = Field(default=None, description="When `status` last changed, RFC 3339.")


Conditions = Annotated[
    list[Condition],
    Field(
        max_length=16,
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]},
        description="What is true of the object now; see each condition's reason and message.",
    ),
]


def find(status: Mapping[str, Any] | None, type_: str) -> Mapping[str, Any] | None:
    """The condition of that type in a raw status, or None."""
    for condition in (status or {}).get("conditions", ()):
        if condition.get("type") == type_:
            found: Mapping[str, Any] = condition
            return found
    return None


def is_true(obj: Mapping[str, Any] | None, type_: str) -> bool:
    """Whether the raw object has that condition with status True."""
    condition = find((obj or {}).get("status"), type_)
    return condition is not None and condition.get("status") == "True"


def bounded(message: str, limit: int = 1024) -> str:
    """`message` cut to what a condition may hold, the cut marked."""
    return message if len(message) <= limit else message[: limit - 1] + "…"


def to_status(conditions: Iterable[Condition]) -> list[dict[str, Any]]:
    """Conditions as they go into a raw status, in the given order."""
    return [c.to_json() for c in conditions]
