"""The operator as users have it: its image, its manifests, its RBAC, on a real Kubernetes with real pods."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from tests.conftest import KubernetesUnderTest
from tests.e2e import outside
from tests.e2e.samples import animal_rows

from anneal.api.conditions import is_true
from anneal.api.kinds import BY_NAME
from anneal.cli.tree import line
from anneal_demo.up import NAMES, Target, build_images, fill_hub, install
from anneal_demo.up import target as given_target
from local_cluster.paths import cache_root

NAMESPACE = "e2e"
Object = dict[str, Any]


@dataclass(frozen=True)
class Anneal:
    """An installed operator, and a namespace to use it in."""

    kubernetes: KubernetesUnderTest
    target: Target
    namespace: str = NAMESPACE

    def kubectl(self, *arguments: str, stdin: str | None = None) -> str:
        """kubectl in the namespace."""
        return self.kubernetes.kubectl("-n", self.namespace, *arguments, stdin=stdin)

    def apply(self, *objects: Object) -> None:
        """kubectl apply, as users and pipelines do."""
        for obj in objects:
            self.kubectl("apply", "-f", "-", stdin=json.dumps(obj))

    def get(self, kind: str, name: str) -> Object:
        """One object; empty when there is none."""
        found = self.kubectl("get", _plural(kind), name, "-o", "json", "--ignore-not-found")
        return json.loads(found) if found else {}

    def list(self, kind: str, *arguments: str) -> list[Object]:
        """Objects of a kind."""
        items: list[Object] = json.loads(self.kubectl("get", _plural(kind), "-o", "json", *arguments))["items"]
        return items

    def wait(
        self, kind: str, name: str, until: Callable[[Object], bool], seconds: float, seen: list[Object] | None = None
    ) -> Object:
        """The object once `until` holds of it; each change is printed and, if asked for, kept in `seen`."""
        deadline, last, obj = time.monotonic() + seconds, "", {}
        while time.monotonic() < deadline:
            obj = self.get(kind, name)
            if obj and (now := line(obj)) != last:
                print(f"  {now}", flush=True)
                last = now
                if seen is not None:
                    seen.append(obj)
            if obj and until(obj):
                return obj
            time.sleep(1)
        raise AssertionError(
            f"{kind}/{name} did not get there in {seconds} s: {json.dumps(obj.get('status'), indent=1)}"
        )

    def put(self, claim: str, files: dict[str, str | bytes]) -> None:
        """Write small files into a claim, by a Job, as a user would."""
        names = {f"f{i}": path for i, path in enumerate(files)}
        self.apply(
            {
                "apiVersion": "v1",
                "kind": "ConfigMap",
                "metadata": {"name": "put"},
                "binaryData": {key: in_base64(files[path]) for key, path in names.items()},
            },
        )
        commands = "; ".join(
            f"mkdir -p $(dirname /claim/{path}) && cp /files/{key} /claim/{path}" for key, path in names.items()
        )
        self.run("put", claim, ["sh", "-ec", commands], files="put")

    def run(self, name: str, claim: str, command: list[str], files: str | None = None) -> str:
        """Run a command in a Pod Security `restricted` pod with a claim at /claim; returns its log."""
        self.kubectl("delete", "job", name, "--ignore-not-found", "--wait=true")
        self.apply(helper_job(name, self.target.images["evaluator"], claim, command, files))
        self.kubectl("wait", "--for=condition=Complete", f"job/{name}", "--timeout=120s")
        return self.kubectl("logs", f"job/{name}")


def is_over(obj: Object) -> bool:
    """Whether a FineTuneJob or an Evaluation has ended, well or not."""
    return is_true(obj, "Complete") or is_true(obj, "Failed")


def in_base64(content: str | bytes) -> str:
    return base64.b64encode(content.encode() if isinstance(content, str) else content).decode()


def _plural(kind: str) -> str:
    return BY_NAME[kind].plural if kind in BY_NAME else kind


def helper_job(name: str, image: str, claim: str, command: list[str], files: str | None) -> Object:
    """A Job of the test's own."""
    mounts = [{"name": "claim", "mountPath": "/claim"}]
    volumes: list[Object] = [{"name": "claim", "persistentVolumeClaim": {"claimName": claim}}]
    if files:
        mounts.append({"name": "files", "mountPath": "/files"})
        volumes.append({"name": "files", "configMap": {"name": files}})
    container = {
        "name": "main",
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "command": command,
        "volumeMounts": mounts,
        "resources": {"requests": {"cpu": "50m", "memory": "64Mi"}, "limits": {"memory": "256Mi"}},
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
    }
    pod = {
        "restartPolicy": "Never",
        "automountServiceAccountToken": False,
        "containers": [container],
        "volumes": volumes,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": 65532,
            "fsGroup": 65532,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
    }
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": name},
        "spec": {"backoffLimit": 0, "template": {"spec": pod}},
    }


@pytest.fixture(scope="session")
def target(kubernetes: KubernetesUnderTest) -> Target:
    """The cluster with our images in it and the operator installed from manifests/base."""
    if kubernetes.local is None:
        found = given_target()
    else:
        images = build_images((*NAMES, "vllm-cpu"))
        kubernetes.local.load_images(cache_root() / "oci", *images.values())
        found = Target(str(kubernetes.kubeconfig), kubernetes.command, images)
    install(found)
    return found


@pytest.fixture(scope="session")
def anneal(kubernetes: KubernetesUnderTest, target: Target) -> Iterator[Anneal]:
    """The operator and the namespace e2e with a filled hub and room for artifacts."""
    fill_hub(target, NAMESPACE)
    yield Anneal(kubernetes, target)
    kubernetes.kubectl("delete", "namespace", NAMESPACE, "--wait=false")


@pytest.fixture(scope="session")
def world(anneal: Anneal, tmp_path_factory: pytest.TempPathFactory) -> None:
    """What lies outside the cluster: rows by HTTPS, a Hub, hosted models."""
    image, folder = anneal.target.images["operator"], tmp_path_factory.mktemp("outside")
    anneal.apply(*outside.objects(anneal.namespace, image, folder, animal_rows("prompt")))
    anneal.kubectl("wait", "--for=condition=Ready", f"pod/{outside.NAME}", "--timeout=120s")
