"""Who may approve: with manifests/approvals, only those with the verb, and under their own name."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Iterator

import pytest
from tests.conftest import REPOSITORY, KubernetesUnderTest
from tests.support.builders import custom, digest, evaluation

pytestmark = pytest.mark.integration
NAMESPACE = "approvals"
BY, DIGEST = "anneal.dev/approved-by", "anneal.dev/approved-digest"


@pytest.fixture(scope="module")
def cluster(control_plane: KubernetesUnderTest) -> Iterator[KubernetesUnderTest]:
    """The policy is at work; anna may approve, bob may edit everything."""
    kubectl = control_plane.kubectl
    kubectl("apply", "--server-side", "-k", str(REPOSITORY / "crds"))
    kubectl("wait", "--for=condition=Established", "crd", "-l", "app.kubernetes.io/part-of=anneal")
    kubectl("apply", "--server-side", "-k", str(REPOSITORY / "manifests" / "base"))
    kubectl("apply", "--server-side", "-k", str(REPOSITORY / "manifests" / "approvals"))
    kubectl("create", "namespace", NAMESPACE)
    kubectl("-n", NAMESPACE, "create", "rolebinding", "approvers", "--clusterrole=anneal-approve", "--user=anna")
    kubectl("-n", NAMESPACE, "create", "rolebinding", "editors", "--clusterrole=anneal-edit", "--user=bob")
    obj = custom("Evaluation", "x", evaluation()["spec"])
    obj["metadata"]["namespace"] = NAMESPACE
    kubectl("create", "-f", "-", stdin=json.dumps(obj))
    _wait_until_it_is_at_work(control_plane)
    yield control_plane
    kubectl("delete", "-k", str(REPOSITORY / "manifests" / "approvals"))
    kubectl("delete", "namespace", NAMESPACE, "--wait=false")


def annotate(cluster: KubernetesUnderTest, user: str, *annotations: str) -> subprocess.CompletedProcess[str]:
    return cluster.try_kubectl("-n", NAMESPACE, f"--as={user}", "annotate", "--overwrite", "eval", "x", *annotations)


def _wait_until_it_is_at_work(cluster: KubernetesUnderTest) -> None:
    """The API server takes a while to load a policy."""
    deadline = time.monotonic() + 60
    while annotate(cluster, "bob", f"{BY}=bob", "--dry-run=server").returncode == 0:
        assert time.monotonic() < deadline, "the policy does not come into force"
        time.sleep(0.2)


def test_an_editor_edits_but_does_not_approve(cluster: KubernetesUnderTest) -> None:
    assert annotate(cluster, "bob", "team=search").returncode == 0
    refused = annotate(cluster, "bob", f"{DIGEST}={digest('a')}", f"{BY}=bob")
    assert "needs the verb approve on evaluations.anneal.dev" in refused.stderr


def test_an_approver_approves_by_no_other_name_and_no_editor_takes_it_back(cluster: KubernetesUnderTest) -> None:
    other = annotate(cluster, "anna", f"{DIGEST}={digest('a')}", f"{BY}=bob")
    assert "anneal.dev/approved-by must be who approves: anna" in other.stderr
    own = annotate(cluster, "anna", f"{DIGEST}={digest('a')}", f"{BY}=anna")
    assert own.returncode == 0, own.stderr
    assert "needs the verb approve" in annotate(cluster, "bob", f"{DIGEST}-", f"{BY}-").stderr
    assert annotate(cluster, "bob", "team=ads").returncode == 0, "what was there already is no approval of his"


def test_nobody_brings_an_approval_along(cluster: KubernetesUnderTest) -> None:
    obj = custom("Evaluation", "y", evaluation()["spec"])
    obj["metadata"] |= {"namespace": NAMESPACE, "annotations": {DIGEST: digest("a"), BY: "bob"}}
    done = cluster.try_kubectl("--as=bob", "create", "-f", "-", stdin=json.dumps(obj))
    assert "needs the verb approve" in done.stderr
