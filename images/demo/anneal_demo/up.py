"""`make demo`: from nothing to a served model, on one machine or on the cluster that ANNEAL_KUBECONFIG names.

Builds what is not built, installs the operator from manifests/ as anyone would, applies manifests/samples/, shows the
chain while it runs, and asks the served model beside its base.
"""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from rich.console import Console
from rich.table import Table

from anneal.api.conditions import find, is_true
from anneal.cli.__main__ import watch
from anneal.cli.ask import ask
from anneal.cli.cluster import Reader
from local_cluster.cluster import Cluster
from local_cluster.paths import cache_root

REPOSITORY = Path(__file__).resolve().parents[3]
OVERLAYS = REPOSITORY / "build" / "demo"
NAMESPACE = "demo"
SYSTEM = "Reply with the intent name only."
QUESTIONS = (
    "turn on the lights in the kitchen",
    "what is the temperature in the bedroom",
    "set a timer for ten minutes",
)
#: In-cluster images of the chain, by the name that the manifests give them.
NAMES = ("operator", "trainer", "evaluator", "triton", "demo")
#: What the operator calls the images of its pods; those that are not built keep the name that the manifests give them.
SETTINGS = {"trainer": "TRAINER", "evaluator": "EVALUATOR", "triton": "TRITON", "vllm-cpu": "VLLM"}
console = Console()


class DemoFailed(Exception):  # noqa: N818 - a sentence for the user
    """The chain did not get to its end; the message is the object's own."""


