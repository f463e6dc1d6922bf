"""What Anneal relies on of an API server, checked against a real one and against the one in memory alike.

The sweep is only worth what the server in memory is worth: a fact that is not in this list must not be built on.
"""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from typing import Any

import pytest
from tests.conftest import REPOSITORY, KubernetesUnderTest
from tests.support import builders
from tests.support.api_servers import OTHER, OWNER, STATUS, InMemory, Real, Server
from tests.support.clock import Clock
from tests.support.memory_api import MemoryApi

from anneal.kube.client import connect
from anneal.kube.errors import ConflictError, KubeError, NotFoundError, RefusedError

pytestmark = pytest.mark.integration
PODS_UID = "authentication.kubernetes.io/pod-uid"
PODS_NAME = "authentication.kubernetes.io/pod-name"


@pytest.fixture(scope="module")
def real(control_plane: KubernetesUnderTest) -> KubernetesUnderTest:
    """The real API server, with our kinds."""
    control_plane.kubectl("apply", "--server-side", "-k", str(REPOSITORY / "crds"))
    control_plane.kubectl("wait", "--for=condition=Established", "crd", "-l", "app.kubernetes.io/part-of=anneal")
    return control_plane


@pytest.fixture(params=["in memory", "real"])
async def server(request: pytest.FixtureRequest) -> AsyncIterator[Server]:
    namespace = f"facts-{uuid.uuid4().hex[:8]}"
    if request.param == "in memory":
        api = MemoryApi(Clock(), namespaces={namespace})
        yield Server(api, namespace, InMemory(api))
        return
    kubernetes: KubernetesUnderTest = request.getfixturevalue("real")
    kubernetes.kubectl("create", "namespace", namespace)
    client = await connect(kubernetes.kubeconfig)
    yield Server(client, namespace, Real(kubernetes))
    await client.close()
    kubernetes.kubectl("delete", "namespace", namespace, "--wait=false")


def condition(type_: str, status: str = "True", **more: Any) -> dict[str, Any]:
    return {"type": type_, "status": status, "reason": "Because", "lastTransitionTime": "2026-01-01T00:00:00Z", **more}


def job(server: Server, image: str = "image:1", **spec: Any) -> dict[str, Any]:
    template = {"spec": {"restartPolicy": "Never", "containers": [{"name": "main", "image": image}]}}
    return server.manifest("Job", spec={"backoffLimit": 0, "suspend": True, "template": template, **spec})


# Creating and applying


async def test_apply_creates_what_is_absent(server: Server) -> None:
    made = await server.cluster.apply(server.own(builders.fine_tune_job()), manager=OWNER)
    assert made["metadata"]["generation"] == 1
    assert {"uid", "resourceVersion", "creationTimestamp"} <= made["metadata"].keys()
    found = await server.cluster.get("anneal.dev/v1alpha1", "FineTuneJob", server.namespace, "intents-v1")
    assert found is not None
    assert found["metadata"]["uid"] == made["metadata"]["uid"]


async def test_what_is_absent_is_none(server: Server) -> None:
    assert await server.cluster.get("v1", "ConfigMap", server.namespace, "nothing") is None


@pytest.mark.parametrize("kind", ["ConfigMap", "Job", "FineTuneJob"])
async def test_an_identical_apply_changes_nothing(server: Server, kind: str) -> None:
    manifests = {
        "ConfigMap": server.config_map(a="1"),
        "Job": job(server),
        "FineTuneJob": server.own(builders.fine_tune_job()),
    }

    async def version() -> str:
        applied = await server.cluster.apply(manifests[kind], manager=OWNER)
        return str(applied["metadata"]["resourceVersion"])

    async def is_the_same() -> bool:
        return await version() == await version()

    await server.backstage.eventually(is_the_same)  # a controller may write the status of a new object


