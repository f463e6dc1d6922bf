"""Revision after revision: traffic moves only to what answers, and a failure leaves it where it is."""

from __future__ import annotations

from typing import Any

import pytest
from tests.support.builders import digest, failed
from tests.unit.kinds.modeldeployment.stage import Stage, judged, stage, trained, with_images
from tests.unit.kinds.scenes import condition, terminated, waiting

from anneal.kinds.modeldeployment.reasons import Reason
from anneal.kinds.times import timestamp

MISMATCH = "Model intents is not served, adapter_model.safetensors was changed after it was published"
SECOND = (trained("intents-v2", age=60), judged("intents-v2", age=30))
V2 = {"fineTuneJobRef": {"name": "intents-v2"}}


def rolling(**spec: Any) -> tuple[Stage, str, str]:
    """The first revision serves and the second one starts: (stage, first, second)."""
    s = stage(**spec)
    first = s.serve()
    s.replace(*SECOND)
    s.edit(model=V2)
    s.settle()
    return s, first, str(s.status["targetRevision"])


def crashed(code: int, message: str, name: str, restarts: int = 0) -> Any:
    last = terminated(code, message)["state"]
    return {**waiting("CrashLoopBackOff", name=name), "lastState": last, "restartCount": restarts}


def test_the_first_revision_is_recorded_before_anything_is_made() -> None:
    s = stage()
    decided = s.step()
    assert decided.apply == ()
    [revision] = s.status["revisions"]
    assert (revision["fineTuneJob"], revision["digest"], revision["evaluation"]) == (
        "intents-v1",
        digest("intents-v1"),
        "intents-v1",
    )
    assert (s.status["reason"], s.status["phase"]) == (Reason.REVISION_RECORDED, "Progressing")


def test_no_traffic_before_every_pod_answers() -> None:
    s = stage(replicas=2)
    s.settle()
    revision = s.revisions[0]
    assert (s.replicas(revision), s.traffic, s.reason("Ready")) == (2, None, Reason.ROLLING_OUT)
    s.pods_answer(revision, ready=1)
    s.settle()
    assert s.traffic is None
    assert "1 of 2 pods answer" in s.status["message"]
    s.pods_answer(revision)
    s.step()
    assert (s.traffic, s.status["reason"], s.is_true("Ready")) == (revision, Reason.SWITCHING, False)
    s.settle()
    assert (s.status["phase"], s.status["reason"], s.is_true("Ready")) == ("Ready", Reason.SERVING, True)
    assert not s.is_true("Reconciling")


def test_status_tells_clients_and_autoscalers_where() -> None:
    s = stage()
    revision = s.serve()
    assert s.status["url"] == "http://intents.team.svc:8000/v2/models/intents/generate"
    assert s.status["digest"] == digest("intents-v1")
    assert s.status["selector"] == f"anneal.dev/owner-uid=uid-00001,anneal.dev/revision={revision}"
    assert (s.status["replicas"], s.status["readyReplicas"]) == (1, 1)
    assert "readyTime" in s.status["revisions"][0]


def test_a_new_artifact_takes_over_when_it_answers_and_the_old_pods_drain() -> None:
    s, first, second = rolling(replicas=2)
    assert (s.traffic, s.replicas(first), s.replicas(second)) == (first, 2, 2)
    assert (s.status["reason"], s.is_true("Ready"), s.is_true("Progressing")) == (Reason.ROLLING_OUT, True, True)
    s.pods_answer(second)
    s.settle()
    assert (s.traffic, s.status["servingRevision"], s.status["digest"]) == (second, second, digest("intents-v2"))
    assert s.status["switchedTime"] == timestamp(s.now)
    s.wait(29)
    decided = s.settle()
    assert (s.replicas(first), s.status["reason"], decided.requeue_after) == (2, Reason.DRAINING, 1.0)
    s.wait(1)
    s.settle()
    assert (s.replicas(first), s.replicas(second)) == (0, 2)
    assert (s.status["reason"], s.revisions) == (Reason.SERVING, [second, first])


def test_the_old_pods_stay_until_the_switch_is_recorded() -> None:
    """A crash between the switch and its record must not start the drain's clock in the past."""
    s, first, second = rolling()
    s.wait(100)
    s.pods_answer(second)
    s.step()
    assert (s.traffic, s.status["servingRevision"]) == (second, first)
    s.step()
    assert (s.status["servingRevision"], s.replicas(first)) == (second, 1)


def test_scaling_keeps_the_revision() -> None:
    s = stage()
    revision = s.serve()
    s.edit(replicas=3)
    s.settle()
    assert (s.replicas(revision), s.status["reason"], s.is_true("Ready")) == (3, Reason.SCALING, True)
    assert (s.status["phase"], s.is_true("Reconciling")) == ("Ready", True)
    s.pods_answer(revision)
    s.settle()
    assert (s.status["reason"], s.status["readyReplicas"], s.revisions) == (Reason.SERVING, 3, [revision])


