"""What a CustomResourceDefinition needs to know about a kind beyond its fields."""

from __future__ import annotations

from dataclasses import dataclass

from anneal.api import API_VERSION
from anneal.api.model import ApiModel


@dataclass(frozen=True)
class Column:
    """A column of `kubectl get`. `priority` 1 shows only with `-o wide`."""

    name: str
    path: str
    type: str = "string"
    priority: int = 0
    description: str = ""


@dataclass(frozen=True)
class Scale:
    """JSON paths of the scale subresource, for `kubectl scale` and autoscalers."""

    spec_replicas: str
    status_replicas: str
    selector: str


@dataclass(frozen=True)
class KindInfo:
    """One kind: its names, its model, and what its CRD shows."""

    kind: str
    plural: str
    singular: str
    short_names: tuple[str, ...]
    model: type[ApiModel]
    columns: tuple[Column, ...]
    rules: tuple[dict[str, str], ...] = ()
    selectable_fields: tuple[str, ...] = ()
    scale: Scale | None = None
    api_version: str = API_VERSION
    categories: tuple[str, ...] = ("anneal",)
