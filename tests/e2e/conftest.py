"""The operator as users have it: its image, its manifests, its RBAC, on a real Kubernetes with real pods."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pytest
from kubernetes import client, config
from tests.conftest import KubernetesUnderTest
from tests.e2e import outside
from tests.e2e.samples import animal_rows, sample

from anneal.api import GROUP, VERSION
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

    @cached_property
    def objects(self) -> client.CustomObjectsApi:
        """In this process: a kubectl for every look, once a second, took a tenth of a core."""
        return client.CustomObjectsApi(config.new_client_from_config(str(self.kubernetes.kubeconfig)))

    def get(self, kind: str, name: str) -> Object:
        """One of Anneal's objects; empty when there is none."""
        try:
            found: Object = self.objects.get_namespaced_custom_object(
                GROUP, VERSION, self.namespace, BY_NAME[kind].plural, name, _request_timeout=60
            )
        except client.ApiException as error:
            if error.status != 404:
                raise
            return {}
        return found

    def list(self, kind: str, *arguments: str) -> list[Object]:
        """Objects of a kind."""
        items: list[Object] = json.loads(self.kubectl("get", kind, "-o", "json", *arguments))["items"]
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
    """The cluster with our images in it."""
    if kubernetes.local is None:
        return given_target()
    images = build_images((*NAMES, "vllm-cpu"))
    kubernetes.local.load_images(cache_root() / "oci", *images.values())
    return Target(str(kubernetes.kubeconfig), kubernetes.command, images)


@pytest.fixture(scope="session")
def anneal(kubernetes: KubernetesUnderTest, target: Target) -> Iterator[Anneal]:
    """The operator, from manifests/base, and the namespace e2e with a filled hub and room for artifacts."""
    with ThreadPoolExecutor() as pool:
        installing = pool.submit(install, target)
        fill_hub(target, NAMESPACE)
        installing.result()
    yield Anneal(kubernetes, target)
    kubernetes.kubectl("delete", "namespace", NAMESPACE, "--wait=false")


@pytest.fixture(scope="session")
def world(anneal: Anneal, tmp_path_factory: pytest.TempPathFactory) -> None:
    """What lies outside the cluster: rows by HTTPS, a Hub, hosted models."""
    image, folder = anneal.target.images["operator"], tmp_path_factory.mktemp("outside")
    anneal.apply(*outside.objects(anneal.namespace, image, folder, animal_rows("prompt")))
    anneal.kubectl("wait", "--for=condition=Ready", f"pod/{outside.NAME}", "--timeout=120s")


#: Calls the function of this name in every story that has one.
Begin = Callable[[str], None]


@pytest.fixture(scope="session")
def begin(request: pytest.FixtureRequest, anneal: Anneal, world: None) -> Begin:
    """Later stories begin beside earlier ones, in the time that these leave idle; each waits for its own ends."""
    stories = {item.module.__name__: item.module for item in request.session.items if isinstance(item, pytest.Function)}

    def begin_stories(when: str) -> None:
        for story in stories.values():
            if hasattr(story, when):
                getattr(story, when)(anneal)

    return begin_stories


@pytest.fixture(scope="session", autouse=True)
def begun(begin: Begin) -> None:
    """What rests upon no other story."""
    begin("begin")


@pytest.fixture(scope="session")
def chain(anneal: Anneal, begin: Begin) -> list[Object]:
    """Every state that the sample FineTuneJob was seen in, on the way to a served model."""
    seen: list[Object] = []
    anneal.apply(*(sample(kind) for kind in ("finetunejob", "evaluation", "modeldeployment")))
    anneal.wait("FineTuneJob", "intents-v1", is_over, 900, seen)
    anneal.wait("Evaluation", "intents-v1", is_over, 600)
    anneal.wait("ModelDeployment", "intents", lambda o: is_true(o, "Ready"), 300)
    begin("begin_after_chain")
    return seen