def test_zero_replicas_are_ready() -> None:
    s = stage()
    revision = s.serve()
    s.edit(replicas=0)
    s.settle()
    s.pods_answer(revision)
    s.settle()
    assert (s.status["reason"], s.is_true("Ready"), s.is_true("Reconciling")) == (Reason.SCALED_TO_ZERO, True, False)
    s.edit(replicas=1)
    s.settle()
    assert (s.status["reason"], s.is_true("Ready")) == (Reason.NOT_ANSWERING, False)
    s.wait(10_000)
    s.settle()
    assert s.replicas(revision) == 1


def test_the_old_revision_scales_too_while_the_new_one_starts() -> None:
    s, first, second = rolling()
    s.edit(replicas=4)
    s.settle()
    assert (s.replicas(first), s.replicas(second)) == (4, 4)


def test_a_revision_that_never_answers_is_given_up_and_the_old_one_serves_on() -> None:
    s, first, second = rolling()
    s.pod(second, containers=[crashed(1, failed("serve", "ModelLoadFailed", "no such tensor"), "server", 1)])
    s.settle()
    assert s.status["reason"] == Reason.ROLLING_OUT
    assert "ended with exit code 1: no such tensor. Revision" in s.status["message"]
    s.wait(600)
    s.step()
    assert s.replicas(second) == 1
    s.settle()
    assert (s.replicas(first), s.replicas(second), s.traffic) == (1, 0, first)
    assert (s.status["phase"], s.status["reason"]) == ("Degraded", Reason.REVISION_NOT_READY)
    assert (s.is_true("Ready"), s.is_true("Progressing"), s.is_true("Stalled")) == (True, False, True)
    said = "its pods did not answer within 600 s (spec.progressDeadlineSeconds): container server of pod pod-x"
    assert said in s.status["message"]
    assert "no such tensor" in s.status["message"]
    del s.children["Pod", "pod-x"]
    s.settle()
    assert "no such tensor" in s.status["message"]
    assert s.status["revisions"][0]["failed"] is True


def test_a_first_revision_without_a_word_fails_too() -> None:
    s = stage()
    s.settle()
    s.wait(600)
    s.settle()
    assert (s.status["phase"], s.status["reason"]) == ("Failed", Reason.REVISION_NOT_READY)
    assert "within 600 s (spec.progressDeadlineSeconds). A new artifact" in s.status["message"]
    assert s.traffic is None


def test_a_digest_that_is_wrong_is_not_waited_for() -> None:
    s, first, second = rolling()
    s.pod(second, init=[crashed(42, failed("serve", "DigestMismatch", MISMATCH), "layout")])
    s.settle()
    assert (s.replicas(second), s.traffic, s.status["reason"]) == (0, first, Reason.REVISION_NOT_READY)
    assert MISMATCH in s.status["message"]
    assert s.status["digest"] == digest("intents-v1")


def test_a_crash_loop_is_told_at_once() -> None:
    s, _, second = rolling()
    s.pod(second, containers=[crashed(137, "", "server", 3)])
    s.settle()
    assert "exit code 137 (signal 9): it said nothing (it keeps failing)" in s.status["message"]
    assert s.replicas(second) == 1


@pytest.mark.parametrize(
    ("pod", "said"),
    [
        (
            {"conditions": [condition("PodScheduled", "False", message="Insufficient memory")]},
            "no node to run on: Insufficient memory",
        ),
        ({"containers": [waiting("ImagePullBackOff", "not found", name="server")]}, "cannot be pulled"),
    ],
    ids=["no node", "no image"],
)
def test_why_pods_wait_is_told(pod: dict[str, Any], said: str) -> None:
    s, first, second = rolling()
    s.pod(second, phase="Pending", **pod)
    s.settle()
    assert said in s.status["message"]
    assert f"Revision {first} keeps serving." in s.status["message"]


def test_refused_pods_are_told() -> None:
    s, _, second = rolling()
    s.deployment(second)["status"] = {
        "conditions": [{"type": "ReplicaFailure", "status": "True", "message": "exceeded quota: compute"}]
    }
    s.settle()
    assert "Its pods are refused: exceeded quota: compute." in s.status["message"]


def test_a_pod_that_is_ready_or_going_is_no_trouble() -> None:
    s, _, second = rolling()
    s.pod(second, containers=[crashed(1, "old", "server", 2)], conditions=[condition("Ready", "True")])
    s.pod(second, "pod-y", containers=[crashed(1, "older", "server", 2)])
    s.children["Pod", "pod-y"]["metadata"]["deletionTimestamp"] = timestamp(s.now)
    s.settle()
    assert "old" not in s.status["message"]


