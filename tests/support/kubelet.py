"""Kubelets in virtual time: a pod starts, runs, reports, ends and goes as a script says.

The script sees the run document that is mounted in the pod, so what a pod answers is about what it was told.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from tests.support.memory_api import MemoryApi, Object, ident_of

from anneal.api.runs import EXIT_PREEMPTED, ProgressReport

#: How long a container takes to start, to end after SIGTERM, and a pod to go after its end, in seconds.
START, TERMINATION, REMOVAL = 1.0, 2.0, 1.0


@dataclass(frozen=True)
class Attempt:
    """One start of a pod, as a script sees it."""

    owner: str
    """"Kind/name" of the object that the pod works for."""
    role: str
    number: int
    """0 for the first pod of its Job or place in a Deployment, then 1, …"""
    run: Mapping[str, Any]
    """The run document that is mounted in it."""


@dataclass(frozen=True)
class Life:
    """What becomes of a pod's first container."""

    seconds: float | None = None
    """How long it runs; None: until it is told to go."""
    exit_code: int = 0
    message: str = ""
    """Its termination message."""
    reason: str = ""
    """What the kubelet says of its end, such as OOMKilled."""
    on_term: str = ""
    """Its termination message when it is told to go."""
    ready_after: float | None = None
    """Seconds until it is ready; None: never."""
    waiting: str = ""
    """Why it never starts, as "Reason: message"."""
    in_init: bool = False
    """Whether it is the first init container that ends like this, and the pod never gets further."""
    guest: str = ""
    """The init container of the user's own that it is instead, whose end is that of the pod."""
    reports: tuple[tuple[float, ProgressReport], ...] = ()
    """What it reports, and when, in seconds after its start."""


@dataclass(frozen=True)
class PodMemory:
    """A pod as its kubelet remembers it. Moments are None when nothing is to come."""

    life: Life
    starts: datetime | None
    started: datetime | None = None
    ends: datetime | None = None
    ready: datetime | None = None
    gone: datetime | None = None
    told_to_go: bool = False
    reported: int = 0


Script = Callable[[Attempt], Life]


