"""Who works, when several operators run: the holder of a Lease.

The semantics are client-go's: the lease is renewed every 2 s; a holder that could not renew it for 10 s stops; others
take it when they saw no renewal for 15 s by their own clock, so clocks need not agree. The election that comes with
the Kubernetes client is not used: it never releases the lease, and it does not bound a request that hangs, so that a
leader could outlive its lease.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from anneal.kube.errors import ConflictError, KubeError
from anneal.kube.interface import Cluster, Object

_log = logging.getLogger(__name__)

API_VERSION = "coordination.k8s.io/v1"
LEASE_SECONDS = 15
RENEW_SECONDS = 10.0
RETRY_SECONDS = 2.0
MANAGER = "anneal-leader"


class LeadershipLostError(Exception):
    """The lease is another's, or could not be renewed: this process must write nothing more."""


class Election:
    """One candidate for a Lease."""

    def __init__(
        self,
        cluster: Cluster,
        *,
        namespace: str,
        name: str,
        identity: str,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`identity` must differ from that of every other process that runs; `clock` gives seconds."""
        self._cluster = cluster
        self._namespace = namespace
        self._name = name
        self._identity = identity
        self._clock = clock
        self._seen_version = ""
        self._seen_at = 0.0
        self.last_contact: float | None = None
        """When the lease was last read, by `clock`: how fresh the proof is that the API server can be reached."""

    async def acquire(self) -> None:
        """Return once this candidate holds the lease."""
        while True:
            try:
                if await self.attempt():
                    _log.info("%s leads.", self._identity)
                    return
            except KubeError as error:
                _log.warning("The lease %s/%s cannot be had: %s", self._namespace, self._name, error)
            await asyncio.sleep(RETRY_SECONDS)

    async def hold(self) -> None:
        """Renew the lease for ever. Raises LeadershipLostError when it is lost."""
        renewed_at = self._clock()
        while True:
            await asyncio.sleep(RETRY_SECONDS)
            left = renewed_at + RENEW_SECONDS - self._clock()
            if left <= 0:
                raise LeadershipLostError(f"the lease could not be renewed for {RENEW_SECONDS:.0f} s")
            try:
                async with asyncio.timeout(left):
                    held = await self.attempt()
            except (KubeError, TimeoutError) as error:
                _log.warning("The lease could not be renewed: %s", error)
                continue
            if not held:
                raise LeadershipLostError("another operator holds the lease")
            renewed_at = self._clock()

    async def attempt(self) -> bool:
        """Take or renew the lease if that is allowed now; whether it is held. Raises KubeError."""
        lease = await self._cluster.get(API_VERSION, "Lease", self._namespace, self._name)
        self.last_contact = self._clock()
        try:
            if lease is None:
                # Made without a holder: only one `create` can succeed, and only `apply` can give a field up again.
                lease = await self._cluster.create({**self._document({}, transitions=0), "spec": {}})
            spec = lease.get("spec", {})
            holder = spec.get("holderIdentity")
            if holder and holder != self._identity and not self._is_expired(lease):
                return False
            transitions = int(spec.get("leaseTransitions", -1)) + (holder != self._identity)
            await self._cluster.apply(self._document(lease, transitions=transitions), manager=MANAGER)
        except ConflictError:
            return False  # somebody else was faster
        return True

    async def release(self) -> None:
        """Give the lease up if it is held, so that the next one need not wait for it to expire. Raises KubeError."""
        lease = await self._cluster.get(API_VERSION, "Lease", self._namespace, self._name)
        if lease is not None and lease.get("spec", {}).get("holderIdentity") == self._identity:
            document = self._document(lease, transitions=int(lease["spec"].get("leaseTransitions", 0)))
            del document["spec"]["holderIdentity"]
            await self._cluster.apply(document, manager=MANAGER)
            _log.info("%s has released the lease.", self._identity)

    def _is_expired(self, lease: Object) -> bool:
        version = lease["metadata"]["resourceVersion"]
        if version != self._seen_version:
            self._seen_version, self._seen_at = version, self._clock()
        return self._clock() - self._seen_at > int(lease["spec"].get("leaseDurationSeconds", LEASE_SECONDS))

    def _document(self, lease: Object, *, transitions: int) -> dict[str, Any]:
        """The lease as this candidate writes it; uid and resourceVersion let it replace only what was read."""
        read = lease.get("metadata", {})
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        ours = lease.get("spec", {}).get("holderIdentity") == self._identity
        return {
            "apiVersion": API_VERSION,
            "kind": "Lease",
            "metadata": {"name": self._name, "namespace": self._namespace}
            | {field: read[field] for field in ("uid", "resourceVersion") if field in read},
            "spec": {
                "holderIdentity": self._identity,
                "leaseDurationSeconds": LEASE_SECONDS,
                "acquireTime": lease["spec"].get("acquireTime", now) if ours else now,
                "renewTime": now,
                "leaseTransitions": transitions,
            },
        }