async def test_apply_with_a_uid_never_creates(server: Server) -> None:
    manifest = server.own(builders.fine_tune_job())
    manifest["metadata"]["uid"] = str(uuid.uuid4())
    with pytest.raises(ConflictError):
        await server.cluster.apply(manifest, manager=OWNER)


@pytest.mark.parametrize("kind", ["ConfigMap", "FineTuneJob"])
async def test_apply_with_another_uid_is_refused(server: Server, kind: str) -> None:
    manifest = server.config_map(a="1") if kind == "ConfigMap" else server.own(builders.fine_tune_job())
    await server.cluster.apply(manifest, manager=OWNER)
    manifest["metadata"]["uid"] = str(uuid.uuid4())
    with pytest.raises(RefusedError, match="immutable"):
        await server.cluster.apply(manifest, manager=OWNER)


async def test_apply_on_an_older_view_is_a_conflict(server: Server) -> None:
    seen = await server.cluster.apply(server.own(builders.fine_tune_job()), manager=OWNER)
    await server.write_status(seen, phase="Preparing")
    late = server.status_of(seen, phase="Training")
    late["metadata"]["resourceVersion"] = seen["metadata"]["resourceVersion"]
    with pytest.raises(ConflictError):
        await server.cluster.apply(late, manager=STATUS, subresource="status")


async def test_apply_into_an_absent_namespace_is_not_found(server: Server) -> None:
    manifest = server.config_map(a="1")
    manifest["metadata"]["namespace"] = "no-such-namespace"
    with pytest.raises(NotFoundError):
        await server.cluster.apply(manifest, manager=OWNER)


async def test_create_of_a_name_that_exists_is_a_conflict(server: Server) -> None:
    event = server.manifest("Event", "x.1", type="Normal", reason="Because", note="said", action="Reconcile")
    event |= {"apiVersion": "events.k8s.io/v1", "eventTime": "2026-01-01T00:00:00.000000Z"}
    event |= {"reportingController": "anneal.dev/operator", "reportingInstance": "test"}
    event["regarding"] = {"kind": "ConfigMap", "namespace": server.namespace, "name": "x"}
    await server.cluster.create(event)
    with pytest.raises(ConflictError):
        await server.cluster.create(event)


async def test_a_list_has_exact_labels_and_kinds(server: Server) -> None:
    for name, labels in (("a", {"role": "fit", "x": "1"}), ("b", {"role": "fit"}), ("c", {"role": "prepare"})):
        await server.cluster.apply(server.manifest("ConfigMap", name, metadata={"labels": labels}), manager=OWNER)
    found = await server.cluster.list("v1", "ConfigMap", server.namespace, {"role": "fit"})
    assert [(o["kind"], o["metadata"]["name"]) for o in found] == [("ConfigMap", "a"), ("ConfigMap", "b")]
    everywhere = await server.cluster.list("v1", "ConfigMap", None, {"role": "fit", "x": "1"})
    assert [o["metadata"]["name"] for o in everywhere if o["metadata"]["namespace"] == server.namespace] == ["a"]


# Status and generation


async def test_the_status_of_what_is_absent_is_not_found(server: Server) -> None:
    gone = server.own(builders.as_stored(builders.fine_tune_job(), str(uuid.uuid4())))
    with pytest.raises(NotFoundError):
        await server.write_status(gone, phase="Preparing")


async def test_only_its_version_keeps_a_status_from_a_namesake(server: Server) -> None:
    """The uid is not looked at on the way to /status, so whoever writes there sends the resourceVersion too."""
    seen = await server.cluster.apply(server.own(builders.fine_tune_job()), manager=OWNER)
    earlier = {**seen, "metadata": {**seen["metadata"], "uid": str(uuid.uuid4())}}
    assert (await server.write_status(earlier, phase="Preparing"))["status"] == {"phase": "Preparing"}
    late = server.status_of(earlier, phase="Training")
    late["metadata"]["resourceVersion"] = seen["metadata"]["resourceVersion"]
    with pytest.raises(ConflictError):
        await server.cluster.apply(late, manager=STATUS, subresource="status")


