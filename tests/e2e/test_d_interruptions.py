"""Suspended, deleted, its operator killed: a job goes on where it was, or leaves nothing behind."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import time
from pathlib import Path

import pytest
from tests.e2e.conftest import Anneal, Object, helper_job, is_over
from tests.e2e.samples import job

from anneal.api.conditions import is_true

pytestmark = pytest.mark.e2e
LONG = {
    "maxSteps": 18,
    "tokensPerStep": 512,
    "maxLength": 256,
    "learningRate": "1e-3",
    "checkpoint": {"everySteps": 10, "keep": 2},
}
SOURCE = "pvc://hub/intents.jsonl"
PRIORITIES = {"anneal-e2e-low": -10, "anneal-e2e-high": 1000}


def step_of(obj: Object) -> int:
    return int((obj.get("status", {}).get("progress") or {}).get("step", 0))


def pods(anneal: Anneal, obj: Object, role: str = "fit") -> list[Object]:
    """Pods of the object that are not over."""
    selector = f"anneal.dev/owner-uid={obj['metadata']['uid']},anneal.dev/role={role}"
    return [p for p in anneal.list("pods", "-l", selector) if p["status"]["phase"] in ("Pending", "Running")]


def leader(anneal: Anneal) -> str:
    """Identity of the operator pod that leads; empty while the lease is free (a pod told to end gives it back)."""
    leases = json.loads(anneal.kubernetes.kubectl("-n", "anneal-system", "get", "leases", "-o", "json"))["items"]
    return str(leases[0]["spec"].get("holderIdentity") or "")


def test_suspend_saves_and_gives_the_pods_back_and_resume_goes_on(anneal: Anneal) -> None:
    """Two pods of two processes each: all of them leave after the same step, and come back."""
    spread = {"nodes": 2, "processesPerNode": 2, "cpu": "200m", "memory": "5Gi"}
    anneal.apply(
        *(priority_class(name, value) for name, value in PRIORITIES.items()),
        job(
            "pausing", SOURCE, training=LONG, resources=spread, workspace={"accessMode": "ReadWriteMany"},
            scheduling={"priorityClassName": "anneal-e2e-low"},
        ),
    )  # fmt: skip
    anneal.wait("FineTuneJob", "pausing", lambda o: step_of(o) >= 3 or is_true(o, "Failed"), 300)
    anneal.kubectl("patch", "ftj", "pausing", "--type=merge", "-p", '{"spec":{"suspend":true}}')
    paused = anneal.wait("FineTuneJob", "pausing", lambda o: is_true(o, "Suspended"), 120)
    assert pods(anneal, paused) == []
    saved = paused["status"]["checkpoint"]["step"]
    assert saved >= 3
    assert f"preempted at step {saved}" in paused["status"]["message"]
    time.sleep(5)
    assert pods(anneal, paused) == []
    anneal.kubectl("patch", "ftj", "pausing", "--type=merge", "-p", '{"spec":{"suspend":false}}')
    going = anneal.wait("FineTuneJob", "pausing", lambda o: step_of(o) > saved, 180)
    assert step_of(going) > saved
    preempted = preempt(anneal, going)
    assert preempted["status"]["checkpoint"]["step"] > saved
    lose_the_kubelet_and_a_rank(anneal, preempted)
    kill_the_leader(anneal)
    done = anneal.wait("FineTuneJob", "pausing", is_over, 400)
    assert is_true(done, "Complete")
    assert done["status"]["training"]["steps"] == LONG["maxSteps"]
    assert done["status"]["usage"]["preemptions"] == 2


def preempt(anneal: Anneal, obj: Object) -> Object:
    """A pod of higher priority takes the room of one training pod for a while. Returns the object in that time."""
    greedy = helper_job("greedy", anneal.target.images["evaluator"], "hub", ["sleep", "600"], None)
    pod = greedy["spec"]["template"]["spec"]
    pod |= {"priorityClassName": "anneal-e2e-high", "terminationGracePeriodSeconds": 1}
    (container,) = pod["containers"]
    container["resources"]["requests"]["cpu"] = f"{free_millicores(anneal) + 100}m"
    anneal.apply(greedy)
    anneal.kubectl("wait", "--for=jsonpath={.status.ready}=1", "job/greedy", "--timeout=180s")
    waiting = anneal.wait(
        "FineTuneJob",
        obj["metadata"]["name"],
        lambda o: o["status"]["reason"] == "Unschedulable" and "checkpoint" in o["status"],
        120,
    )
    anneal.kubectl("delete", "job", "greedy", "--wait=true")
    return waiting


def lose_the_kubelet_and_a_rank(anneal: Anneal, obj: Object) -> None:
    """The node's agent is killed, and one of four ranks while it is away: all four start again from a checkpoint."""
    if anneal.kubernetes.local is None:
        print("  this cluster's kubelet is not ours to kill", flush=True)
        return
    saved = obj["status"]["checkpoint"]["step"]
    anneal.wait("FineTuneJob", obj["metadata"]["name"], lambda o: step_of(o) > saved, 180)
    before = {pod["metadata"]["uid"] for pod in pods(anneal, obj)}
    anneal.kubernetes.local.kill("kubelet")
    try:
        os.kill(a_rank_of(before), signal.SIGKILL)
        time.sleep(5)
    finally:
        anneal.kubernetes.local.start("kubelet")
    anneal.wait(
        "FineTuneJob",
        obj["metadata"]["name"],
        lambda o: not before & {p["metadata"]["uid"] for p in pods(anneal, o)},
        120,
    )


