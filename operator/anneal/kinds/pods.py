"""What the status of one pod says, in sentences: why it does not run yet, and why it failed.

The kubelet and the scheduler know why; this module only finds their sentence and adds where and what to do. It reads
pods of Jobs and of Deployments alike.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from anneal.api.runs import EXIT_PREEMPTED, EXIT_USER_MISTAKE, RunResult, parse_result
from anneal.kinds.contract import Object
from anneal.kinds.times import seconds_since

#: A pod that gets its volumes and its network this late, in seconds, is told of; before that it is just starting.
SLOW_START_SECONDS = 90.0
#: Names of containers of the user's own begin with this. They do not speak our protocol: their last words are text, and
#: their exit codes mean nothing but that they failed.
GUEST = "plugin-"
_GUEST_MEMORY_ADVICE = "raise memory of the plugin"


class PodReason(StrEnum):
    """Why a pod waits or failed, where it cannot tell itself."""

    UNSCHEDULABLE = "Unschedulable"
    UNCLAIMED = "WaitingForClaim"
    IMAGE_PULL_FAILED = "ImagePullFailed"
    CONTAINER_CONFIG_INVALID = "ContainerConfigInvalid"
    CRASH_LOOP = "CrashLoop"
    SLOW_START = "WaitingForVolumes"
    OUT_OF_MEMORY = "OutOfMemory"
    EVICTED = "Evicted"
    RESULT_UNREADABLE = "ResultUnreadable"
    POD_FAILED = "PodFailed"
    PLUGIN_FAILED = "PluginFailed"


@dataclass(frozen=True)
class Waiting:
    """Why a pod does not run yet."""

    reason: str
    message: str


@dataclass(frozen=True)
class Failure:
    """Why a pod failed, with the result that it left, if it left a readable one."""

    reason: str
    message: str
    result: RunResult | None = None


@dataclass(frozen=True)
class Crash:
    """A container whose last end was a failure; the kubelet may have started it again since."""

    container: str
    restarts: int
    """How often it was started again."""
    retryable: bool
    """False when it said itself that the same input fails again."""
    message: str
    """Where, how it ended, and its own last words."""


_WAITING = {
    "ErrImagePull": PodReason.IMAGE_PULL_FAILED,
    "ImagePullBackOff": PodReason.IMAGE_PULL_FAILED,
    "InvalidImageName": PodReason.IMAGE_PULL_FAILED,
    "ErrImageNeverPull": PodReason.IMAGE_PULL_FAILED,
    "CreateContainerConfigError": PodReason.CONTAINER_CONFIG_INVALID,
    "CreateContainerError": PodReason.CONTAINER_CONFIG_INVALID,
    "RunContainerError": PodReason.CONTAINER_CONFIG_INVALID,
    "CrashLoopBackOff": PodReason.CRASH_LOOP,
}


def name_of(pod: Object) -> str:
    return str(pod["metadata"]["name"])


def phase_of(pod: Object) -> str:
    """Pending, Running, Succeeded, Failed or Unknown."""
    return str(_status(pod).get("phase") or "Pending")


def is_over(pod: Object) -> bool:
    """Whether no container of the pod runs or will run again."""
    return phase_of(pod) in ("Succeeded", "Failed")


def is_preempted(pod: Object) -> bool:
    """Whether the pod ended through no fault of its own: it saved its state and left, or was made to leave."""
    if any(t.get("exitCode") == EXIT_PREEMPTED and not c.startswith(GUEST) for c, t in _terminations(pod)):
        return True
    return phase_of(pod) == "Failed" and _condition(pod, "DisruptionTarget", "True") is not None


def result_of(pod: Object) -> RunResult:
    """The result that the pod's main container left. Raises ValueError, in a sentence, when there is none."""
    for status in _status(pod).get("containerStatuses", ()):
        if terminated := _terminated(status):
            return parse_result(str(terminated.get("message") or ""))
    raise ValueError(f"pod {name_of(pod)} says nothing of how its container ended")


