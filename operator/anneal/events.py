"""Events: what `kubectl describe` tells of an object's past. Made from transitions in its status, never by plans.

They are lossy by nature (the API server drops them after an hour), so nothing depends on one; and they are few, since
only a change makes one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any, NamedTuple

from anneal.api.conditions import bounded, find

API_VERSION = "events.k8s.io/v1"
CONTROLLER = "anneal.dev/operator"
MAX_NOTE = 1024
#: Conditions that are True when something is wrong.
_BAD = frozenset({"Failed", "Stalled"})
#: Conditions that are True when a result is worth less than it looks.
_DOUBTFUL = frozenset({"UnderPowered", "Worn"})
#: Conditions that only say for programs what others say for people.
_SILENT = frozenset({"Reconciling"})


class Transition(NamedTuple):
    """One thing that changed."""

    type: str  # Normal or Warning
    reason: str
    note: str


def transitions(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[Transition]:
    """What changed between two statuses, each reason once: the object's own reason first, then its conditions'."""
    stalled = any((find(new, t) or {}).get("status") == "True" for t in _BAD)
    found: dict[str, Transition] = {}
    if new.get("reason") and new.get("reason") != old.get("reason"):
        kind = "Warning" if stalled or new.get("phase") == "Failed" else "Normal"
        found[new["reason"]] = Transition(kind, new["reason"], new.get("message") or new["reason"])
    for condition in _changed(old, new):
        bad = condition["type"] in _BAD | _DOUBTFUL and condition["status"] == "True"
        note = f"{condition['type']} is {condition['status']}"
        if condition.get("message"):
            note = f"{note}: {condition['message']}"
        found.setdefault(condition["reason"], Transition("Warning" if bad else "Normal", condition["reason"], note))
    return list(found.values())


def event(obj: Mapping[str, Any], transition: Transition, *, instance: str, now: datetime) -> dict[str, Any]:
    """The Event object. Its name is a function of what happened and when, so that it cannot be posted twice."""
    metadata = obj["metadata"]
    moment = now.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    digest = hashlib.sha256("\n".join((metadata["uid"], *transition, moment)).encode()).hexdigest()[:16]
    return {
        "apiVersion": API_VERSION,
        "kind": "Event",
        "metadata": {"name": f"{metadata['name'][:230]}.{digest}", "namespace": metadata["namespace"]},
        "type": transition.type,
        "reason": transition.reason,
        "note": bounded(transition.note, MAX_NOTE),
        "action": "Reconcile",
        "eventTime": moment,
        "reportingController": CONTROLLER,
        "reportingInstance": instance[:128],
        "regarding": {
            "apiVersion": obj["apiVersion"],
            "kind": obj["kind"],
            "namespace": metadata["namespace"],
            "name": metadata["name"],
            "uid": metadata["uid"],
        },
    }


def _changed(old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Conditions that became True, or are True no longer. One that starts as not True has not changed."""
    for condition in new.get("conditions", ()):
        if condition["type"] in _SILENT:
            continue
        was_true = (find(old, condition["type"]) or {}).get("status") == "True"
        if was_true != (condition["status"] == "True"):
            yield condition
