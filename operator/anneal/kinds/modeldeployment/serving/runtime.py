"""What a runtime says of itself, and the containers that are made of it: layout, server, probes.

Deployments serve with it and Evaluations judge with it, both through this module: what is judged is what is served.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from anneal.api.runs import MODEL_REPOSITORY_DIR, RUN_FILE
from anneal.api.runtimes import RuntimeName
from anneal.api.workloads import Resources
from anneal.kinds.children import container, resource_requirements
from anneal.kinds.contract import Images, Seen

Json = dict[str, Any]
#: Container names, which failures are told by.
LAYOUT, SERVER = "layout", "server"
HTTP_PORT = 8000

#: Requests under way when a server is told to end may take this long, in seconds; then they are cut.
EXIT_TIMEOUT = 20
#: Between the removal of a pod from its Service and its SIGTERM, in seconds: servers refuse what comes after that.
DRAIN = 15
#: Leaves room for DRAIN and EXIT_TIMEOUT.
GRACE_PERIOD = 60

#: How long a model may load before the kubelet starts the server again, in seconds: long, since a rollout has its own
#: deadline, which says why it gave up.
STARTUP_BUDGET = 1800
STARTUP_PERIOD, READINESS_PERIOD, LIVENESS_PERIOD = 3, 10, 30
#: A dead model fails at once, so three failures are half a minute.
READINESS_FAILURES = 3
#: Five minutes without a sign of life: only then is loading the model again the lesser evil.
LIVENESS_FAILURES = 10

#: Hashing reads files in blocks; it needs no memory worth speaking of.
_LAYOUT_RESOURCES = Resources(cpu="100m", memory="512Mi")
#: What the layout container writes and the server only reads.
_MODELS = "models"


@dataclass(frozen=True)
class Runtime:
    """A server, by all in which it differs from the others."""

    name: RuntimeName
    image: Callable[[Images], str]
    command: tuple[str, ...]
    """Of the server, which runs as a child of `anneal_serving`: by itself it hears no SIGTERM before it is loaded."""
    ports: tuple[tuple[str, int], ...]
    """(name, number); the first takes requests, under the name "http"."""
    path: str
    """Of the URL at which clients ask; `{model}` stands for the model."""
    alive: Callable[[int], Mapping[str, Any]]
    """How the kubelet asks whether a number of models still answer: the members of a probe but its period."""
    environment: tuple[tuple[str, str], ...] = ()
    volumes: tuple[Mapping[str, Any], ...] = ()
    mounts: tuple[Mapping[str, Any], ...] = ()
    """Of the server, beside those of every serving pod."""

    def url(self, host: str, model: str) -> str:
        """Where clients in the cluster ask `model`."""
        return f"http://{host}:{HTTP_PORT}{self.path.format(model=model)}"

    def service_ports(self) -> list[Json]:
        """Ports of a Service in front of the server."""
        return [{"name": n, "port": p, "targetPort": n, "protocol": "TCP"} for n, p in self.ports]

    def all_volumes(self) -> tuple[Mapping[str, Any], ...]:
        """Volumes of the pod, beside those of claims."""
        return ({"name": _MODELS, "emptyDir": {}}, *self.volumes)

    def layout(self, seen: Seen, mounts: Sequence[Mapping[str, Any]], run_file: str = RUN_FILE) -> Json:
        """Init container: verifies every digest of the ServeRun in `run_file`, then writes what the server reads."""
        return container(
            seen,
            name=LAYOUT,
            image=self.image(seen.facts.images),
            requirements=resource_requirements(_LAYOUT_RESOURCES),
            mounts=[*mounts, {"name": _MODELS, "mountPath": MODEL_REPOSITORY_DIR}],
            command=["python", "-m", "anneal_serving", "layout"],
            env=self._env(run_file),
        )

    def server(
        self,
        seen: Seen,
        resources: Resources,
        mounts: Sequence[Mapping[str, Any]],
        models: int,
        run_file: str = RUN_FILE,
    ) -> Json:
        """The server of `models` models, started only when all of them answer. `long_lived` or `sidecar` completes."""
        return container(
            seen,
            name=SERVER,
            image=self.image(seen.facts.images),
            requirements=resource_requirements(resources),
            mounts=[
                *mounts,
                {"name": _MODELS, "mountPath": MODEL_REPOSITORY_DIR, "readOnly": True},
                *self.mounts,
            ],
            command=["python", "-m", "anneal_serving", "run", *self.command],
            env=self._env(run_file),
            ports=[{"name": n, "containerPort": p, "protocol": "TCP"} for n, p in self.ports],
            startupProbe=_every(STARTUP_PERIOD, STARTUP_BUDGET // STARTUP_PERIOD, inference(models)),
        )

    def long_lived(self, server: Mapping[str, Any], models: int) -> Json:
        """The server as a Deployment runs it: watched for good, and ended without cutting a request."""
        return {
            **server,
            "readinessProbe": _every(READINESS_PERIOD, READINESS_FAILURES, self.alive(models)),
            "livenessProbe": _every(LIVENESS_PERIOD, LIVENESS_FAILURES, self.alive(models)),
            "lifecycle": {"preStop": {"sleep": {"seconds": DRAIN}}},
        }

    def _env(self, run_file: str) -> list[dict[str, str]]:
        pairs = (("ANNEAL_RUN_FILE", run_file), ("HOME", "/tmp"), *self.environment)
        return [{"name": name, "value": value} for name, value in pairs]


def accelerators(resources: Resources) -> int:
    """Accelerators of one pod; 0 serves on CPU."""
    return resources.accelerator.per_node if resources.accelerator else 0


def sidecar(server: Mapping[str, Any]) -> Json:
    """The server as a native sidecar: up before the main container starts, ended when it is done."""
    return {**server, "restartPolicy": "Always"}


def inference(models: int) -> Json:
    """A real inference on every model. The probe waits 4 s for each; Python itself needs a moment on a busy node."""
    return {
        "exec": {"command": ["python", "-m", "anneal_serving", "probe"]},
        "timeoutSeconds": 4 + 4 * models,
    }


def _every(seconds: int, failures: int, asked: Mapping[str, Any]) -> Json:
    return {**asked, "periodSeconds": seconds, "failureThreshold": failures}
