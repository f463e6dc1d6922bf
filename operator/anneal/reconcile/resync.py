"""The cure for lost events: every object is looked at again every so often, and once at the start."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Sequence

from anneal.kinds.contract import Key, Kind
from anneal.kube.errors import KubeError, NotFoundError
from anneal.kube.interface import Cluster
from anneal.reconcile.queue import Queue

_log = logging.getLogger(__name__)

RETRY_SECONDS = 5.0


async def list_all(cluster: Cluster, kinds: Iterable[Kind], namespaces: Sequence[str], queue: Queue) -> int:
    """Queue every object of these kinds, in these namespaces or (none given) in all; how many there are."""
    count = 0
    for kind in kinds:
        for namespace in namespaces or (None,):
            for obj in await cluster.list(kind.info.api_version, kind.info.kind, namespace):
                queue.add(Key(kind.info.kind, obj["metadata"]["namespace"], obj["metadata"]["name"]))
                count += 1
    return count


async def resync(
    list_once: Callable[[], Awaitable[int]], interval: float, on_success: Callable[[], None] = lambda: None
) -> None:
    """Call `list_once` now and every `interval` seconds, sooner again when it fails. Never returns."""
    while True:
        try:
            count = await list_once()
        except NotFoundError as error:
            _log.error("A kind of Anneal is not known to the API server (%s): apply the files of crds/.", error)
            await asyncio.sleep(RETRY_SECONDS)
        except KubeError as error:
            _log.error("The objects cannot be listed: %s; trying again in %.0f s.", error, RETRY_SECONDS)
            await asyncio.sleep(RETRY_SECONDS)
        else:
            _log.info("Resync: %d objects.", count)
            on_success()
            await asyncio.sleep(interval)
