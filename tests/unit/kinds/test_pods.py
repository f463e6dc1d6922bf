"""The status of one pod, and the sentence that is made of it."""

from __future__ import annotations

from typing import Any

import pytest
from tests.support.builders import failed, preempted, succeeded
from tests.unit.kinds.scenes import NOW, ago, condition, pod, terminated, waiting

from anneal.kinds import pods
from anneal.kinds.pods import PodReason

ADVICE = "raise spec.resources.memory"
RUN = {"role": "publish", "baseDigest": "b", "testDigest": "t", "output": {"uri": "pvc://m/x"}, "trained": {"steps": 1}}
GOOD = succeeded(RUN)
PULL = 'failed to pull and unpack image "trainer:1": not found'


def unclaimed(seconds: float, **status: Any) -> Any:
    """A pod that has asked for a claim for so long."""
    asked = pod(age=seconds, **status)
    asked["spec"]["resourceClaims"] = [{"name": "accelerators", "resourceClaimTemplateName": "two-h100"}]
    return asked


WAITING = {
    "no node": (
        pod(conditions=[condition("PodScheduled", "False", "Unschedulable", "0/3 nodes: Insufficient nvidia.com/gpu")]),
        PodReason.UNSCHEDULABLE,
        "pod work-x has no node to run on: 0/3 nodes: Insufficient nvidia.com/gpu",
    ),
    "no node and no word": (
        pod(conditions=[{"type": "PodScheduled", "status": "False"}]),
        PodReason.UNSCHEDULABLE,
        "pod work-x has no node to run on: the scheduler gives no reason",
    ),
    "no claim": (
        unclaimed(91),
        PodReason.UNCLAIMED,
        (
            "pod work-x has no claim on its accelerators after 90 s: is there a ResourceClaimTemplate 'two-h100' in its"
            " namespace? `kubectl describe pod work-x` shows what making the claim ends with"
        ),
    ),
    "no image": (
        pod(containers=[waiting("ErrImagePull", PULL)]),
        PodReason.IMAGE_PULL_FAILED,
        f"image trainer:1 for container trainer of pod work-x cannot be pulled: {PULL}",
    ),
    "still no image": (
        pod(containers=[waiting("ImagePullBackOff", f'Back-off pulling image "trainer:1": ErrImagePull: {PULL}')]),
        PodReason.IMAGE_PULL_FAILED,
        f"image trainer:1 for container trainer of pod work-x cannot be pulled: {PULL}",
    ),
    "no image and no cause": (
        pod(containers=[waiting("ImagePullBackOff", 'Back-off pulling image "trainer:1"')]),
        PodReason.IMAGE_PULL_FAILED,
        "image trainer:1 for container trainer of pod work-x cannot be pulled",
    ),
    "a config map is missing": (
        pod(containers=[waiting("CreateContainerConfigError", 'configmap "run" not found')]),
        PodReason.CONTAINER_CONFIG_INVALID,
        'container trainer of pod work-x cannot be created: configmap "run" not found',
    ),
    "cannot be created, no word": (
        pod(containers=[waiting("CreateContainerError")]),
        PodReason.CONTAINER_CONFIG_INVALID,
        "container trainer of pod work-x cannot be created: the kubelet gives no reason",
    ),
    "a sidecar that keeps failing": (
        pod(
            init=[
                waiting(
                    "CrashLoopBackOff",
                    name="server",
                    lastState={"terminated": {"exitCode": 1, "message": failed("serve", "ModelInvalid", "bad model")}},
                )
            ],
            sidecars=["server"],
        ),
        PodReason.CRASH_LOOP,
        "container server of pod work-x keeps ending, last with exit code 1: bad model",
    ),
    "keeps failing without a result": (
        pod(containers=[waiting("CrashLoopBackOff", lastState={"terminated": {"exitCode": 137}})]),
        PodReason.CRASH_LOOP,
        "container trainer of pod work-x keeps ending, last with exit code 137 (signal 9): it said nothing",
    ),
    "volumes": (
        pod(conditions=[condition("PodScheduled", "True", since=200)]),
        PodReason.SLOW_START,
        (
            "pod work-x has a node, but its volumes, network or images are not ready after 90 s; `kubectl describe pod"
            " work-x` shows what the kubelet is waiting for"
        ),
    ),
    "a Secret that may not be there": (
        {
            **(late := pod(conditions=[condition("PodScheduled", "True", since=200)])),
            "spec": {**late["spec"], "volumes": [{"name": "secret-0", "secret": {"secretName": "hub"}}]},
        },
        PodReason.SLOW_START,
        (
            "pod work-x has a node, but its volumes, network or images are not ready after 90 s (it needs Secret 'hub'"
            "); `kubectl describe pod work-x` shows what the kubelet is waiting for"
        ),
    ),
}


