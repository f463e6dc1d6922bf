"""From the verdict of a rule to the part of status that all kinds have alike.

kstatus (Flux, Argo CD, `kubectl wait`) reads two conditions of any kind: `Reconciling` says that the operator is still
at work, `Stalled` that it cannot go on without somebody. Both follow from one word, so that no rule can contradict
itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from anneal.api.conditions import Condition, ConditionStatus, bounded, to_status
from anneal.kinds.contract import Seen


class Health(StrEnum):
    """How the object is, in the terms of kstatus."""

    MOVING = "InProgress"
    """The operator or its pods are at work, or wait for something that may come by itself."""
    SETTLED = "Current"
    """What the spec asks for is so."""
    STUCK = "Failed"
    """Nothing more will happen until somebody changes something."""


@dataclass(frozen=True)
class Mark:
    """One condition as a rule states it; type, generation and time are added by others."""

    status: ConditionStatus
    reason: str
    message: str = ""


def yes(reason: str, message: str = "") -> Mark:
    return Mark("True", reason, message)


def no(reason: str, message: str = "") -> Mark:
    return Mark("False", reason, message)


def unknown(reason: str, message: str = "") -> Mark:
    return Mark("Unknown", reason, message)


@dataclass(frozen=True)
class Verdict:
    """What the rule that fired says of the whole object."""

    phase: str
    reason: str
    message: str
    health: Health = Health.MOVING


def status_of(seen: Seen, verdict: Verdict, marks: Mapping[str, Mark], recorded: Mapping[str, Any]) -> dict[str, Any]:
    """The whole raw status: what is recorded, the verdict, and the conditions in the order of `marks`.

    `marks` has every condition of the kind but Reconciling and Stalled, which come of the verdict's health.
    """
    everything = {
        **marks,
        "Reconciling": _health_mark(verdict, Health.MOVING),
        "Stalled": _health_mark(verdict, Health.STUCK),
    }
    return {
        **recorded,
        "observedGeneration": seen.generation,
        "phase": verdict.phase,
        "reason": str(verdict.reason),
        "message": bounded(verdict.message),
        "conditions": to_status(condition_of(seen, type_, mark) for type_, mark in everything.items()),
    }


def condition_of(seen: Seen, type_: str, mark: Mark) -> Condition:
    """The condition of that type as the mark has it, of the generation that was seen."""
    return Condition(
        type=type_,
        status=mark.status,
        reason=mark.reason,
        message=bounded(mark.message),
        observed_generation=seen.generation,
    )


def _health_mark(verdict: Verdict, health: Health) -> Mark:
    if verdict.health is health:
        return yes(verdict.reason, verdict.message)
    return no(verdict.reason)