async def test_generation_counts_changes_of_spec_only(server: Server) -> None:
    manifest = server.own(builders.fine_tune_job())
    first = await server.cluster.apply(manifest, manager=OWNER)
    told = await server.write_status(first, phase="Preparing", observedGeneration=1)
    assert told["metadata"]["generation"] == 1
    assert told["metadata"]["resourceVersion"] != first["metadata"]["resourceVersion"]
    labelled = {**manifest, "metadata": {**manifest["metadata"], "labels": {"a": "b"}}}
    assert (await server.cluster.apply(labelled, manager=OWNER))["metadata"]["generation"] == 1
    changed = await server.cluster.apply(builders.merged(labelled, {"spec": {"suspend": True}}), manager=OWNER)
    assert changed["metadata"]["generation"] == 2
    assert changed["status"] == {"phase": "Preparing", "observedGeneration": 1}


async def test_status_and_spec_have_doors_of_their_own(server: Server) -> None:
    manifest = server.own(builders.fine_tune_job())
    seen = await server.cluster.apply({**manifest, "status": {"phase": "Forged"}}, manager=OWNER)
    assert "status" not in seen
    both = server.status_of(seen, phase="Preparing") | {"spec": builders.fine_tune_job(suspend=True)["spec"]}
    told = await server.cluster.apply(both, manager=STATUS, subresource="status")
    assert told["status"] == {"phase": "Preparing"}
    assert "suspend" not in told["spec"]


async def test_a_status_that_breaks_its_schema_is_refused(server: Server) -> None:
    seen = await server.cluster.apply(server.own(builders.fine_tune_job()), manager=OWNER)
    for wrong in ({"phase": "x" * 33}, {"progress": {"percent": 101}}, {"startTime": 7}):
        with pytest.raises(RefusedError):
            await server.write_status(seen, **wrong)


@pytest.mark.parametrize("status", [{"nonsense": 1}, {"progress": {"typo": 2}}, {"progress": {"loss": None}}])
async def test_what_the_schema_does_not_know_is_not_taken(server: Server, status: dict[str, Any]) -> None:
    """Server-side apply does not prune. It fails, for a member without a type and for a null."""
    seen = await server.cluster.apply(server.own(builders.fine_tune_job()), manager=OWNER)
    with pytest.raises(KubeError):
        await server.write_status(seen, **status)


async def test_a_spec_that_breaks_its_schema_is_refused(server: Server) -> None:
    wrong = builders.fine_tune_job(training={"learningRate": "abc"})
    with pytest.raises(RefusedError, match="learningRate"):
        await server.cluster.apply(server.own(wrong), manager=OWNER)


async def test_replicas_have_a_default_that_others_see(server: Server) -> None:
    manifest = server.own(builders.model_deployment(replicas=None))
    assert (await server.cluster.apply(manifest, manager=OWNER))["spec"]["replicas"] == 1


# Who owns what


async def test_conditions_of_several_writers_live_together(server: Server) -> None:
    seen = await server.cluster.apply(server.own(builders.fine_tune_job()), manager=OWNER)
    await server.write_status(seen, conditions=[condition("DataReady"), condition("Training", "False")])
    told = await server.write_status(seen, OTHER, conditions=[condition("QuotaReserved")])
    assert {c["type"] for c in told["status"]["conditions"]} == {"DataReady", "Training", "QuotaReserved"}
    told = await server.write_status(seen, conditions=[condition("Training")])
    assert {c["type"]: c["status"] for c in told["status"]["conditions"]} == {
        "Training": "True",
        "QuotaReserved": "True",
    }


async def test_what_is_no_longer_said_goes(server: Server) -> None:
    await server.cluster.apply(server.config_map(a="1", b="1"), manager=OWNER)
    await server.cluster.apply(server.config_map(b="1", c="1"), manager=OTHER)
    left = await server.cluster.apply(server.config_map(), manager=OWNER)
    assert left["data"] == {"b": "1", "c": "1"}


