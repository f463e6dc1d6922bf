"""Jobs and pods as the API server returns them, for tests of what is read out of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from tests.support.builders import NAMESPACE, as_stored, claim, digest, fine_tune_job
from tests.support.clock import START

from anneal.kinds.contract import Facts, Found, Images, Object, Reference, ReportsEndpoint, Seen
from anneal.kinds.times import timestamp

NOW = START + timedelta(hours=1)
FACTS = Facts(
    images=Images(trainer="trainer:1", evaluator="evaluator:1", triton="triton:1", vllm="vllm:1"),
    reports=ReportsEndpoint(url="https://anneal-reports/v1/progress", ca_pem="CA of leader 1", audience="reports"),
    hub="https://hub.test",
)
Json = dict[str, Any]


def ago(seconds: float, now: datetime = NOW) -> str:
    """The moment so long before `now`, as Kubernetes writes it."""
    return timestamp(now - timedelta(seconds=seconds))


def artifact(version: str = "intents-v1") -> Json:
    """status.artifact of the FineTuneJob of that name."""
    folder = f"pvc://models/{version}/0123456789abcdef"
    return {
        "uri": folder,
        "digest": digest(version),
        "contents": "Adapter",
        "baseUri": "pvc://hub/base",
        "baseDigest": digest("base"),
        "chatTemplateHash": digest("template"),
        "sizeBytes": 10_000_000,
        "heldOutUri": f"{folder}/evaluation/held-out.jsonl",
        "heldOutDigest": digest("held out"),
        "heldOutCount": 150,
    }


def seen(
    obj: Object | None = None,
    *children: Object,
    claims: Sequence[str | Object] = ("hub", "models"),
    **more: Any,
) -> Seen:
    """An observation: the object, its children, and the claims that exist beside it."""
    found: Found = {
        Reference("PersistentVolumeClaim", c["metadata"]["name"]): c
        for c in (claim(c) if isinstance(c, str) else c for c in claims)
    }
    return Seen(
        obj=obj if obj is not None else as_stored(fine_tune_job()),
        children=children,
        found=found,
        facts=more.pop("facts", FACTS),
        **more,
    )


def job(name: str = "work", *, uid: str = "uid-of-job", suspend: bool = False, age: float = 300, **status: Any) -> Json:
    """A Job with that status."""
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": name, "namespace": NAMESPACE, "uid": uid, "creationTimestamp": ago(age)},
        "spec": {"suspend": suspend, "template": {"metadata": {}, "spec": {}}},
        "status": status,
    }


def live(manifest: Object, uid: str = "uid-of-job", age: float = 300, **status: Any) -> Json:
    """What a plan asked for, as the API server returns it later."""
    metadata = {**manifest["metadata"], "uid": uid, "creationTimestamp": ago(age)}
    return {**manifest, "metadata": metadata, "status": status}


def ended(type_: str, reason: str = "", *, since: float = 300, message: str = "") -> Json:
    """Status of a Job that is over."""
    condition = {
        "type": type_,
        "status": "True",
        "reason": reason,
        "message": message,
        "lastTransitionTime": ago(since),
    }
    return {"conditions": [condition]}


def pod(
    phase: str = "Pending",
    *,
    name: str = "work-x",
    of: str = "uid-of-job",
    containers: Sequence[Mapping[str, Any]] = (),
    init: Sequence[Mapping[str, Any]] = (),
    sidecars: Sequence[str] = (),
    memory: str | None = "6Gi",
    age: float = 100,
    **status: Any,
) -> Json:
    """A pod. `containers` and `init` are container statuses; `sidecars` names those of `init` that are sidecars."""
    limits = {"resources": {"limits": {"memory": memory}}} if memory else {}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": name,
            "namespace": NAMESPACE,
            "uid": f"uid-of-{name}",
            "creationTimestamp": ago(age),
            "ownerReferences": [{"apiVersion": "batch/v1", "kind": "Job", "name": "work", "uid": of}],
        },
        "spec": {
            "containers": [{"name": c["name"], **limits} for c in containers],
            "initContainers": [
                {"name": c["name"], **({"restartPolicy": "Always"} if c["name"] in sidecars else {})} for c in init
            ],
        },
        "status": {
            "phase": phase,
            **({"containerStatuses": list(containers)} if containers else {}),
            **({"initContainerStatuses": list(init)} if init else {}),
            **status,
        },
    }


def terminated(exit_code: int, message: str = "", *, name: str = "trainer", reason: str = "", **more: Any) -> Json:
    """Status of a container that ended."""
    state = {"exitCode": exit_code, "message": message, "reason": reason or ("Error" if exit_code else "Completed")}
    return {"name": name, "state": {"terminated": {**state, **more}}}


def waiting(reason: str, message: str = "", *, name: str = "trainer", **more: Any) -> Json:
    """Status of a container that has not started, or is about to be started again."""
    return {"name": name, "image": "trainer:1", "state": {"waiting": {"reason": reason, "message": message}}, **more}


def condition(type_: str, status: str, reason: str = "", message: str = "", since: float = 0) -> Json:
    """A condition of a pod."""
    return {"type": type_, "status": status, "reason": reason, "message": message, "lastTransitionTime": ago(since)}