@dataclass
class Kubelet:
    """All kubelets of a cluster."""

    api: MemoryApi
    script: Script
    on_report: Callable[[Object, ProgressReport], None] | None = None
    """Told of what a pod reports."""
    pods: dict[str, PodMemory] = field(default_factory=dict)

    def fork(self, api: MemoryApi) -> Kubelet:
        return Kubelet(api, self.script, None, dict(self.pods))

    def due(self) -> Iterator[datetime]:
        """Moments at which something will happen to a pod."""
        for memory in self.pods.values():
            moments = [memory.starts, memory.ends, memory.ready, memory.gone, self._next_report(memory)]
            yield from (m for m in moments if m and m > self._now)

    def sync(self, pod: Object) -> None:
        """Let happen to the pod what happens now."""
        uid = pod["metadata"]["uid"]
        memory = self.pods.get(uid)
        if memory is None:
            memory = self._admit(pod)
            if memory is None:
                if is_going(pod):
                    self.api.forget(ident_of(pod))
                return
        if is_going(pod):
            memory = self._terminate(pod, memory)
        elif memory.starts and memory.starts <= self._now:
            memory = self._run(pod, memory)
        elif memory.ends and memory.ends <= self._now:
            memory = self._end(pod, memory)
        elif memory.ready and memory.ready <= self._now:
            memory = replace(memory, ready=None)
            self._write_status(pod, "Running", {"running": {}}, ready=True)
        self.pods[uid] = self._report(pod, memory)

    @property
    def _now(self) -> datetime:
        return self.api.clock.now()

    def _in(self, seconds: float) -> datetime:
        return self._now + timedelta(seconds=seconds)

    def _next_report(self, memory: PodMemory) -> datetime | None:
        if memory.started is None or memory.reported == len(memory.life.reports):
            return None
        return memory.started + timedelta(seconds=memory.life.reports[memory.reported][0])

    def _admit(self, pod: Object) -> PodMemory | None:
        run = self._run_document(pod)
        if run is None or is_going(pod):
            return None
        meta = pod["metadata"]
        number = int(meta["name"].rpartition("-")[2])
        attempt = Attempt(meta["annotations"]["anneal.dev/owner"], meta["labels"]["anneal.dev/role"], number, run)
        return PodMemory(self.script(attempt), self._in(START))

    def _run(self, pod: Object, memory: PodMemory) -> PodMemory:
        life = memory.life
        if life.waiting:
            reason, _, message = life.waiting.partition(": ")
            self._write_status(pod, "Pending", {"waiting": {"reason": reason, "message": message}})
            return replace(memory, starts=None)
        if life.in_init:
            ended = {"exitCode": life.exit_code, "reason": life.reason or "Error", "message": life.message}
            self._write_status(pod, "Pending", {"terminated": ended}, init=pod["spec"]["initContainers"][0]["name"])
            return replace(memory, starts=None)
        running = {"running": {"startedAt": self.api.clock.text()}}
        self._write_status(pod, "Pending" if life.guest else "Running", running, init=life.guest)
        return replace(
            memory,
            starts=None,
            started=self._now,
            ends=None if life.seconds is None else self._in(life.seconds),
            ready=None if life.ready_after is None else self._in(life.ready_after),
        )

    def _terminate(self, pod: Object, memory: PodMemory) -> PodMemory:
        if memory.started is None:
            if memory.gone is None or memory.gone <= self._now:
                self.api.forget(ident_of(pod))
            return memory
        if memory.ends and memory.ends <= self._now:
            return replace(self._end(pod, memory), gone=self._in(REMOVAL))
        if not memory.told_to_go:
            last = self._in(TERMINATION)
            if memory.ends is None or memory.ends > last:
                memory = replace(memory, ends=last, life=_told_to_go(memory.life))
            return replace(memory, told_to_go=True)
        return memory

    def _end(self, pod: Object, memory: PodMemory) -> PodMemory:
        life = memory.life
        ended = {
            "exitCode": life.exit_code,
            "reason": life.reason or ("Error" if life.exit_code else "Completed"),
            "message": life.message,
            "finishedAt": self.api.clock.text(),
        }
        phase = "Failed" if life.exit_code else "Succeeded"
        self._write_status(pod, phase, {"terminated": ended}, init=life.guest)
        return replace(memory, started=None, ends=None, ready=None)

    def _report(self, pod: Object, memory: PodMemory) -> PodMemory:
        while (moment := self._next_report(memory)) and moment <= self._now:
            report = memory.life.reports[memory.reported][1]
            memory = replace(memory, reported=memory.reported + 1)
            if self.on_report is not None:
                self.on_report(pod, report)
        return memory

    def _write_status(
        self, pod: Object, phase: str, state: Mapping[str, Any], *, ready: bool = False, init: str = ""
    ) -> None:
        """`state` is that of the init container of this name, or of the pod's first container."""
        which = "initContainers" if init else "containers"
        names = [c["name"] for c in pod["spec"].get(which, [])]
        waiting = {"waiting": {"reason": "PodInitializing"}}
        status = {
            **{k: v for k, v in pod.get("status", {}).items() if k == "conditions"},
            "phase": phase,
            "startTime": pod.get("status", {}).get("startTime", self.api.clock.text()),
            f"{which[:-1]}Statuses": [
                {
                    "name": n,
                    "ready": ready,
                    "restartCount": 0,
                    "state": dict(state if n == (init or names[0]) else waiting),
                }
                for n in names
            ],
        }
        others = [c for c in status.get("conditions", []) if c["type"] != "Ready"]
        status["conditions"] = [*others, {"type": "Ready", "status": str(ready)}]
        self.api.put_status(ident_of(pod), status)

    def _run_document(self, pod: Object) -> Mapping[str, Any] | None:
        """What is mounted in the pod, or None while a volume of it is missing: then it cannot start."""
        namespace = pod["metadata"]["namespace"]
        run: Mapping[str, Any] | None = None
        for volume in pod["spec"].get("volumes", []):
            if "configMap" in volume:
                found = self.api.peek("ConfigMap", volume["configMap"]["name"], namespace)
                if found is None:
                    return None
                run = json.loads(found["data"]["run.json"])
            claim = volume.get("persistentVolumeClaim", {}).get("claimName")
            if claim and self.api.peek("PersistentVolumeClaim", claim, namespace) is None:
                return None
        return run


def is_going(obj: Object) -> bool:
    return "deletionTimestamp" in obj["metadata"]


def _told_to_go(life: Life) -> Life:
    return replace(life, message=life.on_term, exit_code=EXIT_PREEMPTED if life.on_term else 143)
