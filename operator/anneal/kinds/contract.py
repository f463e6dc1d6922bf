"""The three things that pass between the loop and a kind: what it wants to look at, what was seen, what should be.

The loop (`reconcile/`) is generic over kinds; a kind is a row of `Kind`. All of it is frozen: a plan is a value.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any, NamedTuple

from anneal.api.kind import KindInfo
from anneal.api.runs import ProgressReport
from anneal.estimate.accelerators import KNOWN, AcceleratorType

#: A Kubernetes object as JSON. Never changed in place.
Object = Mapping[str, Any]


class Key(NamedTuple):
    """The object to reconcile."""

    kind: str
    namespace: str
    name: str


class Reference(NamedTuple):
    """Another object of the same namespace that a plan wants to look at."""

    kind: str
    name: str


class Listing(NamedTuple):
    """All objects of a kind in the same namespace that a plan wants to look at, by exact labels (() is all)."""

    kind: str
    labels: tuple[tuple[str, str], ...] = ()


Wanted = Reference | Listing
#: What was found for each wish: an object or None for a Reference, a tuple of objects for a Listing.
Found = Mapping[Wanted, Object | tuple[Object, ...] | None]


@dataclass(frozen=True)
class Images:
    """The images that children run, from the operator's settings."""

    trainer: str
    evaluator: str
    triton: str
    vllm: str


@dataclass(frozen=True)
class ReportsEndpoint:
    """Where pods of this leader report progress. Changes with every leader; only a gap in progress comes of it."""

    url: str
    ca_pem: str
    audience: str


@dataclass(frozen=True)
class Planning:
    """What the operator is told about accelerators, for estimates."""

    accelerators: tuple[AcceleratorType, ...] = KNOWN
    prices: Mapping[str, Decimal] = field(default_factory=dict)
    """Price of an accelerator for an hour, by product or by resource name."""
    currency: str = "USD"

    def cost(self, name: str, accelerator_seconds: float) -> str | None:
        """What accelerators of that name cost for so long, such as "12.50 USD"; None without a price."""
        price = self.prices.get(name)
        if price is None:
            return None
        return f"{price * Decimal(accelerator_seconds) / 3600:.2f} {self.currency}"


@dataclass(frozen=True)
class Facts:
    """What a plan must know of the operator itself."""

    images: Images
    reports: ReportsEndpoint | None = None
    image_pull_policy: str = "IfNotPresent"
    planning: Planning = field(default_factory=Planning)
    hub: str = "https://huggingface.co"
    """The Hugging Face Hub of sources that name none."""


@dataclass(frozen=True)
class Seen:
    """Everything that was observed of one object in one pass, all read after the key was taken from the queue."""

    obj: Object
    """The object itself, raw, as the API server returned it."""
    children: tuple[Object, ...]
    """Everything that carries its uid in the label `anneal.dev/owner-uid`: Jobs, Pods, ConfigMaps, Deployments, ..."""
    found: Found
    """What `references` asked for."""
    facts: Facts
    """What the operator knows of itself."""
    progress: ProgressReport | None = None
    """The newest report of a running pod, if this leader has one."""

    @property
    def name(self) -> str:
        return str(self.obj["metadata"]["name"])

    @property
    def namespace(self) -> str:
        return str(self.obj["metadata"]["namespace"])

    @property
    def uid(self) -> str:
        return str(self.obj["metadata"]["uid"])

    @property
    def generation(self) -> int:
        return int(self.obj["metadata"].get("generation", 1))

    @property
    def status(self) -> Object:
        return self.obj.get("status") or {}

    def of_kind(self, kind: str, role: str | None = None) -> tuple[Object, ...]:
        """Children of a kind, and of a role if one is given, in the order of their names."""
        return tuple(
            c
            for c in self.children
            if c["kind"] == kind and (role is None or c["metadata"].get("labels", {}).get("anneal.dev/role") == role)
        )

    def one(self, kind: str, name: str) -> Object | None:
        """The child of that kind and name, or None."""
        return next((c for c in self.children if c["kind"] == kind and c["metadata"]["name"] == name), None)

    def get(self, kind: str, name: str) -> Object | None:
        """The other object that was asked for by Reference, or None when it does not exist."""
        found = self.found.get(Reference(kind, name))
        return found if isinstance(found, Mapping) else None

    def all(self, kind: str, labels: tuple[tuple[str, str], ...] = ()) -> tuple[Object, ...]:
        """The other objects that were asked for by Listing."""
        found = self.found.get(Listing(kind, labels), ())
        return found if isinstance(found, tuple) else ()


class Delete(NamedTuple):
    """A child to delete. The uid makes sure that it is this one and not a later one of the same name."""

    api_version: str
    kind: str
    name: str
    uid: str


@dataclass(frozen=True)
class Plan:
    """What should be. Applied in this order: objects, deletes, status."""

    apply: tuple[Object, ...] = ()
    """Complete manifests, dependencies first. Server-side apply: what is left out is left to others."""
    delete: tuple[Delete, ...] = ()
    """Children to remove, each only after its result is *seen* in status."""
    status: Mapping[str, Any] = field(default_factory=dict)
    """The whole status; its conditions without lastTransitionTime, which the loop knows."""
    requeue_after: float | None = None
    """Seconds until time alone changes the plan; None when only an event can."""


@dataclass(frozen=True)
class Kind:
    """One kind as the loop sees it."""

    info: KindInfo
    owns: tuple[tuple[str, str], ...]
    """(apiVersion, kind) of the children to list by owner label, Pods included where their results are read."""
    references: Callable[[Object, Found], frozenset[Wanted]]
    """Other objects to look at. Called again with what was found until it asks for nothing new, so that a plan can
    follow a name in one object to a name in another."""
    plan: Callable[[Seen, datetime], Plan]
    """Total: any Seen gives a Plan; a bad spec is a condition, not an exception."""
