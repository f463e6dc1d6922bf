"""From what is recorded and the verdict of the rule that fired to the whole status."""

from __future__ import annotations

from typing import Any

from anneal.api.finetunejob import FineTuneJobStatus
from anneal.api.tracking import TrackingStatus
from anneal.kinds.conditions import Mark, Verdict, no, status_of, yes
from anneal.kinds.contract import Object, Seen
from anneal.kinds.finetunejob.reasons import Reason
from anneal.kinds.finetunejob.steps import STEPS


def status(seen: Seen, recorded: FineTuneJobStatus, verdict: Verdict, **marks: Mark) -> dict[str, Any]:
    """The whole status. `marks` are the conditions of which the rule knows more than what is recorded says."""
    return status_of(seen, verdict, {**_recorded_marks(recorded), **marks}, recorded.to_json())


def carried_over(seen: Seen) -> Object:
    """The status as it is, for a generation of the spec that changes nothing any more."""
    if seen.status.get("observedGeneration") == seen.generation:
        return seen.status
    conditions = [{**c, "observedGeneration": seen.generation} for c in seen.status.get("conditions", ())]
    return {**seen.status, "observedGeneration": seen.generation, "conditions": conditions}


def _tracked(tracking: TrackingStatus | None) -> dict[str, Mark]:
    """Only where somebody was to be told."""
    if tracking is None:
        return {}
    mark = (
        no(Reason.NOT_TRACKED, tracking.message) if tracking.run_uri is None else yes(Reason.TRACKED, tracking.message)
    )
    return {"Tracked": mark}


def _recorded_marks(recorded: FineTuneJobStatus) -> dict[str, Mark]:
    """Every condition of the kind, as far as what is recorded tells of it."""
    return {
        "Complete": no(Reason.NOT_FINISHED),
        "Failed": no(Reason.NOT_FINISHED),
        "Suspended": no(Reason.NOT_SUSPENDED),
        **{s.condition: s.summary(recorded) if s.is_recorded(recorded) else no(Reason.NOT_REACHED) for s in STEPS},
        **_tracked(recorded.tracking),
    }
