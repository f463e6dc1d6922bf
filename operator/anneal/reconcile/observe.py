"""Looking: everything that a plan needs, read from the API server in this pass. Nothing here writes.

Nothing is cached. An event or a cache may be late or wrong; a decision to write is only ever taken on what the API
server says now.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol

from anneal.api.runs import ProgressReport
from anneal.kinds.children import OWNER_UID
from anneal.kinds.contract import Facts, Found, Key, Kind, Listing, Object, Reference, Seen, Wanted
from anneal.kube.interface import Cluster
from anneal.kube.resources import resource_of


class ProgressSource(Protocol):
    """Where the newest report of a running pod is kept, by the uid of the object that it works for."""

    def get(self, uid: str) -> ProgressReport | None: ...


async def observe(
    cluster: Cluster,
    kind: Kind,
    key: Key,
    *,
    facts: Facts,
    progress: ProgressSource,
    on_wanted: Callable[[frozenset[Wanted]], None],
) -> Seen | None:
    """All that is seen of `key`, or None when it is gone or going: then nothing must be made for it any more.

    `on_wanted` is told of other objects before they are looked at, so that no change of theirs falls between looking
    and knowing that it matters.
    """
    obj = await cluster.get(kind.info.api_version, key.kind, key.namespace, key.name)
    if obj is None or "deletionTimestamp" in obj["metadata"]:
        return None
    children, found = await asyncio.gather(_children(cluster, kind, obj), _found(cluster, kind, obj, on_wanted))
    return Seen(obj=obj, children=children, found=found, facts=facts, progress=progress.get(obj["metadata"]["uid"]))


async def _children(cluster: Cluster, kind: Kind, obj: Object) -> tuple[Object, ...]:
    """What carries the object's uid as a label and is controlled by it, in the order of `owns` and of names.

    A pod is controlled by something between it and the object. What has no controller, or another of our objects, is
    a copy that somebody made with its labels, and no child.
    """
    namespace, uid = obj["metadata"]["namespace"], obj["metadata"]["uid"]
    lists = await asyncio.gather(
        *(cluster.list(api_version, name, namespace, {OWNER_UID: uid}) for api_version, name in kind.owns)
    )
    return tuple(
        child
        for children in lists
        for child in sorted(children, key=lambda c: str(c["metadata"]["name"]))
        if (owner := controller(child)) is not None and (owner["uid"] == uid or owner["kind"] != obj["kind"])
    )


async def _found(cluster: Cluster, kind: Kind, obj: Object, on_wanted: Callable[[frozenset[Wanted]], None]) -> Found:
    found: dict[Wanted, Object | tuple[Object, ...] | None] = {}
    while new := kind.references(obj, found) - found.keys():
        on_wanted(new)
        for wish in sorted(new, key=str):
            found[wish] = await _look(cluster, obj["metadata"]["namespace"], wish)
    return found


async def _look(cluster: Cluster, namespace: str, wish: Wanted) -> Object | tuple[Object, ...] | None:
    api_version = resource_of(wish.kind).api_version
    match wish:
        case Reference(kind, name):
            return await cluster.get(api_version, kind, namespace, name)
        case Listing(kind, labels):
            listed = await cluster.list(api_version, kind, namespace, dict(labels))
            return tuple(sorted(listed, key=lambda o: str(o["metadata"]["name"])))


def controller(obj: Object) -> Object | None:
    """The owner reference of the one that manages `obj`, or None."""
    references: list[Object] = obj["metadata"].get("ownerReferences", [])
    return next((r for r in references if r.get("controller")), None)
