"""The five things that the operator does with an API server. `client` does them for real; tests do them in memory.

Only `apply`, `delete` and `create` write, and only `reconcile/apply.py`, `events.py` and `reports/` call them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

Object = Mapping[str, Any]


class Cluster(Protocol):
    """An API server. Every method raises only errors of `kube.errors`."""

    async def get(self, api_version: str, kind: str, namespace: str, name: str) -> Object | None:
        """The object, or None when it does not exist."""
        ...

    async def list(
        self, api_version: str, kind: str, namespace: str | None, labels: Mapping[str, str] | None = None
    ) -> list[Object]:
        """All objects of a kind with these exact labels, in one namespace or (None) in all; each with its kind."""
        ...

    async def apply(self, obj: Object, *, manager: str, subresource: str | None = None) -> Object:
        """Server-side apply with force: creates or updates what `obj` names. With metadata.uid it never creates.

        Raises ConflictError when there is no object of that uid or metadata.resourceVersion is not its newest,
        RefusedError when metadata.uid is another object's, NotFoundError for the status of an absent object. The way
        to /status does not look at the uid of what exists: only the resourceVersion keeps a status from a namesake.
        """
        ...

    async def delete(self, api_version: str, kind: str, namespace: str, name: str, uid: str) -> None:
        """Delete in the background if it is still this uid; an absent object or another uid is success."""
        ...

    async def create(self, obj: Object) -> Object:
        """Create an object that has no name to apply by: an Event, a TokenReview."""
        ...
