"""Who is calling: from a bearer token to the object that the calling pod works for.

A token proves only which pod it is bound to. That the pod works for an object is proven against the API server: the
object has the uid that the pod's label says, in the pod's own namespace, so no tenant can report for another.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from anneal.api import API_VERSION
from anneal.api.kinds import BY_NAME
from anneal.kinds.children import MANAGED_BY, MANAGER, OWNER, OWNER_UID
from anneal.kinds.contract import Key
from anneal.kube.interface import Cluster

MAX_TOKEN_LENGTH = 4096
#: How long an answer of the API server about a token is believed, in seconds.
TRUST_SECONDS = 60.0
MAX_REMEMBERED = 2048
#: Tokens that are looked up at once; more callers than this wait, so that strangers cannot flood the API server.
MAX_LOOKUPS = 8

_SERVICE_ACCOUNT = "system:serviceaccount:"
_POD_NAME = "authentication.kubernetes.io/pod-name"
_POD_UID = "authentication.kubernetes.io/pod-uid"


@dataclass(frozen=True)
class Caller:
    """A pod of ours and the object that it works for."""

    pod_uid: str
    owner: Key
    owner_uid: str


@dataclass(frozen=True)
class Stranger:
    """A caller that is refused, and the sentence that tells it why."""

    status: int  # of HTTP: 401 when the token is at fault, 403 when the pod is
    message: str


class Callers:
    """Recognises callers, and remembers for a short time whom it recognised."""

    def __init__(self, cluster: Cluster, audience: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._cluster = cluster
        self._audience = audience
        self._clock = clock
        self._known: OrderedDict[bytes, tuple[float, Caller | Stranger]] = OrderedDict()
        self._lookups = asyncio.Semaphore(MAX_LOOKUPS)

    async def recognise(self, token: str) -> Caller | Stranger:
        """Whom the token belongs to. Raises KubeError when the API server cannot answer."""
        if not token or len(token) > MAX_TOKEN_LENGTH:
            return Stranger(401, "send the pod's projected token as 'Authorization: Bearer <token>'")
        fingerprint = hashlib.sha256(token.encode()).digest()  # the token itself is not kept
        async with self._lookups:
            known = self._known.get(fingerprint)
            if known is not None and known[0] > self._clock():
                return known[1]
            answer = await self._look_up(token)
        self._known[fingerprint] = (self._clock() + TRUST_SECONDS, answer)
        self._known.move_to_end(fingerprint)
        while len(self._known) > MAX_REMEMBERED:
            self._known.popitem(last=False)
        return answer

    async def _look_up(self, token: str) -> Caller | Stranger:
        review = await self._cluster.create(
            {
                "apiVersion": "authentication.k8s.io/v1",
                "kind": "TokenReview",
                "metadata": {},
                "spec": {"token": token, "audiences": [self._audience]},
            }
        )
        status = review.get("status") or {}
        if not status.get("authenticated") or self._audience not in status.get("audiences", ()):
            return Stranger(401, f"the token is expired, revoked, or not meant for the audience '{self._audience}'")
        user = status.get("user") or {}
        extra = user.get("extra") or {}
        pod_name, pod_uid = _first(extra, _POD_NAME), _first(extra, _POD_UID)
        username = str(user.get("username", ""))
        if not pod_name or not pod_uid or not username.startswith(_SERVICE_ACCOUNT):
            return Stranger(403, "the token is not bound to a pod: only pods report progress, with a projected token")
        namespace = username.removeprefix(_SERVICE_ACCOUNT).partition(":")[0]
        return await self._work_of(namespace, pod_name, pod_uid)

    async def _work_of(self, namespace: str, pod_name: str, pod_uid: str) -> Caller | Stranger:
        pod = await self._cluster.get("v1", "Pod", namespace, pod_name)
        if pod is None or pod["metadata"]["uid"] != pod_uid:
            return Stranger(403, f"pod '{pod_name}' that the token is bound to does not exist any more")
        labels = pod["metadata"].get("labels") or {}
        kind, slash, name = str((pod["metadata"].get("annotations") or {}).get(OWNER, "")).partition("/")
        owner_uid = labels.get(OWNER_UID)
        if labels.get(MANAGED_BY) != MANAGER or not owner_uid or not slash or kind not in BY_NAME:
            return Stranger(403, f"pod '{pod_name}' works for no object of Anneal")
        owner = await self._cluster.get(API_VERSION, kind, namespace, name)
        if owner is None or owner["metadata"]["uid"] != owner_uid:
            return Stranger(403, f"pod '{pod_name}' works for {kind} '{name}', which does not exist any more")
        return Caller(pod_uid, Key(kind, namespace, name), owner_uid)


def _first(extra: Mapping[str, Any], name: str) -> str:
    values = extra.get(name) or [""]
    return str(values[0])
