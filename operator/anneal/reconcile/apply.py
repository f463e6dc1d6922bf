"""Making it so: what a plan asks for, written to the API server. Nothing here decides what should be.

A child that already is as it should be is not written, and an object that is not ours is never overwritten.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from anneal.kinds.contract import Object, Plan, Seen
from anneal.kube.errors import NotFoundError, RefusedError
from anneal.kube.interface import Cluster
from anneal.reconcile.observe import controller

#: Field managers of server-side apply, one per concern.
CHILDREN_MANAGER = "anneal"
STATUS_MANAGER = "anneal-status"


@dataclass(frozen=True)
class Obstacle:
    """What keeps a plan from being carried out, as it goes into a condition."""

    reason: str
    message: str


async def apply_children(cluster: Cluster, seen: Seen, plan: Plan) -> Obstacle | None:
    """Apply and delete the children that the plan names, in its order, up to the first obstacle, which is returned.

    Raises ConflictError and UnavailableError: the same plan may work in a moment.
    """
    for manifest in plan.apply:
        obstacle = await _apply(cluster, seen, manifest)
        if obstacle is not None:
            return obstacle
    going = {c["metadata"]["uid"] for c in seen.children if "deletionTimestamp" in c["metadata"]}
    for child in plan.delete:
        if child.uid not in going:
            await cluster.delete(child.api_version, child.kind, seen.namespace, child.name, child.uid)
    return None


async def apply_status(cluster: Cluster, obj: Object, status: Mapping[str, Any]) -> None:
    """Write the whole status of `obj` as it was seen.

    The uid keeps the write from creating the object anew, the resourceVersion keeps an older view from replacing a
    newer one. Raises ConflictError or NotFoundError when the object is another or gone by now.
    """
    metadata = {name: obj["metadata"][name] for name in ("name", "namespace", "uid", "resourceVersion")}
    document = {"apiVersion": obj["apiVersion"], "kind": obj["kind"], "metadata": metadata, "status": dict(status)}
    await cluster.apply(document, manager=STATUS_MANAGER, subresource="status")


async def _apply(cluster: Cluster, seen: Seen, manifest: Object) -> Obstacle | None:
    kind, name = manifest["kind"], manifest["metadata"]["name"]
    live = seen.one(kind, name)
    if live is not None and contains(live, manifest):
        return None
    try:
        if live is None:
            # Not among the children: it does not exist, or it is somebody else's.
            live = await cluster.get(manifest["apiVersion"], kind, seen.namespace, name)
            owner = controller(live) if live is not None else None
            if live is not None and (owner is None or owner["uid"] != seen.uid):
                return Obstacle(
                    "NameTaken",
                    f"{kind} '{name}' exists already and does not belong to this object, so it is left as it is;"
                    f" delete it or create this object under another name.",
                )
        await cluster.apply(manifest, manager=CHILDREN_MANAGER)
    except (RefusedError, NotFoundError) as error:
        return Obstacle("ApplyRefused", f"The API server refused {kind} '{name}': {error}")
    return None


def contains(live: Any, wanted: Any, field: str = "") -> bool:
    """Whether everything that `wanted` says is already so in `live`, whatever else `live` says.

    Lists must agree in length and order. What the API server rewrites or leaves out when it stores an object is no
    difference: quantities ("1000m" and "1") and fields with their zero value.
    """
    match wanted:
        case Mapping():
            inner = field in _OF_QUANTITIES
            return isinstance(live, Mapping) and all(
                contains(live[name], value, _QUANTITY if inner else name) if name in live else _is_zero(value)
                for name, value in wanted.items()
            )
        case list() | tuple():
            return (
                isinstance(live, list | tuple)
                and len(live) == len(wanted)
                and all(contains(mine, theirs) for mine, theirs in zip(live, wanted, strict=True))
            )
        case str() if field in (_QUANTITY, "sizeLimit") and isinstance(live, str):
            return live == wanted or _amount(live) == _amount(wanted)
        case _:
            return bool(live == wanted)


_QUANTITY = "<quantity>"
_OF_QUANTITIES = ("requests", "limits")
_SUFFIXES = {
    **{
        suffix: Decimal(1000) ** power for power, suffix in enumerate(("m", "", "k", "M", "G", "T", "P", "E"), start=-1)
    },
    **{suffix: Decimal(1024) ** power for power, suffix in enumerate(("Ki", "Mi", "Gi", "Ti", "Pi", "Ei"), start=1)},
}


def _amount(quantity: str) -> Decimal | str:
    """The number that a Kubernetes quantity stands for; text that is none stands for itself."""
    digits = quantity.rstrip("KMGTPEikm")
    try:
        return Decimal(digits) * _SUFFIXES[quantity[len(digits) :]]
    except (ArithmeticError, KeyError):
        return quantity


def _is_zero(value: Any) -> bool:
    return value is None or (isinstance(value, bool | int | str) and not value)
