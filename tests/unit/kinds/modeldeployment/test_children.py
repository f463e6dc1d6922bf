"""The children of a ModelDeployment: a pod that proves what it serves, and names that clients can rely on."""

from __future__ import annotations

from typing import Any

import pytest
from tests.support.builders import as_stored, digest, model_deployment
from tests.unit.kinds.modeldeployment.situations import SELECTOR, foreign_service, settled
from tests.unit.kinds.modeldeployment.stage import UID, Json, Stage, judged, stage, trained

from anneal.api.runs import ServeRun, parse_run
from anneal.kinds.contract import Listing, Reference
from anneal.kinds.modeldeployment.children import stable_name
from anneal.kinds.modeldeployment.plan import references
from anneal.kinds.modeldeployment.reasons import Reason


def pod_of(made: Stage) -> Json:
    spec: Json = made.deployment(made.revisions[0])["spec"]["template"]["spec"]
    return spec


def run_of(made: Stage) -> ServeRun:
    name = made.deployment(made.revisions[0])["metadata"]["name"]
    data = made.children["ConfigMap", name]["data"]
    assert set(data) == {"run.json"}
    run = parse_run(data["run.json"])
    assert isinstance(run, ServeRun)
    return run


def test_digests_are_verified_before_the_server_starts() -> None:
    made = settled(stage())
    [layout] = pod_of(made)["initContainers"]
    assert layout["command"] == ["python", "-m", "anneal_serving", "layout"]
    [model] = run_of(made).models
    assert (model.name, model.base_digest, model.adapter_digest) == ("intents", digest("base"), digest("intents-v1"))
    assert model.base.path == "/claims/hub/base"
    assert model.adapter is not None
    assert model.adapter.path == "/claims/models/intents-v1/0123456789abcdef"


def test_the_server_is_what_the_spec_says() -> None:
    made = settled(
        stage(
            triton={"maxBatchSize": 4},
            resources={"cpu": "2", "memory": "8Gi", "accelerator": {"perNode": 2}},
            scheduling={"nodeSelector": {"disk": "fast"}, "priorityClassName": "high"},
        )
    )
    run, pod = run_of(made), pod_of(made)
    assert (run.max_batch_size, run.accelerators) == (4, 2)
    assert (pod["nodeSelector"], pod["priorityClassName"]) == ({"disk": "fast"}, "high")
    [server] = pod["containers"]
    assert server["resources"]["limits"] == {"memory": "8Gi", "nvidia.com/gpu": "2"}
    started = ["python", "-m", "anneal_serving", "run", "/opt/tritonserver/bin/tritonserver"]
    assert server["command"][:5] == started, "by itself it hears no SIGTERM before its models are loaded"
    assert "--model-repository=/models" in server["command"]


def test_vllm_is_told_what_the_spec_says_and_asks_nobody() -> None:
    made = settled(stage(triton=None, vllm={"maxModelLength": 4096}, resources={"accelerator": {"perNode": 2}}))
    run, pod = run_of(made), pod_of(made)
    assert run.vllm is not None
    assert (run.vllm.max_model_length, run.accelerators) == (4096, 2)
    [server], [layout] = pod["containers"], pod["initContainers"]
    assert server["image"] == layout["image"] == "vllm:1"
    assert server["command"][-6:] == ["--config", "/models/vllm.yaml", "--port", "8000", "--shutdown-timeout", "20"]
    environment = {e["name"]: e["value"] for e in server["env"]}
    assert (environment["HF_HUB_OFFLINE"], environment["VLLM_NO_USAGE_STATS"]) == ("1", "1")
    assert server["startupProbe"]["exec"]["command"] == ["python", "-m", "anneal_serving", "probe"]
    for name in ("readinessProbe", "livenessProbe"):
        assert server[name]["httpGet"] == {"path": "/health", "port": "http"}
    shared = {"name": "shm", "emptyDir": {"medium": "Memory", "sizeLimit": "512Mi"}}
    assert shared in pod["volumes"]
    assert {"name": "shm", "mountPath": "/dev/shm"} in server["volumeMounts"]


def test_readiness_is_an_inference_and_a_dead_model_is_seen_within_a_minute() -> None:
    [server] = pod_of(settled(stage()))["containers"]
    probe = ["python", "-m", "anneal_serving", "probe"]
    for name in ("startupProbe", "readinessProbe", "livenessProbe"):
        assert server[name]["exec"]["command"] == probe
    readiness, liveness = server["readinessProbe"], server["livenessProbe"]
    assert readiness["periodSeconds"] * readiness["failureThreshold"] <= 60
    assert liveness["periodSeconds"] * liveness["failureThreshold"] >= 300