@dataclass(frozen=True)
class Target:
    """The cluster that the demo runs on, and its images."""

    kubeconfig: str
    kubectl: tuple[str, ...]
    images: dict[str, str]

    def run(self, *arguments: str, stdin: str | None = None) -> str:
        """kubectl's output; raises DemoFailed with its error output."""
        done = subprocess.run([*self.kubectl, *arguments], input=stdin, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise DemoFailed(f"kubectl {' '.join(arguments)}: {done.stderr.strip()}")
        return done.stdout


@contextmanager
def step(text: str) -> Iterator[None]:
    """Say what begins and how long it took."""
    started = time.monotonic()
    console.print(f"[bold]{text}[/bold] ...", highlight=False)
    yield
    console.print(f"  done in {time.monotonic() - started:.0f} s", style="dim", highlight=False)


def target() -> Target:
    """The cluster of ANNEAL_KUBECONFIG with the images of ANNEAL_IMAGES (a JSON file), or one made here."""
    given = os.environ.get("ANNEAL_KUBECONFIG")
    if given:
        listed = os.environ.get("ANNEAL_IMAGES")
        images = json.loads(Path(listed).read_text()) if listed else {n: f"anneal/{n}:0.1.0" for n in NAMES}
        return Target(given, ("kubectl", "--kubeconfig", given), images)
    with step("cluster and images (the first time on a machine takes minutes)"), ThreadPoolExecutor() as pool:
        building = pool.submit(build_images)
        cluster = pool.submit(Cluster("demo").up).result()
        images = building.result()
    with step("images into the node"):
        cluster.load_images(cache_root() / "oci", *images.values())
    return Target(str(cluster.kubeconfig), tuple(cluster.kubectl_command()), images)


def build_images(names: Sequence[str] = NAMES) -> dict[str, str]:
    """References of these images by name, built if they are not there."""
    builder = [os.environ.get("ANNEAL_PYTHON", "python3"), str(REPOSITORY / "images" / "build.py")]
    subprocess.run([*builder, *names], check=True)
    printed = subprocess.run([*builder, "--print-refs"], check=True, capture_output=True, text=True)
    references: dict[str, str] = json.loads(printed.stdout)
    return {name: references[name] for name in names}


def overlay(name: str, base: str, images: dict[str, str], **extra: Any) -> str:
    """A kustomization over one of manifests/ with these images in it; returns its folder."""
    folder = OVERLAYS / name
    folder.mkdir(parents=True, exist_ok=True)
    document = {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "resources": [os.path.relpath(REPOSITORY / "manifests" / base, folder)],
        "images": [_image(n, images[n]) for n in ("operator", "demo")],
        **extra,
    }
    (folder / "kustomization.yaml").write_text(yaml.safe_dump(document, sort_keys=False))
    return str(folder)


def _image(name: str, reference: str) -> dict[str, str]:
    repository, _, tag = reference.rpartition(":")
    return {"name": f"anneal/{name}", "newName": repository, "newTag": tag}


def operator_overlay(images: dict[str, str]) -> str:
    """The operator with these images for itself and for the pods that it makes."""
    literals = [f"ANNEAL_{setting}_IMAGE={images[name]}" for name, setting in SETTINGS.items() if name in images]
    generator = [{"name": "anneal-images", "namespace": "anneal-system", "behavior": "merge", "literals": literals}]
    return overlay("operator", "base", images, configMapGenerator=generator)


def install(cluster: Target) -> None:
    """CRDs, RBAC and the operator's two replicas, from manifests/base."""
    cluster.run("apply", "--server-side", "--force-conflicts", "-k", operator_overlay(cluster.images))
    cluster.run("-n", "anneal-system", "rollout", "status", "deployment/anneal-operator", "--timeout=180s")


def fill_hub(cluster: Target, namespace: str = NAMESPACE) -> None:
    """Namespace, claims, and the Job that puts the base model and the data into the hub."""
    hub = ("-n", namespace, "job/hub")
    image = "jsonpath={.spec.template.spec.containers[0].image}"
    filled_by = cluster.run("get", *hub, "--ignore-not-found", "-o", image)
    if filled_by not in ("", cluster.images["demo"]):
        # A Job's template cannot be changed; what an image of another version filled is filled again.
        cluster.run("delete", *hub)
    folder = overlay(f"hub-{namespace}", "demo", cluster.images, namespace=namespace)
    cluster.run("apply", "--server-side", "--force-conflicts", "-k", folder)
    cluster.run("wait", *hub, "--for=condition=Complete", "--timeout=600s")


def ended(objects: list[dict[str, Any]]) -> bool:
    """Whether the chain is through, or will not get further."""
    if any(is_true(o, "Failed") or is_true(o, "Stalled") for o in objects):
        return True
    return any(o["kind"] == "ModelDeployment" and is_true(o, "Ready") for o in objects)


def demand_success(objects: list[dict[str, Any]]) -> None:
    """Raises DemoFailed with the sentence of the object that did not make it."""
    for obj in objects:
        if is_true(obj, "Failed") or is_true(obj, "Stalled"):
            condition = find(obj["status"], "Failed" if is_true(obj, "Failed") else "Stalled") or {}
            raise DemoFailed(f"{obj['kind']}/{obj['metadata']['name']}: {condition.get('message')}")


def compare(cluster: Target, reader: Reader) -> None:
    """Three questions to the served model and to its base, side by side."""
    table = Table(title="asked through the Service, beside the base model")
    for column in ("question", "base model", "served model"):
        table.add_column(column, overflow="fold")
    answers = ask_base(cluster)
    for question, base in zip(QUESTIONS, answers, strict=True):
        messages = [{"role": "system", "content": SYSTEM}, {"role": "user", "content": question}]
        table.add_row(question, base, ask(reader, NAMESPACE, "intents", messages, 32))
    console.print(table)


def ask_base(cluster: Target) -> list[str]:
    """The base model's own answers, from a Job that loads it out of the hub."""
    job = yaml.safe_load((REPOSITORY / "manifests" / "demo" / "hub.yaml").read_text())
    job["metadata"] = {"name": "ask-base", "namespace": NAMESPACE}
    container = job["spec"]["template"]["spec"]["containers"][0]
    container["image"] = cluster.images["demo"]
    container["args"] = ["ask", "--model", "/hub/smollm2-135m-instruct", "--system", SYSTEM, *QUESTIONS]
    cluster.run("-n", NAMESPACE, "delete", "job", "ask-base", "--ignore-not-found")
    cluster.run("create", "-f", "-", stdin=json.dumps(job))
    cluster.run("-n", NAMESPACE, "wait", "--for=condition=Complete", "job/ask-base", "--timeout=300s")
    answers: list[str] = json.loads(cluster.run("-n", NAMESPACE, "logs", "job/ask-base").strip().splitlines()[-1])
    return answers


def up() -> int:
    """The whole demo. Returns the exit code: 0 when the model is served and asked."""
    started = time.monotonic()
    try:
        cluster = target()
        with step("operator from manifests/base"):
            install(cluster)
        with step("base model and data into the hub"):
            fill_hub(cluster)
        cluster.run("-n", NAMESPACE, "apply", "-k", str(REPOSITORY / "manifests" / "samples"))
        reader = Reader(cluster.kubeconfig)
        with step("train, judge, serve"):
            objects = watch(reader, NAMESPACE, ended)
        demand_success(objects)
        with step("three questions"):
            compare(cluster, reader)
    except DemoFailed as failure:
        console.print(f"[red]{failure}[/red]", highlight=False)
        return 1
    console.print(
        f"\nServed after {time.monotonic() - started:.0f} s. Look around, then `make demo-down`:", style="bold"
    )
    console.print(
        f"  export KUBECONFIG={cluster.kubeconfig}\n  kubectl -n {NAMESPACE} get ftj,eval,mdep", highlight=False
    )
    return 0
