"""An API server in memory, with the semantics that Anneal builds on and no others.

What it claims is what `tests/integration/test_api_server_facts.py` checks against a real API server. It is also where
tests break things: every write passes `before` and `after` (raise there to crash or refuse), reads can lag, and events
can be lost.
"""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from tests.support import field_managers
from tests.support.admission import refuse_immutable, refuse_invalid, with_defaults
from tests.support.clock import Clock

from anneal.api.kinds import BY_NAME
from anneal.kube.errors import ConflictError, NotFoundError, RefusedError

Object = Mapping[str, Any]

#: Kinds whose status has a door of its own.
WITH_STATUS = frozenset({"Job", "Deployment", "Pod", "PersistentVolumeClaim", "Service", *BY_NAME})
#: Kinds whose metadata.generation counts changes of spec.
WITH_GENERATION = frozenset({"Job", "Deployment", *BY_NAME})
#: Kinds that stay after their deletion for as long as their containers take to end.
GRACEFUL = frozenset({"Pod"})


class Id(NamedTuple):
    """Which object. The group is left out: no two kinds that Anneal touches share a name."""

    kind: str
    namespace: str
    name: str


class Stored(NamedTuple):
    """An object and who owns which of its fields."""

    obj: dict[str, Any]
    managers: dict[str, field_managers.Fields]


class Write(NamedTuple):
    """One write that reached the API server."""

    number: int
    verb: str
    id: Id
    subresource: str | None


class Event(NamedTuple):
    """One line of the watch feed."""

    type: str
    obj: Object


@dataclass(frozen=True)
class Token:
    """A service account token as TokenReview sees it."""

    audience: str
    namespace: str
    pod: str
    pod_uid: str


def _nothing(write: Write) -> None:
    del write


async def _at_once() -> None:
    return


