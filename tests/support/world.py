"""What moves behind an API server: controllers and kubelets, in virtual time.

Kept to what Anneal reads of Jobs, Pods, Deployments and claims. The world's own memory is small and immutable in its
parts, so that a test can fork it together with the API server at any write.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from tests.support.kubelet import Kubelet, Script, is_going
from tests.support.memory_api import MemoryApi, Object, ident_of

#: Between a failed pod of a Job and the next, in seconds.
BACKOFF = 10.0


@dataclass(frozen=True)
class JobMemory:
    """A Job as its controller remembers it."""

    starts: int = 0
    failed: int = 0
    counted: frozenset[str] = frozenset()
    not_before: datetime | None = None


@dataclass
class World:
    """The controllers and kubelets of one cluster."""

    api: MemoryApi
    kubelet: Kubelet
    jobs: dict[str, JobMemory] = field(default_factory=dict)

    @classmethod
    def of(cls, api: MemoryApi, script: Script) -> World:
        return cls(api, Kubelet(api, script))

    def settle(self) -> None:
        """Let everything happen that happens now."""
        before = -1
        while before != self.api.version:
            before = self.api.version
            self._collect_garbage()
            for obj in self.api.all("PersistentVolumeClaim", "Job", "Deployment", "Pod"):
                meta = obj["metadata"]
                if self.api.peek(obj["kind"], meta["name"], meta["namespace"]) is obj:
                    self._sync(obj)

    def next_due(self) -> datetime | None:
        """When something will happen next by itself, if anything will."""
        return min(self._due(), default=None)

    def fork(self, api: MemoryApi) -> World:
        return World(api, self.kubelet.fork(api), dict(self.jobs))

    def evict(self, pod: Object) -> None:
        """A node is drained: the pod is told to go, and the Job learns that it is not to blame."""
        ident = ident_of(pod)
        condition = {"type": "DisruptionTarget", "status": "True", "reason": "EvictionByEvictionAPI"}
        self.api.put_status(ident, {**pod["status"], "conditions": [*pod["status"].get("conditions", []), condition]})
        self.api.remove(ident)

    @property
    def _now(self) -> datetime:
        return self.api.clock.now()

    def _due(self) -> Iterator[datetime]:
        yield from self.kubelet.due()
        yield from (j.not_before for j in self.jobs.values() if j.not_before and j.not_before > self._now)

    def _sync(self, obj: Object) -> None:
        match obj["kind"]:
            case "Pod":
                self.kubelet.sync(obj)
            case "Job" if not is_going(obj):
                self._job(obj)
            case "Deployment" if not is_going(obj):
                self._deployment(obj)
            case "PersistentVolumeClaim":
                self._claim(obj)

    def _collect_garbage(self) -> None:
        objects = self.api.all()
        alive = {o["metadata"]["uid"] for o in objects}
        self.kubelet.pods = {uid: m for uid, m in self.kubelet.pods.items() if uid in alive}
        self.jobs = {uid: m for uid, m in self.jobs.items() if uid in alive}
        for obj in objects:
            owners = obj["metadata"].get("ownerReferences", [])
            if owners and not any(o["uid"] in alive for o in owners) and not is_going(obj):
                self.api.remove(ident_of(obj))

    def _claim(self, claim: Object) -> None:
        if claim.get("status", {}).get("phase") != "Bound":
            self.api.put_status(ident_of(claim), {"phase": "Bound"})

    def _job(self, job: Object) -> None:
        uid = job["metadata"]["uid"]
        memory = self._count_endings(job, self.jobs.get(uid, JobMemory()))
        pods = self._pods_of(uid)
        active = [p for p in pods if not _ended(p)]
        verdict = _finished(job) or self._job_verdict(job, memory, pods)
        if verdict or job["spec"].get("suspend"):
            for pod in active:
                if not is_going(pod):
                    self.api.remove(ident_of(pod))
        elif not active and not (memory.not_before and memory.not_before > self._now):
            self._start_pod(job, f"{job['metadata']['name']}-{memory.starts}")
            memory = replace(memory, starts=memory.starts + 1, not_before=None)
        self.jobs[uid] = memory
        self._write_job_status(job, memory, verdict)

    def _count_endings(self, job: Object, memory: JobMemory) -> JobMemory:
        for pod in self._pods_of(job["metadata"]["uid"]):
            uid = pod["metadata"]["uid"]
            if pod["status"].get("phase") != "Failed" or uid in memory.counted:
                continue
            blamed = not is_going(pod) and _policy(job, pod) != "Ignore"
            memory = replace(
                memory,
                counted=memory.counted | {uid},
                failed=memory.failed + blamed,
                not_before=self._now + timedelta(seconds=BACKOFF) if blamed else None,
            )
        return memory

    def _job_verdict(self, job: Object, memory: JobMemory, pods: list[Object]) -> tuple[str, str, str] | None:
        if any(p["status"].get("phase") == "Succeeded" for p in pods):
            return "Complete", "CompletionsReached", "Reached expected number of succeeded pods"
        failed = [p for p in pods if p["status"].get("phase") == "Failed"]
        if any(_policy(job, p) == "FailJob" for p in failed):
            return "Failed", "PodFailurePolicy", "Container failed with an exit code that matches FailJob"
        if memory.failed > job["spec"].get("backoffLimit", 6):
            return "Failed", "BackoffLimitExceeded", "Job has reached the specified backoff limit"
        return None

    def _write_job_status(self, job: Object, memory: JobMemory, verdict: tuple[str, str, str] | None) -> None:
        active = sum(not _ended(p) and not is_going(p) for p in self._pods_of(job["metadata"]["uid"]))
        status: dict[str, Any] = {**job.get("status", {}), "active": active, "failed": memory.failed}
        suspended = bool(job["spec"].get("suspend"))
        if not suspended:
            status.setdefault("startTime", self.api.clock.text())
        if verdict and not _finished(job):
            type_, reason, message = verdict
            end = {"type": type_, "status": "True", "reason": reason, "message": message}
            status["conditions"] = [{**end, "lastTransitionTime": self.api.clock.text()}]
            status["succeeded"] = int(type_ == "Complete")
        elif not verdict and (suspended or status.get("conditions")):
            status["conditions"] = [{"type": "Suspended", "status": str(suspended), "reason": "JobSuspended"}]
        if status != job.get("status"):
            self.api.put_status(ident_of(job), status)

    def _deployment(self, deployment: Object) -> None:
        meta, spec = deployment["metadata"], deployment["spec"]
        template = hashlib.sha256(json.dumps(spec["template"], sort_keys=True).encode()).hexdigest()[:8]
        wanted = {f"{meta['name']}-{template}-{n}" for n in range(spec.get("replicas", 1))}
        pods = {p["metadata"]["name"]: p for p in self._pods_of(meta["uid"]) if not is_going(p)}
        for name in sorted(wanted - set(pods)):
            if self.api.peek("Pod", name, meta["namespace"]) is None:
                self._start_pod(deployment, name)
        for name in sorted(set(pods) - wanted):
            self.api.remove(ident_of(pods[name]))
        ready = sum(is_ready(p) for name, p in pods.items() if name in wanted)
        available = str(ready >= len(wanted))
        status = {
            "observedGeneration": meta["generation"],
            "replicas": len(wanted),
            "updatedReplicas": len(wanted),
            "readyReplicas": ready,
            "availableReplicas": ready,
            "conditions": [{"type": "Available", "status": available, "reason": "MinimumReplicas"}],
        }
        if status != deployment.get("status"):
            self.api.put_status(ident_of(deployment), status)

    def _start_pod(self, owner: Object, name: str) -> None:
        meta, template = owner["metadata"], owner["spec"]["template"]
        reference = {"apiVersion": owner["apiVersion"], "kind": owner["kind"], "name": meta["name"], "uid": meta["uid"]}
        pod = self.api.put(
            {
                "apiVersion": "v1",
                "kind": "Pod",
                "metadata": {
                    **template["metadata"],
                    "name": name,
                    "namespace": meta["namespace"],
                    "ownerReferences": [{**reference, "controller": True}],
                },
                "spec": template["spec"],
            }
        )
        self.api.put_status(ident_of(pod), {"phase": "Pending"})

    def _pods_of(self, uid: str) -> list[Object]:
        return [p for p in self.api.all("Pod") if any(o["uid"] == uid for o in p["metadata"]["ownerReferences"])]


def _ended(pod: Object) -> bool:
    return pod["status"].get("phase") in ("Succeeded", "Failed")


def is_ready(pod: Object) -> bool:
    return any(c["type"] == "Ready" and c["status"] == "True" for c in pod["status"].get("conditions", []))


def _finished(job: Object) -> tuple[str, str, str] | None:
    for c in job.get("status", {}).get("conditions", []):
        if c["type"] in ("Complete", "Failed") and c["status"] == "True":
            return c["type"], c["reason"], c["message"]
    return None


def _policy(job: Object, pod: Object) -> str:
    """The action of the first rule of the Job's podFailurePolicy that matches the pod's end; else Count."""
    status = pod["status"]
    statuses = [*status.get("containerStatuses", []), *status.get("initContainerStatuses", [])]
    codes = {s["name"]: s["state"].get("terminated", {}).get("exitCode") for s in statuses}
    conditions = {c["type"] for c in status.get("conditions", []) if c["status"] == "True"}
    for rule in job["spec"].get("podFailurePolicy", {}).get("rules", []):
        if (on_codes := rule.get("onExitCodes")) and _matches(on_codes, codes):
            return str(rule["action"])
        if any(c["type"] in conditions for c in rule.get("onPodConditions", [])):
            return str(rule["action"])
    return "Count"


def _matches(on_codes: Object, codes: Mapping[str, int | None]) -> bool:
    """Whether a container that failed, or the one that is named, ended with such a code: success never counts."""
    named = on_codes.get("containerName")
    failed = [code for name, code in codes.items() if code and named in (None, name)]
    return any((code in on_codes["values"]) == (on_codes["operator"] == "In") for code in failed)