def test_other_settings_are_a_new_try() -> None:
    s = stage()
    s.settle()
    s.wait(600)
    s.settle()
    failing = s.revisions[0]
    s.edit(resources={"memory": "8Gi"})
    s.settle()
    assert s.status["targetRevision"] != failing
    assert (s.status["reason"], s.replicas(s.revisions[0])) == (Reason.ROLLING_OUT, 1)
    second = s.serve()
    assert s.revisions == [second, failing]


def test_a_new_server_image_is_a_new_revision() -> None:
    s = stage()
    first = s.serve()
    s.facts = with_images("triton:2")
    s.settle()
    assert s.status["targetRevision"] != first
    assert (s.traffic, s.replicas(first)) == (first, 1)
    image = s.deployment(first)["spec"]["template"]["spec"]["containers"][0]["image"]
    assert image == "triton:1"


def test_another_runtime_is_a_new_revision_and_clients_keep_the_ports_of_the_one_that_serves() -> None:
    s = stage()
    first = s.serve()
    s.edit(triton=None, vllm={})
    s.settle()
    ports = [p["name"] for p in s.children["Service", "intents"]["spec"]["ports"]]
    assert (s.traffic, ports) == (first, ["http", "grpc", "metrics"])
    assert s.status["url"] == "http://intents.team.svc:8000/v2/models/intents/generate"
    second = s.serve()
    ports = [p["name"] for p in s.children["Service", "intents"]["spec"]["ports"]]
    assert (s.traffic, ports) == (second, ["http"])
    assert s.status["url"] == "http://intents.team.svc:8000/v1/chat/completions"
    assert [r["runtime"] for r in s.status["revisions"]] == ["vllm", "triton"]


def test_pods_that_die_while_serving_are_told_and_nothing_is_given_up() -> None:
    s = stage()
    revision = s.serve()
    s.pods_answer(revision, ready=0)
    s.pod(
        revision,
        containers=[crashed(137, "", "server", 1) | {"lastState": terminated(137, reason="OOMKilled")["state"]}],
    )
    s.wait(10_000)
    s.settle()
    assert (s.status["phase"], s.status["reason"]) == ("Degraded", Reason.NOT_ANSWERING)
    assert "used more than its memory limit of 4Gi; raise spec.resources.memory" in s.status["message"]
    assert (s.is_true("Ready"), s.replicas(revision), s.traffic) == (False, 1, revision)


def test_a_target_that_was_never_served_gives_way_to_a_newer_one() -> None:
    s, first, second = rolling()
    s.replace(trained("intents-v3", age=10), judged("intents-v3", age=5))
    s.edit(model={"fineTuneJobRef": {"name": "intents-v3"}})
    s.settle()
    third = s.status["targetRevision"]
    assert (s.replicas(first), s.replicas(second), s.replicas(third)) == (1, 0, 1)


def test_what_somebody_broke_is_put_right() -> None:
    s = stage()
    revision = s.serve()
    s.children["Service", "intents"]["spec"] = {"selector": {"app": "other"}, "ports": []}
    del s.children["Deployment", s.deployment(revision)["metadata"]["name"]]
    s.settle()
    assert (s.traffic, s.replicas(revision), s.status["reason"]) == (revision, 1, Reason.NOT_ANSWERING)


def test_a_deployment_that_is_going_does_not_count() -> None:
    s = stage()
    revision = s.serve()
    s.deployment(revision)["metadata"]["deletionTimestamp"] = timestamp(s.now)
    s.step()
    assert s.status["reason"] == Reason.NOT_ANSWERING


def test_a_settled_deployment_asks_for_nothing_new() -> None:
    s = stage()
    s.serve()
    before = {k: dict(v) for k, v in s.children.items()}
    decided = s.step()
    assert (s.children, decided.delete, decided.requeue_after) == (before, (), None)


def test_pods_of_an_older_template_do_not_count() -> None:
    """After an upgrade of the operator the same revision may get another pod template."""
    s, first, second = rolling()
    s.pods_answer(second)
    s.deployment(second)["status"]["updatedReplicas"] = 0
    s.settle()
    assert (s.traffic, s.status["reason"]) == (first, Reason.ROLLING_OUT)


def test_a_lost_status_costs_no_request() -> None:
    """Traffic is seen, not remembered: whoever removes the status does not stop what serves."""
    s = stage()
    revision = s.serve()
    del s.obj["status"]
    s.remove("Evaluation")
    s.settle()
    assert (s.traffic, s.replicas(revision), s.is_true("Ready")) == (revision, 1, True)
    s.replace(judged())
    s.settle()
    assert (s.status["reason"], s.revisions) == (Reason.SERVING, [revision])
