"""One pass over one object: look, decide, make it so. The page to read first.

Every fault ends here as an `Outcome`, so that no object can stop the work on another one.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from anneal import events
from anneal.kinds.contract import Facts, Key, Kind, Listing, Object, Reference, Seen
from anneal.kube.errors import ConflictError, KubeError, NotFoundError, RefusedError, UnavailableError
from anneal.kube.interface import Cluster
from anneal.reconcile import status as statuses
from anneal.reconcile.apply import apply_children, apply_status
from anneal.reconcile.interests import Interests
from anneal.reconcile.observe import ProgressSource, observe

_log = logging.getLogger(__name__)

#: A refused child is not tried again sooner than this, in seconds: somebody has to act first.
OBSTACLE_RETRY_SECONDS = 15.0


class Result(StrEnum):
    """How a pass ended."""

    DONE = "done"
    """Everything is as planned, or was made so."""
    GONE = "gone"
    """The object does not exist, or is being deleted."""
    OBSTRUCTED = "obstructed"
    """A child was refused or its name is taken; status says so."""
    CONFLICT = "conflict"
    """Something changed between looking and writing."""
    UNAVAILABLE = "unavailable"
    """The API server could not answer."""
    REFUSED = "refused"
    """The API server refused to let the operator look or to take a status."""
    CRASHED = "crashed"
    """The operator has a defect; status says so."""


@dataclass(frozen=True)
class Outcome:
    """How a pass ended and when the next one is due without any event."""

    result: Result
    requeue_after: float | None = None
    """Seconds until time alone changes the plan; None when only an event can."""
    retry_at_least: float = 0.0
    """The shortest back-off, in seconds, where `failed`."""

    @property
    def failed(self) -> bool:
        """Whether to come back after a back-off."""
        return self.result not in (Result.DONE, Result.GONE)


def log_crash(key: Key, error: Exception) -> None:
    """What happens to a programming error in production. Tests pass a function that raises it."""
    _log.error("Defect while reconciling %s %s/%s", key.kind, key.namespace, key.name, exc_info=error)


class Reconciler:
    """Brings any object of the kinds that it knows one pass closer to what it should be."""

    def __init__(
        self,
        cluster: Cluster,
        kinds: Iterable[Kind],
        *,
        facts: Facts,
        progress: ProgressSource,
        clock: Callable[[], datetime],
        instance: str = "anneal",
        on_crash: Callable[[Key, Exception], None] = log_crash,
    ) -> None:
        """`clock` gives the time in UTC; `instance` names this process in events."""
        self._cluster = cluster
        self._kinds = {kind.info.kind: kind for kind in kinds}
        self._facts = facts
        self._progress = progress
        self._clock = clock
        self._instance = instance
        self._on_crash = on_crash
        self.interests = Interests(self._kinds)

    async def reconcile(self, key: Key) -> Outcome:
        """One pass over `key`. Raises nothing, unless `on_crash` does."""
        kind = self._kinds[key.kind]
        try:
            return await self._pass(kind, key)
        except (ConflictError, NotFoundError) as error:
            _log.info("%s %s/%s changed meanwhile: %s", key.kind, key.namespace, key.name, error)
            return Outcome(Result.CONFLICT)
        except UnavailableError as error:
            _log.warning("%s %s/%s has to wait: %s", key.kind, key.namespace, key.name, error)
            return Outcome(Result.UNAVAILABLE, retry_at_least=error.retry_after or 0.0)
        except RefusedError as error:
            _log.error("%s %s/%s: the API server refuses the operator: %s", key.kind, key.namespace, key.name, error)
            return Outcome(Result.REFUSED, retry_at_least=OBSTACLE_RETRY_SECONDS)
        except Exception as error:
            self._on_crash(key, error)
            await self._confess(kind, key, error)
            return Outcome(Result.CRASHED)

    async def _pass(self, kind: Kind, key: Key) -> Outcome:
        wanted: set[Reference | Listing] = set()

        def remember(new: frozenset[Reference | Listing]) -> None:
            wanted.update(new)
            self.interests.add(key, new)

        seen = await observe(self._cluster, kind, key, facts=self._facts, progress=self._progress, on_wanted=remember)
        self.interests.replace(key, wanted)
        if seen is None:
            return Outcome(Result.GONE)
        plan = kind.plan(seen, self._clock())
        obstacle = await apply_children(self._cluster, seen, plan)
        if obstacle is None:
            await self._settle(seen.obj, plan.status)
            return Outcome(Result.DONE, plan.requeue_after)
        await self._settle(seen.obj, statuses.obstructed(plan.status, obstacle, seen.generation))
        return Outcome(Result.OBSTRUCTED, plan.requeue_after, OBSTACLE_RETRY_SECONDS)

    async def _settle(self, obj: Object, status: Mapping[str, Any]) -> None:
        """Write `status` if it says anything new, and tell of what changed."""
        old, now = obj.get("status") or {}, self._clock()
        new = statuses.stamped(status, old, now)
        if not statuses.differs(new, old):
            return
        await apply_status(self._cluster, obj, new)
        for transition in events.transitions(old, new):
            # An event that cannot be posted is lost; the status that it tells of is written.
            with contextlib.suppress(KubeError):
                await self._cluster.create(events.event(obj, transition, instance=self._instance, now=now))

    async def _confess(self, kind: Kind, key: Key, error: Exception) -> None:
        """Say in status that the operator failed, if that at least works: the defect itself is logged already."""
        with contextlib.suppress(Exception):
            obj = await self._cluster.get(kind.info.api_version, key.kind, key.namespace, key.name)
            if obj is not None:
                seen = Seen(obj=obj, children=(), found={}, facts=self._facts)
                await self._settle(obj, statuses.broken(seen.status, error, seen.generation))