def a_rank_of(uids: set[str]) -> int:
    """The process of one training rank in one of these pods, as this machine knows it."""
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it ended meanwhile
            pod = (process / "cgroup").read_text().replace("_", "-")
            if b"\0LOCAL_RANK=1\0" in (process / "environ").read_bytes() and any(uid in pod for uid in uids):
                return int(process.name)
    raise AssertionError("no training process found")


def free_millicores(anneal: Anneal) -> int:
    """What the node has and no pod has asked for."""
    (node,) = json.loads(anneal.kubernetes.kubectl("get", "nodes", "-o", "json"))["items"]
    everyone = json.loads(anneal.kubernetes.kubectl("get", "pods", "-A", "-o", "json"))["items"]
    asked = [
        container.get("resources", {}).get("requests", {}).get("cpu", "0")
        for pod in everyone
        if pod["status"]["phase"] in ("Pending", "Running")
        for container in pod["spec"]["containers"]
    ]
    return millicores(node["status"]["allocatable"]["cpu"]) - sum(map(millicores, asked))


def millicores(quantity: str) -> int:
    return int(quantity[:-1]) if quantity.endswith("m") else 1000 * int(quantity)


def priority_class(name: str, value: int) -> Object:
    return {
        "apiVersion": "scheduling.k8s.io/v1",
        "kind": "PriorityClass",
        "metadata": {"name": name},
        "value": value,
    }


def kill_the_leader(anneal: Anneal) -> None:
    """No warning, no grace; the other replica takes over and nothing is lost."""
    before = leader(anneal)
    pod = before.split("_")[0]
    anneal.kubernetes.kubectl("-n", "anneal-system", "delete", "pod", pod, "--grace-period=0", "--force")
    deadline = time.monotonic() + 60
    while leader(anneal) in (before, ""):
        assert time.monotonic() < deadline, "nobody took the lease over"
        time.sleep(1)