async def test_an_object_in_status_that_is_no_longer_said_goes_whole(server: Server) -> None:
    seen = await server.cluster.apply(server.own(builders.fine_tune_job()), manager=OWNER)
    progress = {"percent": 1, "loss": "0.5"}
    await server.write_status(seen, phase="Training", progress=progress, usage={"preemptions": 1})
    told = await server.write_status(seen, phase="Training", usage={"preemptions": 1})
    assert told["status"] == {"phase": "Training", "usage": {"preemptions": 1}}
    told = await server.write_status(seen, phase="Training", progress={"percent": 2})
    assert told["status"] == {"phase": "Training", "progress": {"percent": 2}}


async def test_a_list_that_is_a_map_has_the_order_of_the_last_writer(server: Server) -> None:
    seen = await server.cluster.apply(server.own(builders.fine_tune_job()), manager=OWNER)
    await server.write_status(seen, conditions=[condition("A"), condition("B")])
    told = await server.write_status(seen, conditions=[condition("C"), condition("B"), condition("A")])
    assert [c["type"] for c in told["status"]["conditions"]] == ["C", "B", "A"]


async def test_the_last_writer_by_force_owns_the_field(server: Server) -> None:
    await server.cluster.apply(server.config_map(a="1"), manager=OWNER)
    await server.cluster.apply(server.config_map(a="2"), manager=OTHER)
    left = await server.cluster.apply(server.config_map(b="1"), manager=OWNER)
    assert left["data"] == {"a": "2", "b": "1"}


async def test_finalizers_are_a_set_of_each_writers_own(server: Server) -> None:
    ours = server.manifest("ConfigMap", metadata={"finalizers": ["anneal.dev/a"]})
    await server.cluster.apply(ours, manager=OWNER)
    theirs = server.manifest("ConfigMap", metadata={"finalizers": ["example.com/b"]})
    both = await server.cluster.apply(theirs, manager=OTHER)
    assert sorted(both["metadata"]["finalizers"]) == ["anneal.dev/a", "example.com/b"]
    left = await server.cluster.apply(server.manifest("ConfigMap"), manager=OWNER)
    assert left["metadata"]["finalizers"] == ["example.com/b"]
    await server.cluster.apply(server.manifest("ConfigMap"), manager=OTHER)


# Jobs


async def test_the_template_of_a_job_cannot_change(server: Server) -> None:
    made = await server.cluster.apply(job(server), manager=OWNER)
    with pytest.raises(RefusedError, match="immutable"):
        await server.cluster.apply(job(server, image="image:2"), manager=OWNER)
    resumed = await server.cluster.apply(job(server, suspend=False, backoffLimit=3), manager=OWNER)
    assert (resumed["spec"]["suspend"], resumed["spec"]["backoffLimit"]) == (False, 3)
    assert resumed["metadata"]["generation"] == made["metadata"]["generation"] + 1


async def test_what_is_no_longer_said_falls_back_to_its_default(server: Server) -> None:
    await server.cluster.apply(job(server), manager=OWNER)
    manifest = job(server)
    del manifest["spec"]["suspend"]
    assert (await server.cluster.apply(manifest, manager=OWNER))["spec"]["suspend"] is False


async def test_a_job_has_defaults(server: Server) -> None:
    template = {"spec": {"restartPolicy": "Never", "containers": [{"name": "main", "image": "image:1"}]}}
    made = await server.cluster.apply(server.manifest("Job", spec={"template": template}), manager=OWNER)
    spec = made["spec"]
    assert {m: spec[m] for m in ("suspend", "parallelism", "completions", "completionMode")} == {
        "suspend": False,
        "parallelism": 1,
        "completions": 1,
        "completionMode": "NonIndexed",
    }