@dataclass
class MemoryApi:
    """Implements `anneal.kube.interface.Cluster`; the methods that are not async are the cluster's and the test's."""

    clock: Clock = field(default_factory=Clock)
    namespaces: set[str] = field(default_factory=lambda: {"default", "team"})
    tokens: dict[str, Token] = field(default_factory=dict)
    before: Callable[[Write], None] = _nothing
    """Called before a write takes effect; raise here to refuse it or to crash before it."""
    after: Callable[[Write], None] = _nothing
    """Called after a write took effect; raise here to crash before the writer knows."""
    turn: Callable[[], Awaitable[None]] = _at_once
    """Awaited at the start of every request: lets others go first, or raises as an API server that cannot answer."""
    stale_by: int = 0
    """Writes that reads lag behind."""
    subscribers: list[Callable[[Event], None]] = field(default_factory=list)
    requests: Counter[tuple[str, str]] = field(default_factory=Counter)
    """Requests to write by the operator, by (verb, kind), those that changed nothing included."""
    changes: Counter[tuple[str, str]] = field(default_factory=Counter)
    """The same, without those that changed nothing."""
    created: Counter[Id] = field(default_factory=Counter)
    """How often each object came into being, whoever made it."""
    _objects: dict[Id, Stored] = field(default_factory=dict)
    _history: list[dict[Id, Stored]] = field(default_factory=list)
    _version: int = 0
    _ordered: tuple[int, list[Id]] = (-1, [])
    """The names of all objects in their order, and the version that it is for."""

    # Cluster: what the operator does

    async def get(self, api_version: str, kind: str, namespace: str, name: str) -> Object | None:
        await self.turn()
        stored = self._view().get(Id(kind, namespace, name))
        return stored.obj if stored else None

    async def list(
        self, api_version: str, kind: str, namespace: str | None, labels: Mapping[str, str] | None = None
    ) -> list[Object]:
        await self.turn()
        wanted = (labels or {}).items()
        return [
            s.obj
            for i, s in sorted(self._view().items())
            if i.kind == kind
            and namespace in (None, i.namespace)
            and wanted <= (s.obj["metadata"].get("labels") or {}).items()
        ]

    async def apply(self, obj: Object, *, manager: str, subresource: str | None = None) -> Object:
        await self.turn()
        ident = ident_of(obj)
        write = self._request("apply", ident, subresource)
        result = self._apply(ident, obj, manager, subresource)
        self.after(write)
        return result

    async def delete(self, api_version: str, kind: str, namespace: str, name: str, uid: str) -> None:
        await self.turn()
        ident = Id(kind, namespace, name)
        write = self._request("delete", ident, None)
        stored = self._objects.get(ident)
        if stored is not None and stored.obj["metadata"]["uid"] == uid:
            self.remove(ident)
            self.changes["delete", kind] += 1
        self.after(write)

    async def create(self, obj: Object) -> Object:
        await self.turn()
        kind, meta = obj["kind"], obj["metadata"]
        if kind == "TokenReview":
            self._request("create", Id(kind, "", ""), None)
            return self._review(obj)
        name = meta.get("name") or f"{meta['generateName']}{self._version:05d}"
        ident = Id(kind, meta.get("namespace", ""), name)
        write = self._request("create", ident, None)
        if ident in self._objects:
            raise ConflictError(f'{kind.lower()}s "{name}" already exists')
        created = self._create(ident, {**obj, "metadata": {**meta, "name": name}}, "create")
        self.after(write)
        return created

    # The rest of the world: users, controllers, kubelets

    def put(self, obj: Object) -> Object:
        """`kubectl apply` by a user or a controller: spec and metadata, not counted as a write of the operator."""
        return self._apply(ident_of(obj), obj, "user", None)

    def put_status(self, ident: Id, status: Mapping[str, Any]) -> None:
        """A controller or a kubelet replaces the whole status of an object."""
        stored = self._objects[ident]
        self._store(ident, {**stored.obj, "status": dict(status)}, stored.managers)

    def annotate(self, ident: Id, **metadata: Any) -> None:
        """A controller changes top-level members of metadata, such as deletionTimestamp."""
        stored = self._objects[ident]
        self._store(ident, {**stored.obj, "metadata": {**stored.obj["metadata"], **metadata}}, stored.managers)

    def remove(self, ident: Id) -> None:
        """`kubectl delete`: at once, or marked while there are finalizers."""
        stored = self._objects.get(ident)
        if stored is None:
            return
        if stored.obj["metadata"].get("finalizers") or ident.kind in GRACEFUL:
            if "deletionTimestamp" not in stored.obj["metadata"]:
                self.annotate(ident, deletionTimestamp=self.clock.text())
            return
        self.forget(ident)

    def forget(self, ident: Id) -> None:
        """The object is gone: its last finalizer is, or its containers have ended."""
        gone = self._objects[ident].obj
        self._remember()
        del self._objects[ident]
        self._version += 1
        self._emit("DELETED", gone)

    def peek(self, kind: str, name: str, namespace: str = "team") -> Object | None:
        """The object as it is now, however stale reads are."""
        stored = self._objects.get(Id(kind, namespace, name))
        return stored.obj if stored else None

    def all(self, *kinds: str) -> list[Object]:
        """All objects (of these kinds) as they are now."""
        if self._ordered[0] != self._version:
            self._ordered = (self._version, sorted(self._objects))
        return [self._objects[i].obj for i in self._ordered[1] if not kinds or i.kind in kinds]

    def catch_up(self) -> None:
        """Reads see everything that is written up to now."""
        self._history = []

    @property
    def version(self) -> int:
        """Changes so far."""
        return self._version

    def fork(self, clock: Clock) -> MemoryApi:
        """A second API server in the same state, without subscribers and hooks."""
        twin = MemoryApi(clock, set(self.namespaces), dict(self.tokens))
        twin.created = self.created.copy()
        twin._objects = dict(self._objects)
        twin._version = self._version
        return twin

    # How

    def _view(self) -> dict[Id, Stored]:
        if not self.stale_by or not self._history:
            return self._objects
        return self._history[-min(self.stale_by, len(self._history))]

    def _remember(self) -> None:
        if self.stale_by:
            self._history = [*self._history, dict(self._objects)][-self.stale_by :]

    def _request(self, verb: str, ident: Id, subresource: str | None) -> Write:
        self.requests[verb, ident.kind] += 1
        write = Write(self.requests.total(), verb, ident, subresource)
        self.before(write)
        return write

    def _apply(self, ident: Id, wanted: Object, manager: str, subresource: str | None) -> Object:
        stored = self._objects.get(ident)
        uid = wanted["metadata"].get("uid")
        if stored is None:
            if subresource is not None:
                raise NotFoundError(f'{ident.kind.lower()}s "{ident.name}" not found')
            if uid is not None:
                raise ConflictError(f'Operation cannot be fulfilled on "{ident.name}": uid mismatch: it is gone')
            return self._create(ident, wanted, manager)
        live = stored.obj
        version = wanted["metadata"].get("resourceVersion")
        if version not in (None, live["metadata"]["resourceVersion"]):
            raise ConflictError(f'Operation cannot be fulfilled on "{ident.name}": the object has been modified')
        if subresource is None and uid not in (None, live["metadata"]["uid"]):
            raise RefusedError(f'{ident.kind} "{ident.name}" is invalid: metadata.uid: field is immutable')
        said = _said(wanted, subresource)
        body, managers = field_managers.apply(live, said, stored.managers, f"{manager}/{subresource or ''}")
        body = with_defaults(body)
        refuse_immutable(live, body)
        if body == live:
            self._objects[ident] = Stored(live, managers)
            return live
        if manager != "user":
            self.changes["apply", ident.kind] += 1
        return self._store(ident, body, managers)

    def _create(self, ident: Id, wanted: Object, manager: str) -> Object:
        if ident.namespace and ident.namespace not in self.namespaces:
            raise NotFoundError(f'namespaces "{ident.namespace}" not found')
        said = _said(wanted, None)
        self.created[ident] += 1
        meta = {
            **said.get("metadata", {}),
            "name": ident.name,
            "namespace": ident.namespace,
            "uid": str(uuid.uuid5(uuid.NAMESPACE_OID, f"{'/'.join(ident)}/{self.created[ident]}")),
            "creationTimestamp": self.clock.text(),
        }
        body = {**said, "apiVersion": wanted["apiVersion"], "kind": wanted["kind"], "metadata": meta}
        if manager != "user":
            self.changes["create" if manager == "create" else "apply", ident.kind] += 1
        return self._store(ident, body, {f"{manager}/": frozenset(field_managers.fields_of(said))})

    def _store(self, ident: Id, body: dict[str, Any], managers: dict[str, field_managers.Fields]) -> Object:
        body = with_defaults(body)
        refuse_invalid(body)
        self._remember()
        old = self._objects.get(ident)
        self._version += 1
        meta = {**body["metadata"], "resourceVersion": str(self._version)}
        if ident.kind in WITH_GENERATION:
            generation = old.obj["metadata"]["generation"] if old else 0
            meta["generation"] = generation + (old is None or old.obj.get("spec") != body.get("spec"))
        stored = Stored({**body, "metadata": meta}, managers)
        if meta.get("deletionTimestamp") and not meta.get("finalizers") and ident.kind not in GRACEFUL:
            del self._objects[ident]
            self._emit("DELETED", stored.obj)
        else:
            self._objects[ident] = stored
            self._emit("MODIFIED" if old else "ADDED", stored.obj)
        return stored.obj

    def _emit(self, type_: str, obj: Object) -> None:
        for subscriber in self.subscribers:
            subscriber(Event(type_, obj))

    def _review(self, obj: Object) -> Object:
        token = self.tokens.get(obj["spec"]["token"])
        audiences = obj["spec"].get("audiences", [])
        if token is None or token.audience not in audiences:
            return {**obj, "status": {"authenticated": False, "error": "invalid bearer token"}}
        extra = {
            "authentication.kubernetes.io/pod-name": [token.pod],
            "authentication.kubernetes.io/pod-uid": [token.pod_uid],
        }
        user = {"username": f"system:serviceaccount:{token.namespace}:default", "extra": extra}
        return {**obj, "status": {"authenticated": True, "audiences": [token.audience], "user": user}}


def ident_of(obj: Object) -> Id:
    """Which object a manifest is."""
    return Id(obj["kind"], obj["metadata"].get("namespace", ""), obj["metadata"]["name"])


def _said(wanted: Object, subresource: str | None) -> dict[str, Any]:
    """What an apply to that door can say: status only through /status, and nothing else there."""
    identity = {m: v for m, v in wanted["metadata"].items() if m in ("name", "namespace")}
    if subresource == "status":
        return {"metadata": identity, "status": wanted.get("status", {})}
    metadata = {m: v for m, v in wanted["metadata"].items() if m not in ("uid", "resourceVersion", "managedFields")}
    closed = {"status"} if wanted["kind"] in WITH_STATUS else set()
    return {m: v for m, v in wanted.items() if m not in {"metadata", "apiVersion", "kind", *closed}} | {
        "metadata": metadata
    }