def test_a_deleted_job_leaves_nothing_even_without_an_operator(anneal: Anneal) -> None:
    anneal.apply(job("deleted", SOURCE, training=LONG))
    seen = anneal.wait("FineTuneJob", "deleted", lambda o: bool(pods(anneal, o)) or is_true(o, "Failed"), 300)
    scale_operator(anneal, 0)
    try:
        anneal.kubectl("delete", "ftj", "deleted", "--timeout=60s")
        deadline = time.monotonic() + 120
        while left := children(anneal, seen):
            assert time.monotonic() < deadline, f"still there: {left}"
            time.sleep(1)
    finally:
        anneal.kubernetes.kubectl("-n", "anneal-system", "scale", "deployment/anneal-operator", "--replicas=2")
        anneal.kubernetes.kubectl(
            "-n", "anneal-system", "rollout", "status", "deployment/anneal-operator", "--timeout=120s"
        )


def scale_operator(anneal: Anneal, replicas: int) -> None:
    anneal.kubernetes.kubectl("-n", "anneal-system", "scale", "deployment/anneal-operator", f"--replicas={replicas}")


def children(anneal: Anneal, obj: Object) -> list[str]:
    """Names of whatever still carries the object's uid."""
    selector = f"anneal.dev/owner-uid={obj['metadata']['uid']}"
    found = anneal.kubectl("get", "jobs,pods,configmaps,pvc", "-l", selector, "-o", "name")
    return found.split()


def test_a_spec_edited_during_training_is_refused_and_training_goes_on(anneal: Anneal) -> None:
    anneal.apply(job("edited", SOURCE, ttlSecondsAfterFinished=3))
    anneal.wait("FineTuneJob", "edited", lambda o: "startTime" in o.get("status", {}), 60)
    edit = ("patch", "ftj", "edited", "--type=merge", "-p", '{"spec":{"training":{"learningRate":"1e-2"}}}')
    done = anneal.kubernetes.try_kubectl("-n", anneal.namespace, *edit)
    assert done.returncode != 0
    assert "spec.training cannot be changed once the object has started" in done.stderr
    ended = anneal.wait("FineTuneJob", "edited", is_over, 300)
    assert is_true(ended, "Complete")
    deadline = time.monotonic() + 60
    while left := children(anneal, ended):
        assert time.monotonic() < deadline, f"still there long after spec.ttlSecondsAfterFinished: {left}"
        time.sleep(1)
    assert is_true(anneal.get("FineTuneJob", "edited"), "Complete")


@pytest.fixture(scope="module")
def ended(anneal: Anneal) -> dict[str, Object]:
    """Jobs that cannot end well, tried side by side."""
    little = {"cpu": "100m", "memory": "300Mi"}
    wanted = {
        "late": job("late", SOURCE, training=LONG, activeDeadlineSeconds=15),
        "hopeless": job("hopeless", SOURCE, resources=little),
        "starved": job("starved", SOURCE, resources=little, backoffLimit=1, planner={"policy": "Warn"}),
    }
    anneal.apply(*wanted.values())
    return {name: anneal.wait("FineTuneJob", name, is_over, 240) for name in wanted}


def test_a_job_that_takes_too_long_ends_and_gives_its_pods_back(anneal: Anneal, ended: dict[str, Object]) -> None:
    late = ended["late"]
    assert is_true(late, "Failed")
    assert late["status"]["reason"] == "DeadlineExceeded"
    assert "15 s (spec.activeDeadlineSeconds)" in late["status"]["message"]
    deadline = time.monotonic() + 60
    while [*pods(anneal, late, "prepare"), *pods(anneal, late, "fit")]:
        assert time.monotonic() < deadline, "its pods still run"
        time.sleep(1)


def test_training_that_does_not_fit_takes_no_pod(anneal: Anneal, ended: dict[str, Object]) -> None:
    assert ended["hopeless"]["status"]["reason"] == "DoesNotFit"
    assert pods(anneal, ended["hopeless"]) == []


def test_training_that_needs_more_memory_is_tried_as_often_as_the_spec_says(ended: dict[str, Object]) -> None:
    starved = ended["starved"]
    assert is_true(starved, "Failed")
    assert "raise spec.resources.memory" in starved["status"]["message"]
    assert "given up after 2 failed pods" in starved["status"]["message"]
