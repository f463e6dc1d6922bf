"""The status that is written: the plan's, with what only the loop knows added to it.

That is when each condition last changed, and what kept the plan from being carried out.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from anneal.api.conditions import bounded, find
from anneal.reconcile.apply import Obstacle

Status = Mapping[str, Any]


def stamped(new: Status, old: Status, now: datetime) -> dict[str, Any]:
    """`new` with lastTransitionTime in each condition: the old one's while its `status` is the same, else `now`."""
    conditions = []
    for condition in new.get("conditions", ()):
        before = find(old, condition["type"])
        unchanged = before is not None and before.get("status") == condition["status"]
        since = before.get("lastTransitionTime") if before is not None and unchanged else None
        conditions.append({**condition, "lastTransitionTime": since or rfc3339(now)})
    return {**new, "conditions": conditions} if conditions else dict(new)


def differs(new: Status, old: Status) -> bool:
    """Whether writing `new` would change anything; conditions are a map by type, so their order does not count.

    A plan states every condition of its kind, so a condition of another type is somebody else's: it is left alone.
    """
    ours = {c["type"] for c in new.get("conditions", ())}
    mine = {**old, "conditions": [c for c in old.get("conditions", ()) if c["type"] in ours]}
    return _by_type(new) != _by_type(mine)


def obstructed(status: Status, obstacle: Obstacle, generation: int) -> dict[str, Any]:
    """`status` of an object that cannot go on until somebody removes the obstacle: Stalled, and why."""
    stalled = _condition("Stalled", "True", obstacle.reason, obstacle.message, generation)
    waiting = _condition("Reconciling", "False", obstacle.reason, obstacle.message, generation)
    return {**_with(status, waiting, stalled), "reason": obstacle.reason, "message": bounded(obstacle.message)}


def broken(status: Status, error: Exception, generation: int) -> dict[str, Any]:
    """`status` of an object on which the operator itself failed; the rest of it stays as it was."""
    message = (
        f"The operator failed on this object and tries again by itself: {type(error).__name__}: {error}."
        " This is a defect of the operator; its log has the details."
    )
    return _with(status, _condition("Reconciling", "True", "InternalError", message, generation))


def rfc3339(moment: datetime) -> str:
    """The moment (UTC) as Kubernetes writes it, to the second."""
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def _condition(type_: str, status: str, reason: str, message: str, generation: int) -> dict[str, Any]:
    return {
        "type": type_,
        "status": status,
        "reason": reason,
        "message": bounded(message),
        "observedGeneration": generation,
    }


def _with(status: Status, *conditions: Mapping[str, Any]) -> dict[str, Any]:
    replaced = {c["type"] for c in conditions}
    kept = [c for c in status.get("conditions", ()) if c["type"] not in replaced]
    return {**status, "conditions": [*kept, *conditions]}


def _by_type(status: Status) -> dict[str, Any]:
    return {**status, "conditions": {c["type"]: dict(c) for c in status.get("conditions", ())}}