@pytest.mark.parametrize("name", WAITING)
def test_why_a_pod_waits(name: str) -> None:
    given, reason, message = WAITING[name]
    assert pods.waiting(given, NOW) == pods.Waiting(reason, message)


@pytest.mark.parametrize(
    "given",
    [
        pod(),
        pod(conditions=[condition("PodScheduled", "True", since=5)]),
        pod(containers=[waiting("ContainerCreating")]),
        pod("Running", conditions=[condition("PodScheduled", "True", since=900)]),
        pod("Failed", conditions=[condition("PodScheduled", "False", "Unschedulable")]),
        {"kind": "Pod", "metadata": {"name": "new"}, "spec": {}},
        pod(
            init=[{"name": "server", "state": {"running": {"startedAt": ago(800)}}}],
            conditions=[condition("PodScheduled", "True", since=900)],
        ),
        unclaimed(89),
        unclaimed(91, resourceClaimStatuses=[{"name": "accelerators", "resourceClaimName": "work-x-a"}]),
    ],
    ids=[
        "new",
        "just scheduled",
        "being created",
        "running",
        "over",
        "without status",
        "an init container at work",
        "just asked for a claim",
        "with a claim",
    ],
)
def test_a_pod_that_starts_runs_or_is_over_does_not_wait(given: Any) -> None:
    assert pods.waiting(given, NOW) is None


FAILURES = {
    "its own words": (
        pod("Failed", containers=[terminated(42, failed("prepare", "DataInvalid", "line 17 is not JSON"))]),
        "DataInvalid",
        "line 17 is not JSON",
    ),
    "no words": (
        pod("Failed", containers=[terminated(1, failed("prepare", "", ""))]),
        PodReason.POD_FAILED,
        "container trainer of pod work-x ended with exit code 1 without saying why",
    ),
    "the words of an init container": (
        pod(
            "Failed",
            containers=[waiting("PodInitializing", name="evaluator")],
            init=[terminated(42, failed("serve", "DigestMismatch", "changed on disk"), name="layout")],
        ),
        "DigestMismatch",
        "changed on disk",
    ),
    "not the words of a sidecar": (
        pod(
            "Failed",
            containers=[terminated(1, failed("evaluate", "ServerGone", "no answer"), name="evaluator")],
            init=[terminated(137, "killed", name="server", reason="OOMKilled")],
            sidecars=["server"],
        ),
        "ServerGone",
        "no answer",
    ),
    "memory": (
        pod("Failed", containers=[terminated(137, reason="OOMKilled")]),
        PodReason.OUT_OF_MEMORY,
        "container trainer of pod work-x used more than its memory limit of 6Gi; raise spec.resources.memory",
    ),
    "memory without a limit": (
        pod("Failed", containers=[terminated(137, reason="OOMKilled")], memory=None),
        PodReason.OUT_OF_MEMORY,
        "container trainer of pod work-x used more than the memory of its node; raise spec.resources.memory",
    ),
    "evicted": (
        pod("Failed", reason="Evicted", message="The node was low on resource: ephemeral-storage."),
        PodReason.EVICTED,
        "pod work-x was evicted from its node: The node was low on resource: ephemeral-storage.",
    ),
    "evicted without a word": (
        pod("Failed", reason="Evicted"),
        PodReason.EVICTED,
        "pod work-x was evicted from its node: the node was short of resources",
    ),
    "unreadable": (
        pod("Failed", containers=[terminated(1, "Traceback: boom")]),
        PodReason.RESULT_UNREADABLE,
        (
            "container trainer of pod work-x ended with exit code 1: the pod ended without a readable result; its"
            " termination message was: Traceback: boom"
        ),
    ),
    "killed": (
        pod("Failed", containers=[terminated(137)]),
        PodReason.RESULT_UNREADABLE,
        (
            "container trainer of pod work-x ended with exit code 137 (signal 9): the pod ended without a readable"
            " result; its termination message was: nothing"
        ),
    ),
    "says success and fails": (
        pod("Failed", containers=[terminated(1, GOOD)]),
        PodReason.RESULT_UNREADABLE,
        "container trainer of pod work-x ended with exit code 1, but its result says that it succeeded",
    ),
    "a plugin in its own words, which are no result of ours": (
        pod("Failed", init=[terminated(75, failed("evaluate", "Fine", "all is well"), name="plugin-tone")]),
        PodReason.PLUGIN_FAILED,
        "container plugin-tone of pod work-x ended with exit code 75, so nothing is judged: "
        + failed("evaluate", "Fine", "all is well"),
    ),
    "a plugin without a word": (
        pod("Failed", init=[terminated(3, name="plugin-tone")]),
        PodReason.PLUGIN_FAILED,
        "container plugin-tone of pod work-x ended with exit code 3, so nothing is judged: it said nothing",
    ),
    "a plugin's memory": (
        pod("Failed", init=[terminated(137, reason="OOMKilled", name="plugin-tone")]),
        PodReason.OUT_OF_MEMORY,
        "container plugin-tone of pod work-x used more than the memory of its node; raise memory of the plugin",
    ),
    "the node said why": (
        pod("Failed", reason="NodeShutdown", message="Pod was terminated in response to imminent node shutdown."),
        PodReason.POD_FAILED,
        "pod work-x failed: NodeShutdown: Pod was terminated in response to imminent node shutdown.",
    ),
    "nobody said why": (
        pod("Failed", containers=[terminated(0, GOOD)]),
        PodReason.POD_FAILED,
        "pod work-x failed without a reason",
    ),
}