def waiting(pod: Object, now: datetime) -> Waiting | None:
    """Why the pod does not run yet, or None when it runs, is over, or is just starting."""
    if is_over(pod):
        return None
    if (unscheduled := _condition(pod, "PodScheduled", "False")) is not None:
        said = unscheduled.get("message") or unscheduled.get("reason") or "the scheduler gives no reason"
        return Waiting(PodReason.UNSCHEDULABLE, f"pod {name_of(pod)} has no node to run on: {said}")
    if phase_of(pod) == "Pending" and (templates := _unclaimed(pod)) and _age(pod, now) >= SLOW_START_SECONDS:
        return Waiting(
            PodReason.UNCLAIMED,
            f"pod {name_of(pod)} has no claim on its accelerators after {SLOW_START_SECONDS:.0f} s: is there a"
            f" ResourceClaimTemplate {templates} in its namespace? `kubectl describe pod {name_of(pod)}` shows what"
            " making the claim ends with",
        )
    for status in _container_statuses(pod):
        state = (status.get("state") or {}).get("waiting") or {}
        reason = _WAITING.get(state.get("reason") or "")
        if reason is not None:
            return Waiting(reason, _why_container_waits(pod, status, reason, str(state.get("message") or "")))
    if phase_of(pod) == "Pending" and not _has_begun(pod) and _scheduled_for(pod, now) >= SLOW_START_SECONDS:
        return Waiting(
            PodReason.SLOW_START,
            f"pod {name_of(pod)} has a node, but its volumes, network or images are not ready after"
            f" {SLOW_START_SECONDS:.0f} s{_secrets_needed(pod)}; `kubectl describe pod {name_of(pod)}` shows what the"
            " kubelet is waiting for",
        )
    return None


def running_since(pod: Object, name: str) -> str | None:
    """When that container was started, RFC 3339; None unless it runs."""
    for status in _container_statuses(pod):
        if status["name"] == name and (running := (status.get("state") or {}).get("running")) is not None:
            return str(running.get("startedAt") or pod["metadata"]["creationTimestamp"])
    return None


def _unclaimed(pod: Object) -> str:
    """The templates of which the control plane has made no claim for the pod yet, by name; empty when none is missing.

    Until then the scheduler does not look at the pod, and says nothing of it.
    """
    made = {status["name"] for status in _status(pod).get("resourceClaimStatuses", ())}
    claims = [claim for claim in pod["spec"].get("resourceClaims", ()) if claim["name"] not in made]
    return ", ".join(f"'{c['resourceClaimTemplateName']}'" for c in claims if "resourceClaimTemplateName" in c)


def _has_begun(pod: Object) -> bool:
    """Whether a container of the pod ever started: then its volumes and its network are there."""
    return any((s.get("state") or {}).get("running") or _terminated(s) for s in _container_statuses(pod))


def _secrets_needed(pod: Object) -> str:
    """The usual cause, by name: nobody but the kubelet may look whether a Secret exists."""
    named = [f"Secret '{v['secret']['secretName']}'" for v in pod["spec"].get("volumes", ()) if "secret" in v]
    return f" (it needs {', '.join(named)})" if named else ""


def failure(pod: Object, memory_advice: str) -> Failure:
    """Why the pod failed. `memory_advice` says what to do when it used more memory than it may."""
    if _status(pod).get("reason") == "Evicted":
        said = _status(pod).get("message") or "the node was short of resources"
        return Failure(PodReason.EVICTED, f"pod {name_of(pod)} was evicted from its node: {said}")
    for container, terminated in _terminations(pod):
        if terminated.get("reason") == "OOMKilled":
            return Failure(PodReason.OUT_OF_MEMORY, _out_of_memory(pod, container, memory_advice))
    unreadable: Failure | None = None
    for container, terminated in _terminations(pod):
        if terminated.get("exitCode") == 0:
            continue
        told = _told(pod, container, terminated)
        if told.result is not None:
            return told
        unreadable = unreadable or told
    return unreadable or _unexplained(pod)


def crashes(pod: Object, memory_advice: str) -> tuple[Crash, ...]:
    """Containers of a pod that should go on running and did not, sidecars among them, those of the pod itself first.

    For pods of a Deployment, and for sidecars while their pod runs. `memory_advice` as in `failure`.
    """
    found = []
    for status in _container_statuses(pod):
        last = _terminated(status) or {}
        if last.get("exitCode", 0) == 0:
            continue
        name = str(status["name"])
        ended = f"container {name} of pod {name_of(pod)} ended with {_exit(last)}: {_last_words(last)}"
        out_of_memory = last.get("reason") == "OOMKilled"
        message = _out_of_memory(pod, name, memory_advice) if out_of_memory else ended
        restarts = int(status.get("restartCount") or 0)
        found.append(Crash(name, restarts, last["exitCode"] != EXIT_USER_MISTAKE, message))
    return tuple(found)