# Deleting


async def test_delete_is_for_one_uid_only(server: Server) -> None:
    made = await server.cluster.apply(server.config_map(a="1"), manager=OWNER)
    await server.cluster.delete("v1", "ConfigMap", server.namespace, "x", str(uuid.uuid4()))
    assert await server.cluster.get("v1", "ConfigMap", server.namespace, "x") is not None
    await server.cluster.delete("v1", "ConfigMap", server.namespace, "x", made["metadata"]["uid"])
    assert await server.cluster.get("v1", "ConfigMap", server.namespace, "x") is None
    await server.cluster.delete("v1", "ConfigMap", server.namespace, "x", made["metadata"]["uid"])


async def test_an_object_with_finalizers_stays_marked(server: Server) -> None:
    held = server.manifest("ConfigMap", metadata={"finalizers": ["anneal.dev/a"]})
    made = await server.cluster.apply(held, manager=OWNER)
    await server.cluster.delete("v1", "ConfigMap", server.namespace, "x", made["metadata"]["uid"])
    going = await server.cluster.get("v1", "ConfigMap", server.namespace, "x")
    assert going is not None
    assert "deletionTimestamp" in going["metadata"]
    await server.cluster.apply(server.manifest("ConfigMap"), manager=OWNER)
    assert await server.cluster.get("v1", "ConfigMap", server.namespace, "x") is None


async def test_children_go_with_their_owner(server: Server) -> None:
    owner = await server.cluster.apply(server.config_map("owner", a="1"), manager=OWNER)
    meta = owner["metadata"]
    reference = {"apiVersion": "v1", "kind": "ConfigMap", "name": "owner", "uid": meta["uid"], "controller": True}
    child = server.manifest("ConfigMap", "child", metadata={"ownerReferences": [reference]})
    await server.cluster.apply(child, manager=OWNER)
    await server.cluster.delete("v1", "ConfigMap", server.namespace, "owner", meta["uid"])

    async def is_gone() -> bool:
        return await server.cluster.get("v1", "ConfigMap", server.namespace, "child") is None

    await server.backstage.eventually(is_gone)


async def test_a_child_of_an_owner_that_is_gone_is_accepted(server: Server) -> None:
    """So whoever makes children must have seen the owner a moment before."""
    reference = {"apiVersion": "v1", "kind": "ConfigMap", "name": "owner", "uid": str(uuid.uuid4()), "controller": True}
    child = server.manifest("ConfigMap", "child", metadata={"ownerReferences": [reference]})
    assert (await server.cluster.apply(child, manager=OWNER))["metadata"]["uid"]


# Tokens


async def test_a_token_that_nobody_issued_is_not_authenticated(server: Server) -> None:
    review = await server.cluster.create(_review("nonsense", "anneal-reports"))
    assert not review["status"].get("authenticated")


async def test_a_bound_token_names_its_pod_and_its_audience(server: Server) -> None:
    pod = await server.cluster.apply(
        server.manifest("Pod", "fit-0", spec={"containers": [{"name": "main", "image": "image:1"}]}), manager=OWNER
    )
    token = await server.backstage.bound_token(pod, "anneal-reports")
    review = await server.cluster.create(_review(token, "anneal-reports"))
    status, user = review["status"], review["status"]["user"]
    assert (status["authenticated"], status["audiences"]) == (True, ["anneal-reports"])
    assert user["username"] == f"system:serviceaccount:{server.namespace}:default"
    assert user["extra"][PODS_NAME] == ["fit-0"]
    assert user["extra"][PODS_UID] == [pod["metadata"]["uid"]]
    elsewhere = await server.cluster.create(_review(token, "https://kubernetes.default.svc"))
    assert not elsewhere["status"].get("authenticated")


def _review(token: str, audience: str) -> dict[str, Any]:
    spec = {"token": token, "audiences": [audience]}
    return {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "metadata": {}, "spec": spec}