@pytest.mark.parametrize("name", FAILURES)
def test_why_a_pod_failed(name: str) -> None:
    given, reason, message = FAILURES[name]
    found = pods.failure(given, ADVICE)
    assert (found.reason, found.message) == (reason, message)


def test_a_readable_failure_keeps_its_result() -> None:
    given = pod("Failed", containers=[terminated(1, failed("fit", "LossNotFinite", "loss is NaN", retryable=True))])
    result = pods.failure(given, ADVICE).result
    assert result is not None
    assert result.retryable


def test_every_reason_of_a_pod_is_produced() -> None:
    assert set(PodReason) <= {reason for _, reason, _ in (*WAITING.values(), *FAILURES.values())}


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (pod("Failed", containers=[terminated(75, preempted(50))]), True),
        (pod("Failed", conditions=[condition("DisruptionTarget", "True")]), True),
        (pod("Running", conditions=[condition("DisruptionTarget", "True")]), False),
        (pod("Failed", containers=[terminated(1)]), False),
        (pod("Succeeded", containers=[terminated(0, GOOD)]), False),
    ],
    ids=["saved its state", "was made to leave", "is leaving", "failed", "succeeded"],
)
def test_who_was_preempted(given: Any, expected: bool) -> None:
    assert pods.is_preempted(given) is expected


def test_the_result_is_that_of_the_main_container() -> None:
    given = pod("Succeeded", containers=[terminated(0, GOOD)], init=[terminated(0, "laid out", name="layout")])
    assert pods.result_of(given).role == "publish"


@pytest.mark.parametrize("given", [pod("Succeeded"), pod("Running", containers=[waiting("PodInitializing")])])
def test_a_pod_without_a_result_says_so(given: Any) -> None:
    with pytest.raises(ValueError, match="pod work-x says nothing of how its container ended"):
        pods.result_of(given)


def test_crashes_name_each_container_that_does_not_stay_up() -> None:
    restarting = {
        "name": "server",
        "restartCount": 3,
        "state": {"running": {}},
        "lastState": {"terminated": {"exitCode": 137, "reason": "OOMKilled"}},
    }
    given = pod("Running", containers=[terminated(0, GOOD), terminated(42, "no", name="probe"), restarting])
    assert pods.crashes(given, ADVICE) == (
        pods.Crash("probe", 0, False, "container probe of pod work-x ended with exit code 42: no"),
        pods.Crash(
            "server",
            3,
            True,
            "container server of pod work-x used more than its memory limit of 6Gi; raise spec.resources.memory",
        ),
    )


def test_a_plugin_cannot_pass_for_a_pod_that_was_made_to_leave() -> None:
    assert pods.is_preempted(pod("Failed", init=[terminated(75, preempted(), name="respond")]))
    assert not pods.is_preempted(pod("Failed", init=[terminated(75, preempted(), name="plugin-tone")]))
