"""An API server under test, real or in memory, behind one face: what facts are checked against."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Protocol

from tests.conftest import KubernetesUnderTest
from tests.support import builders
from tests.support.kubelet import Kubelet
from tests.support.memory_api import MemoryApi, Token
from tests.support.world import World

from anneal.kube.interface import Cluster, Object

#: Field managers: the loop's two, and another program's.
OWNER, STATUS, OTHER = "anneal", "anneal-status", "somebody-else"


class Backstage(Protocol):
    """What a test needs besides the cluster itself."""

    async def bound_token(self, pod: Object, audience: str) -> str:
        """A token of that audience, bound to the pod."""
        ...

    async def eventually(self, is_so: Callable[[], Awaitable[bool]]) -> None:
        """Let controllers work until `is_so`."""
        ...


@dataclass
class Server:
    """An API server under test, with a namespace for one test."""

    cluster: Cluster
    namespace: str
    backstage: Backstage

    def manifest(self, kind: str, name: str = "x", **more: Any) -> dict[str, Any]:
        api_version = {"Job": "batch/v1"}.get(kind, "v1")
        metadata = {"name": name, "namespace": self.namespace, **more.pop("metadata", {})}
        return {"apiVersion": api_version, "kind": kind, "metadata": metadata, **more}

    def config_map(self, name: str = "x", /, **data: str) -> dict[str, Any]:
        return self.manifest("ConfigMap", name, data=data)

    def own(self, obj: dict[str, Any]) -> dict[str, Any]:
        """One of the builders' objects, in this namespace."""
        return {**obj, "metadata": {**obj["metadata"], "namespace": self.namespace}}

    def status_of(self, live: Object, **status: Any) -> dict[str, Any]:
        """The manifest of a status write, as the loop sends it."""
        metadata = {m: live["metadata"][m] for m in ("name", "namespace", "uid")}
        return {"apiVersion": live["apiVersion"], "kind": live["kind"], "metadata": metadata, "status": status}

    async def write_status(self, live: Object, manager: str = STATUS, **status: Any) -> Object:
        return await self.cluster.apply(self.status_of(live, **status), manager=manager, subresource="status")


class InMemory:
    def __init__(self, api: MemoryApi) -> None:
        self._api = api
        self._world = World(api, Kubelet(api, builders.all_goes_well))

    async def bound_token(self, pod: Object, audience: str) -> str:
        meta = pod["metadata"]
        self._api.tokens["token"] = Token(audience, meta["namespace"], meta["name"], meta["uid"])
        return "token"

    async def eventually(self, is_so: Callable[[], Awaitable[bool]]) -> None:
        self._world.settle()
        assert await is_so()


class Real:
    def __init__(self, kubernetes: KubernetesUnderTest) -> None:
        self._kubernetes = kubernetes

    async def bound_token(self, pod: Object, audience: str) -> str:
        meta = pod["metadata"]
        command = ("create", "token", "default", "-n", meta["namespace"], "--audience", audience)
        bound = ("--bound-object-kind", "Pod", "--bound-object-name", meta["name"], "--bound-object-uid", meta["uid"])
        return (await asyncio.to_thread(self._kubernetes.kubectl, *command, *bound)).strip()

    async def eventually(self, is_so: Callable[[], Awaitable[bool]]) -> None:
        for _ in range(120):
            if await is_so():
                return
            await asyncio.sleep(0.5)
        raise AssertionError("it has not become so in a minute")
