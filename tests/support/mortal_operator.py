"""The operator as a process that can be told to die: `python -m tests.support.mortal_operator`.

With ANNEAL_TEST_DIES_AFTER_WRITE=n it is killed by SIGKILL when its n-th write has been answered, before it can do
anything with the answer. Writes of the lease do not count.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from collections.abc import Mapping

from anneal.__main__ import run
from anneal.kube.interface import Cluster, Object
from anneal.settings import load

LIFE = "ANNEAL_TEST_DIES_AFTER_WRITE"


class Mortal:
    """A cluster whose writes are counted, up to the last one."""

    def __init__(self, cluster: Cluster, life: int) -> None:
        self._cluster = cluster
        self._left = life

    async def get(self, api_version: str, kind: str, namespace: str, name: str) -> Object | None:
        return await self._cluster.get(api_version, kind, namespace, name)

    async def list(
        self, api_version: str, kind: str, namespace: str | None, labels: Mapping[str, str] | None = None
    ) -> list[Object]:
        return await self._cluster.list(api_version, kind, namespace, labels)

    async def apply(self, obj: Object, *, manager: str, subresource: str | None = None) -> Object:
        answer = await self._cluster.apply(obj, manager=manager, subresource=subresource)
        self._wrote(obj["kind"])
        return answer

    async def delete(self, api_version: str, kind: str, namespace: str, name: str, uid: str) -> None:
        await self._cluster.delete(api_version, kind, namespace, name, uid)
        self._wrote(kind)

    async def create(self, obj: Object) -> Object:
        answer = await self._cluster.create(obj)
        self._wrote(obj["kind"])
        return answer

    def _wrote(self, kind: str) -> None:
        if kind == "Lease":
            return
        self._left -= 1
        if self._left == 0:
            os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO)
    asyncio.run(run(load(os.environ), lambda client: Mortal(client, int(os.environ[LIFE]))))
