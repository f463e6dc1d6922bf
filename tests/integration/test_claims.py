"""A pod that claims its accelerators, before a scheduler looks at it: with its template, and without."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from tests.conftest import KubernetesUnderTest

from anneal.api.workloads import Accelerator, Resources
from anneal.kinds.children import accelerators_of_pod, resource_requirements
from anneal.kinds.pods import SLOW_START_SECONDS, PodReason, waiting

pytestmark = pytest.mark.integration
NAMESPACE = "claims"
SECONDS = 60
TEMPLATE = {
    "apiVersion": "resource.k8s.io/v1",
    "kind": "ResourceClaimTemplate",
    "metadata": {"name": "two-h100"},
    "spec": {
        "spec": {"devices": {"requests": [{"name": "gpu", "exactly": {"deviceClassName": "gpu.example", "count": 2}}]}}
    },
}


def job(name: str, template: str) -> dict[str, Any]:
    """A Job whose pod asks for accelerators as the pods of all three kinds do."""
    wanted = Resources(accelerator=Accelerator(resource_claim_template_name=template, per_node=2))
    main = {"name": "main", "image": "image:1", "resources": resource_requirements(wanted)}
    pod = {"restartPolicy": "Never", "containers": [main], **accelerators_of_pod(wanted)}
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": name},
        "spec": {"backoffLimit": 0, "template": {"spec": pod}},
    }


class Cluster:
    """The namespace of this test."""

    def __init__(self, kubernetes: KubernetesUnderTest) -> None:
        self._kubernetes = kubernetes

    def create(self, manifest: dict[str, Any]) -> None:
        self._kubernetes.kubectl("create", "-n", NAMESPACE, "-f", "-", stdin=json.dumps(manifest))

    def items(self, kind: str, selector: str) -> list[dict[str, Any]]:
        found = self._kubernetes.kubectl("get", kind, "-n", NAMESPACE, selector, "-o", "json")
        return list(json.loads(found)["items"])

    def pod(self, of: str, until: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """The pod of that Job, once `until` holds."""
        deadline = time.monotonic() + SECONDS
        while True:
            found = [p for p in self.items("pods", f"--selector=job-name={of}") if until(p)]
            if found:
                return found[0]
            assert time.monotonic() < deadline, self._kubernetes.kubectl("get", "events,pods", "-n", NAMESPACE)
            time.sleep(0.2)


@pytest.fixture
def cluster(control_plane: KubernetesUnderTest) -> Iterator[Cluster]:
    control_plane.kubectl("create", "namespace", NAMESPACE)
    yield Cluster(control_plane)
    control_plane.kubectl("delete", "namespace", NAMESPACE, "--wait=false")


def test_a_pod_gets_a_claim_by_its_template_and_one_without_it_says_what_it_waits_for(cluster: Cluster) -> None:
    cluster.create(TEMPLATE)
    cluster.create(job("with", "two-h100"))
    cluster.create(job("without", "two-h200"))
    claimed = cluster.pod("with", lambda pod: "resourceClaimStatuses" in pod["status"])
    (claim,) = cluster.items("resourceclaims", f"--field-selector=metadata.namespace={NAMESPACE}")
    assert [owner["uid"] for owner in claim["metadata"]["ownerReferences"]] == [claimed["metadata"]["uid"]]
    later = datetime.now(UTC) + timedelta(seconds=SLOW_START_SECONDS + SECONDS)
    # On a cluster with a scheduler, that one speaks now: nobody offers such devices.
    assert (said := waiting(claimed, later)) is None or said.reason == PodReason.UNSCHEDULABLE

    def was_refused(pod: dict[str, Any]) -> bool:
        name = f"--field-selector=involvedObject.name={pod['metadata']['name']}"
        return any(event["reason"] == "FailedResourceClaimCreation" for event in cluster.items("events", name))

    unclaimed = cluster.pod("without", was_refused)
    said = waiting(unclaimed, later)
    assert said is not None
    assert said.reason == PodReason.UNCLAIMED
    assert "is there a ResourceClaimTemplate 'two-h200' in its namespace?" in said.message
