"""Watching: the only module that imports kopf. An event becomes keys in a queue, and nothing else happens here.

kopf's handlers of changes, its indices, timers, daemons and annotations are not used; it is our informer. It runs in
the leader only, after the first listing, so its kinds are known to exist.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import kopf

from anneal.api import GROUP
from anneal.kinds.children import MANAGED_BY, MANAGER
from anneal.kinds.contract import Key, Kind, Object
from anneal.kube.client import Credentials
from anneal.kube.resources import Resource, resource_of

#: Claims are not watched: most of those that matter are the users' own and carry no label of ours. Who waits for one
#: asks again after a while.
UNWATCHED = frozenset({"PersistentVolumeClaim"})
#: A token in a file may change at any time; kopf asks for it again after this long.
CREDENTIALS_LIFETIME = timedelta(minutes=10)
#: Unused without peering; kopf would make it out of a user name, which a container's bare number does not have.
_IDENTITY: Any = "anneal"


async def watch(
    kinds: Iterable[Kind],
    *,
    wakes: Callable[[Object], Collection[Key]],
    add: Callable[[Key], None],
    credentials: Callable[[], Awaitable[Credentials]],
    namespaces: Sequence[str],
    stop: asyncio.Event,
    take_signals: Callable[[], None],
) -> None:
    """Call `add` with the keys that each event wakes, until `stop` is set. Raises what makes kopf give up.

    kopf takes the process's signals for itself; `take_signals` takes them back, so that things end in our order.
    """
    own, children = watched(kinds)
    existing = asyncio.all_tasks()
    tasks = await kopf.spawn_tasks(
        registry=_registry((*own, *children), wakes, add, credentials),
        settings=kopf_settings(children),
        standalone=True,
        identity=_IDENTITY,
        clusterwide=not namespaces,
        namespaces=list(namespaces),
        stop_flag=stop,
    )
    take_signals()
    await kopf.run_tasks(tasks, ignored=existing)


def watched(kinds: Iterable[Kind]) -> tuple[list[Resource], list[Resource]]:
    """(resources of the kinds themselves, resources of their children) to watch."""
    kinds = tuple(kinds)
    children = dict.fromkeys(child for kind in kinds for _, child in kind.owns if child not in UNWATCHED)
    return [resource_of(kind.info.kind) for kind in kinds], [resource_of(child) for child in children]


def _registry(
    resources: Iterable[Resource],
    wakes: Callable[[Object], Collection[Key]],
    add: Callable[[Key], None],
    credentials: Callable[[], Awaitable[Credentials]],
) -> kopf.OperatorRegistry:
    registry = kopf.OperatorRegistry()

    async def hint(body: kopf.Body, **_: Any) -> None:
        for key in wakes(body):
            add(key)

    async def login(**_: Any) -> kopf.ConnectionInfo:
        return connection(await credentials())

    kopf.on.login(id="login", registry=registry)(login)
    for resource in resources:
        selector = (resource.group, resource.version, resource.plural)
        kopf.on.event(*selector, id=resource.plural, registry=registry)(hint)
    return registry


def kopf_settings(children: Iterable[Resource]) -> kopf.OperatorSettings:
    settings = kopf.OperatorSettings()
    settings.scanning.disabled = True  # no cluster-wide look at namespaces and definitions
    settings.posting.enabled = False
    settings.watching.server_timeout = 600
    settings.watching.chunk_size = 500
    settings.networking.connect_timeout = 5
    settings.networking.request_timeout = 30
    settings.queueing.exit_timeout = 0.5
    settings.persistence.finalizer = f"{GROUP}/never-set"
    settings.persistence.progress_storage = kopf.AnnotationsProgressStorage(prefix=GROUP)
    settings.persistence.diffbase_storage = kopf.AnnotationsDiffBaseStorage(prefix=GROUP)
    for resource in children:
        selector = (resource.group, resource.version, resource.plural)
        settings.watching.label_selectors[selector] = f"{MANAGED_BY}={MANAGER}"
    return settings


def connection(credentials: Credentials) -> kopf.ConnectionInfo:
    scheme, _, token = (credentials.authorization or "").partition(" ")
    return kopf.ConnectionInfo(
        server=credentials.server,
        ca_path=credentials.ca_file,
        insecure=not credentials.verify,
        scheme=scheme.capitalize() or None,
        token=token.strip() or None,
        certificate_path=credentials.certificate_file,
        private_key_path=credentials.key_file,
        expiration=datetime.now(UTC) + CREDENTIALS_LIFETIME,
    )
