"""How the run of a Job went, read out of the Job and its pods: the only place where a pod's result is read.

The Job says whether the run is over, the pods say why and with what result. Both are read by two LISTs, so one may
be older than the other: a run is over only when both say so, or when the pods had `SETTLE_SECONDS` to say it.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from anneal.api.runs import RunResult
from anneal.kinds import pods
from anneal.kinds.contract import Object, Seen
from anneal.kinds.pods import Failure, PodReason, Waiting
from anneal.kinds.times import seconds_since

#: How long, in seconds, the pod of a finished Job may be missing or look unfinished before its result is given up.
SETTLE_SECONDS = 60.0
#: A Job without any pod after this long, in seconds, is refused one, which is told only in events.
NO_POD_SECONDS = 30.0


class ResultReason(StrEnum):
    """Why a run has no result of its own."""

    NO_POD = "NoPod"
    RESULT_LOST = "ResultLost"


@dataclass(frozen=True)
class NotStarted:
    """There is no such Job."""


@dataclass(frozen=True)
class Running:
    """The Job is not over."""

    phase: str
    """Phase of the newest pod: Pending, Running, ...; Pending when there is none."""
    waiting: Waiting | None = None
    """Why that pod does not run yet, if there is more to say than that it starts."""
    failed: Failure | None = None
    """Why the last pod failed, when the Job tries again after it."""
    recheck_after: float | None = None
    """Seconds until time alone may change this."""


@dataclass(frozen=True)
class Succeeded:
    """The Job is complete, and this is what its pod left."""

    result: RunResult


@dataclass(frozen=True)
class Failed:
    """The Job failed, or succeeded without a readable result, which is the same."""

    reason: str
    message: str
    result: RunResult | None = None


StepResult = NotStarted | Running | Succeeded | Failed


def read(seen: Seen, job_name: str, now: datetime, memory_advice: str = "ask for more memory") -> StepResult:
    """How the run of that Job went so far. `memory_advice` ends the sentence about a pod that ran out of memory."""
    job = seen.one("Job", job_name)
    if job is None:
        return NotStarted()
    if (end := job_condition(job, "Complete")) is not None:
        return _completed(seen, job, end, now)
    if (end := job_condition(job, "Failed")) is not None:
        return _failed(seen, job, end, now, memory_advice)
    return _running(seen, job, now, memory_advice)


def job_condition(job: Object, type_: str) -> Object | None:
    """The condition of a Job, if it is True."""
    conditions = (job.get("status") or {}).get("conditions", ())
    return next((c for c in conditions if c.get("type") == type_ and c.get("status") == "True"), None)


def is_finished(job: Object) -> bool:
    """Whether the Job is complete or failed: it will start no pod any more."""
    return job_condition(job, "Complete") is not None or job_condition(job, "Failed") is not None


def pods_of(seen: Seen, job: Object) -> tuple[Object, ...]:
    """The pods of exactly this Job (by uid, not by name), oldest first."""
    uid = job["metadata"]["uid"]
    mine = [p for p in seen.of_kind("Pod") if any(o["uid"] == uid for o in p["metadata"].get("ownerReferences", ()))]
    return tuple(sorted(mine, key=lambda p: (p["metadata"].get("creationTimestamp") or "", pods.name_of(p))))


def is_at_rest(seen: Seen, job: Object) -> bool:
    """Whether no pod of the Job runs, by the Job's own count and by the pods that are seen."""
    status = job.get("status") or {}
    counted = status.get("active", 0) + (status.get("terminating") or 0)
    return counted == 0 and all(pods.is_over(p) for p in pods_of(seen, job))


def _completed(seen: Seen, job: Object, end: Object, now: datetime) -> StepResult:
    pod = next((p for p in reversed(pods_of(seen, job)) if pods.phase_of(p) == "Succeeded"), None)
    if pod is None:
        return _settling(end, now) or Failed(
            ResultReason.RESULT_LOST,
            f"Job {job['metadata']['name']} is complete, but its pod was deleted before its result could be read;"
            " create the object again",
        )
    try:
        result = pods.result_of(pod)
    except ValueError as error:
        return Failed(PodReason.RESULT_UNREADABLE, f"pod {pods.name_of(pod)} succeeded, but {error}")
    if result.outcome != "Succeeded":
        said = f"pod {pods.name_of(pod)} succeeded, but its result says {result.outcome}: {result.message}"
        return Failed(PodReason.RESULT_UNREADABLE, said, result)
    return Succeeded(result)


def _failed(seen: Seen, job: Object, end: Object, now: datetime, memory_advice: str) -> StepResult:
    at_fault = _last_at_fault(seen, job)
    if at_fault is None:
        if (settling := _settling(end, now)) is not None:
            return settling
        said = end.get("message") or end.get("reason") or "it gives no reason"
        return Failed(
            ResultReason.RESULT_LOST,
            f"Job {job['metadata']['name']} failed ({said}), and no pod is left to say why; create the object again",
        )
    found = pods.failure(at_fault, memory_advice)
    return Failed(found.reason, found.message + _tries(job, end), found.result)


def _running(seen: Seen, job: Object, now: datetime, memory_advice: str) -> Running:
    mine = pods_of(seen, job)
    at_fault = _last_at_fault(seen, job)
    failed = pods.failure(at_fault, memory_advice) if at_fault is not None else None
    unfinished = [p for p in mine if not pods.is_over(p)]
    # With several pods, the one that all others wait for.
    current = next((p for p in unfinished if pods.phase_of(p) == "Pending"), unfinished[-1] if unfinished else None)
    if current is not None:
        wait = pods.waiting(current, now)
        starting = pods.phase_of(current) == "Pending" and wait is None
        return Running(pods.phase_of(current), wait, failed, pods.SLOW_START_SECONDS if starting else None)
    if mine or job["spec"].get("suspend"):
        # A pod that succeeded makes its Job complete in a moment; after any other the Job makes a new one.
        done = bool(mine) and pods.phase_of(mine[-1]) == "Succeeded"
        return Running("Running" if done else "Pending", failed=failed)
    age = seconds_since(job["metadata"].get("creationTimestamp"), now)
    if age < NO_POD_SECONDS:
        return Running("Pending", recheck_after=NO_POD_SECONDS - age)
    name = job["metadata"]["name"]
    said = f"Job {name} has no pod after {NO_POD_SECONDS:.0f} s: a quota or an admission policy may refuse it"
    return Running("Pending", Waiting(ResultReason.NO_POD, f"{said}; `kubectl describe job {name}` shows why"))


def _last_at_fault(seen: Seen, job: Object) -> Object | None:
    """The newest pod that failed by its own fault, or failing that the newest that failed."""
    failed = [p for p in pods_of(seen, job) if pods.phase_of(p) == "Failed"]
    by_itself = [p for p in failed if not pods.is_preempted(p)]
    if by_itself:
        return by_itself[-1]
    return failed[-1] if failed and is_finished(job) else None


def _settling(end: Object, now: datetime) -> Running | None:
    """The Job is over, but its pod is not seen to be: wait a while for what the other LIST knew earlier."""
    left = SETTLE_SECONDS - seconds_since(end.get("lastTransitionTime"), now)
    return Running("Running", recheck_after=left) if left > 0 else None


def _tries(job: Object, end: Object) -> str:
    """How often it was tried, where that is why the Job gave up."""
    if end.get("reason") != "BackoffLimitExceeded":
        return ""
    failed = int((job.get("status") or {}).get("failed") or 1)
    return f" (given up after {failed} failed {'pod' if failed == 1 else 'pods'})"