def _told(pod: Object, container: str, terminated: Object) -> Failure:
    """What a container that failed says itself; without a result when that is unreadable or claims a success."""
    ended = f"container {container} of pod {name_of(pod)} ended with {_exit(terminated)}"
    if container.startswith(GUEST):
        said = str(terminated.get("message") or "").strip()[-400:] or "it said nothing"
        return Failure(PodReason.PLUGIN_FAILED, f"{ended}, so nothing is judged: {said}")
    try:
        result = parse_result(str(terminated.get("message") or ""))
    except ValueError as error:
        return Failure(PodReason.RESULT_UNREADABLE, f"{ended}: {error}")
    if result.outcome == "Succeeded":
        return Failure(PodReason.RESULT_UNREADABLE, f"{ended}, but its result says that it succeeded")
    return Failure(result.reason or PodReason.POD_FAILED, result.message or f"{ended} without saying why", result)


def _unexplained(pod: Object) -> Failure:
    said = ": ".join(str(_status(pod)[f]) for f in ("reason", "message") if _status(pod).get(f))
    return Failure(PodReason.POD_FAILED, f"pod {name_of(pod)} failed{f': {said}' if said else ' without a reason'}")


def _out_of_memory(pod: Object, container: str, advice: str) -> str:
    advice = _GUEST_MEMORY_ADVICE if container.startswith(GUEST) else advice
    containers = [*pod["spec"].get("initContainers", ()), *pod["spec"].get("containers", ())]
    limits = [c.get("resources", {}).get("limits", {}).get("memory") for c in containers if c["name"] == container]
    limit = f"its memory limit of {limits[0]}" if any(limits) else "the memory of its node"
    return f"container {container} of pod {name_of(pod)} used more than {limit}; {advice}"


def _why_container_waits(pod: Object, status: Object, reason: PodReason, said: str) -> str:
    where = f"container {status['name']} of pod {name_of(pod)}"
    if reason is PodReason.IMAGE_PULL_FAILED:
        # ErrImagePull and ImagePullBackOff take turns every few seconds: one sentence for both keeps status still.
        cause = said.rpartition("ErrImagePull: ")[2]
        cause = "" if cause.startswith("Back-off pulling image") else f": {cause}"
        return f"image {status.get('image')} for {where} cannot be pulled{cause}"
    if reason is PodReason.CRASH_LOOP:
        last = _terminated(status) or {}
        return f"{where} keeps ending, last with {_exit(last)}: {_last_words(last)}"
    return f"{where} cannot be created: {said or 'the kubelet gives no reason'}"


def _last_words(terminated: Object) -> str:
    """The message of the result in it, or the text itself: its end, where programs say what went wrong."""
    text = str(terminated.get("message") or "")
    try:
        return parse_result(text).message
    except ValueError:
        return text.strip()[-400:] or "it said nothing"


def _exit(terminated: Object) -> str:
    code = terminated.get("exitCode")
    signal = terminated.get("signal") or (code - 128 if isinstance(code, int) and code > 128 else None)
    return f"exit code {code}" + (f" (signal {signal})" if signal else "")


def _terminations(pod: Object) -> Iterator[tuple[str, Any]]:
    """(container, terminated state) of all that ended: the main containers first, sidecars left out.

    A sidecar is ended by the kubelet when the main container is done, so how it ended says nothing.
    """
    sidecars = {c["name"] for c in pod["spec"].get("initContainers", ()) if c.get("restartPolicy") == "Always"}
    for status in _container_statuses(pod):
        if status["name"] not in sidecars and (terminated := _terminated(status)):
            yield status["name"], terminated


def _container_statuses(pod: Object) -> Iterator[Any]:
    yield from _status(pod).get("containerStatuses", ())
    yield from _status(pod).get("initContainerStatuses", ())


def _terminated(status: Object) -> Any:
    """How the container ended, now or, where it is started again, the last time; None if it never did."""
    return (status.get("state") or {}).get("terminated") or (status.get("lastState") or {}).get("terminated")


def _age(pod: Object, now: datetime) -> float:
    """Seconds since the pod was made."""
    return seconds_since(pod["metadata"].get("creationTimestamp"), now)


def _scheduled_for(pod: Object, now: datetime) -> float:
    """Seconds since the pod got its node, 0 when it has none."""
    scheduled = _condition(pod, "PodScheduled", "True")
    return seconds_since(scheduled.get("lastTransitionTime"), now) if scheduled else 0.0


def _condition(pod: Object, type_: str, status: str) -> Any:
    conditions = _status(pod).get("conditions", ())
    return next((c for c in conditions if c.get("type") == type_ and c.get("status") == status), None)


def _status(pod: Object) -> Object:
    status: Object = pod.get("status") or {}
    return status
