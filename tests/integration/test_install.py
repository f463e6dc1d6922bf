"""The two ways to install, kustomize and Helm, give one and the same operator, with exact and harmless rights."""

from __future__ import annotations

import re
import subprocess
from typing import Any

import pytest
import yaml
from tests.conftest import REPOSITORY, KubernetesUnderTest
from tests.support.helm import helm

pytestmark = pytest.mark.integration
Objects = dict[tuple[str, str], dict[str, Any]]


def given(name: str) -> str:
    """The name as it was given, without the hash that kustomize appends to that of a generated ConfigMap."""
    return re.sub(r"^(anneal-(?:images|prices))-[a-z0-9]+$", r"\1", name)


def by_identity(text: str) -> Objects:
    """Objects of a YAML stream by (kind, name); a generated ConfigMap by its name without the hash."""
    found = {}
    for obj in yaml.safe_load_all(text):
        if obj:
            name = obj["metadata"]["name"]
            found[obj["kind"], given(name)] = obj
    return found


@pytest.fixture(scope="module")
def kustomized(control_plane: KubernetesUnderTest) -> Objects:
    return by_identity(control_plane.kubectl("kustomize", str(REPOSITORY / "manifests" / "base")))


@pytest.fixture(scope="module")
def rendered() -> Objects:
    chart = str(REPOSITORY / "charts" / "anneal")
    done = subprocess.run(
        [str(helm()), "template", "anneal", chart, "--namespace", "anneal-system"],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    return by_identity(done.stdout)


def essence(obj: dict[str, Any]) -> dict[str, Any]:
    """An object without what may differ: chart annotations, the hash in a generated ConfigMap's name."""
    metadata = {k: v for k, v in obj["metadata"].items() if k in ("namespace", "labels")}
    text = yaml.safe_dump({**{k: v for k, v in obj.items() if k != "metadata"}, "metadata": metadata})
    cleaned: dict[str, Any] = yaml.safe_load(text)
    if obj["kind"] == "Deployment":
        template = cleaned["spec"]["template"]
        template["metadata"].pop("annotations", None)
        for source in template["spec"]["containers"][0]["envFrom"]:
            source["configMapRef"]["name"] = given(source["configMapRef"]["name"])
    if obj["kind"] == "CustomResourceDefinition":
        cleaned["metadata"] = {}
    return cleaned


def test_the_chart_installs_what_kustomize_installs(kustomized: Objects, rendered: Objects) -> None:
    namespace = ("Namespace", "anneal-system")  # Helm makes it itself, with --create-namespace
    assert set(rendered) == set(kustomized) - {namespace}
    for identity, obj in rendered.items():
        assert essence(obj) == essence(kustomized[identity]), identity


def test_crds_of_the_chart_are_kept_when_it_is_removed(rendered: Objects) -> None:
    kept = [o for (kind, _), o in rendered.items() if kind == "CustomResourceDefinition"]
    assert len(kept) == 3
    assert all(o["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep" for o in kept)


def test_helm_refuses_unknown_and_wrong_values() -> None:
    for wrong in ("replicas=0", "replica=2", "images.pullPolicy=Sometimes"):
        done = subprocess.run(
            [str(helm()), "template", "anneal", str(REPOSITORY / "charts" / "anneal"), "--set", wrong],
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        assert done.returncode != 0, wrong
        assert wrong.partition("=")[0].rpartition(".")[2] in done.stderr


def test_the_operator_has_no_dangerous_right(kustomized: Objects) -> None:
    rules = [r for (kind, name), o in kustomized.items() if kind in ("Role", "ClusterRole") for r in o["rules"]]
    assert rules
    for rule in rules:
        granted = {*rule["apiGroups"], *rule["resources"], *rule["verbs"]}
        assert not granted & {"*", "secrets", "pods/exec", "pods/attach", "serviceaccounts/token", "escalate", "bind"}


def test_the_real_server_takes_it_all(control_plane: KubernetesUnderTest) -> None:
    control_plane.kubectl("apply", "--server-side", "-k", str(REPOSITORY / "manifests" / "base"))
    warned = control_plane.try_kubectl(
        "apply", "--server-side", "--force-conflicts", "-k", str(REPOSITORY / "manifests" / "base")
    )
    assert "PodSecurity" not in warned.stderr  # the namespace enforces `restricted`, the Deployment passes it