@pytest.mark.parametrize("flag", ["--exit-timeout-secs", "--shutdown-timeout"])
def test_a_pod_leaves_without_cutting_a_request(flag: str) -> None:
    made = settled(stage() if flag == "--exit-timeout-secs" else stage(triton=None, vllm={}))
    pod = pod_of(made)
    [server] = pod["containers"]
    told = "=".join(server["command"])
    exit_timeout = int(told.partition(f"{flag}=")[2].partition("=")[0])
    drain = server["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert pod["terminationGracePeriodSeconds"] > drain + exit_timeout
    deployment = made.deployment(made.revisions[0])["spec"]
    assert deployment["strategy"]["rollingUpdate"] == {"maxUnavailable": 0, "maxSurge": 1}


RUNTIMES = ({}, {"triton": None, "vllm": {}})


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_servers_only_read(runtime: Json) -> None:
    pod = pod_of(settled(stage(**runtime)))
    claims = [v["persistentVolumeClaim"] for v in pod["volumes"] if "persistentVolumeClaim" in v]
    assert claims == [{"claimName": "hub", "readOnly": True}, {"claimName": "models", "readOnly": True}]
    [server] = pod["containers"]
    writable = {m["mountPath"] for m in server["volumeMounts"] if not m.get("readOnly")}
    assert writable == {"/tmp"} | ({"/dev/shm"} if runtime else set())


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_every_container_passes_pod_security_restricted(runtime: Json) -> None:
    pod = pod_of(settled(stage(**runtime)))
    assert pod["automountServiceAccountToken"] is False
    assert pod["securityContext"]["runAsNonRoot"] is True
    for container in [*pod["initContainers"], *pod["containers"]]:
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }


def test_a_revision_is_found_by_its_name() -> None:
    made = settled(stage())
    revision = made.revisions[0]
    assert made.deployment(revision)["metadata"]["name"] == f"intents-rev-{revision}"


def test_a_revision_has_a_service_of_its_own() -> None:
    made = settled(stage())
    revision = made.revisions[0]
    service = made.children["Service", made.deployment(revision)["metadata"]["name"]]
    assert service["spec"]["selector"] == {"anneal.dev/owner-uid": UID, "anneal.dev/revision": revision}
    assert {p["name"]: p["port"] for p in service["spec"]["ports"]} == {"http": 8000, "grpc": 8001, "metrics": 8002}


def test_the_stable_service_is_named_like_the_object_where_a_service_can_be() -> None:
    assert stable_name("intents") == "intents"
    for name in ("intents.v1", "1st", "a" * 64):
        assert stable_name(name) != name
        assert len(stable_name(name)) <= 63
        assert stable_name(name)[0].isalpha()


def test_a_name_with_dots_serves_too() -> None:
    made = stage(name="intents.v1")
    made.serve()
    service = stable_name("intents.v1")
    assert ("Service", service) in made.children
    assert made.status["url"] == f"http://{service}.team.svc:8000/v2/models/intents.v1/generate"


def test_names_of_253_characters_stay_apart() -> None:
    names = [f"{'a' * 250}{end}" for end in ("xyz", "xyw")]
    assert len({stable_name(n) for n in names}) == 2
    made = [stage(name=n) for n in names]
    made[1].obj["metadata"]["uid"] = "uid-00002"
    deployments = {s.deployment(settled(s).revisions[0])["metadata"]["name"] for s in made}
    assert len(deployments) == 2
    assert all(len(name) <= 63 for name in deployments)


def test_a_deleted_namesakes_children_are_not_in_the_way() -> None:
    first, second = stage(), stage()
    second.obj["metadata"]["uid"] = "uid-00002"
    assert settled(first).children.keys().isdisjoint(settled(second).children.keys())


def test_somebody_elses_service_is_left_alone() -> None:
    made = settled(stage(trained(), judged(), foreign_service()))
    revision = made.revisions[0]
    made.pods_answer(revision)
    made.settle()
    assert ("Service", "intents") not in made.children
    assert (made.status["reason"], made.status["phase"], made.traffic) == (Reason.NAME_TAKEN, "Pending", None)
    assert "delete it or create this object under another name" in made.status["message"]
    made.remove("Service")
    made.settle()
    assert made.traffic == revision


def looked_at(**spec: Any) -> set[Any]:
    made = stage(**spec)
    return set(made.seen().found)


def test_what_is_looked_at() -> None:
    claims = {Reference("PersistentVolumeClaim", "hub"), Reference("PersistentVolumeClaim", "models")}
    always = {Reference("Service", "intents"), *claims}
    job = Reference("FineTuneJob", "intents-v1")
    assert looked_at() == {job, Listing("Evaluation"), *always}
    assert looked_at(gate={"skip": True}) == {job, *always}
    assert looked_at(gate={"evaluationRef": {"name": "e"}}) == {job, Reference("Evaluation", "e"), *always}
    assert looked_at(model=SELECTOR) == {
        Listing("FineTuneJob", (("app", "intents"),)),
        Listing("Evaluation"),
        *always,
    }
    assert looked_at(triton=None) == set()


def test_claims_are_looked_at_once_an_artifact_is_known() -> None:
    obj = as_stored(model_deployment())
    assert not any(isinstance(w, Reference) and w.kind == "PersistentVolumeClaim" for w in references(obj, {}))


def test_a_status_that_cannot_be_read_counts_as_none() -> None:
    made = stage()
    made.obj = {**made.obj, "status": {"replicas": -1}}
    made.settle()
    assert made.status["reason"] == Reason.ROLLING_OUT
