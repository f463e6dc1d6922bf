"""The pod of NVIDIA Triton Inference Server: layout, server, probes, flags.

Deployments serve with it and Evaluations judge with it, both through this module: what is judged is what is served.

Readiness is a real inference, since Triton's own health endpoints stay good when a model's process has died, and an
empty model repository is "ready". The probe takes a busy model's heartbeat for an answer, so it may be strict.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from anneal.api.runs import MODEL_REPOSITORY_DIR, RUN_FILE
from anneal.api.workloads import Resources
from anneal.kinds.children import container, resource_requirements
from anneal.kinds.contract import Seen

HTTP_PORT, GRPC_PORT, METRICS_PORT = 8000, 8001, 8002
#: Container names, which failures are told by.
LAYOUT, SERVER = "layout", "server"

#: Requests under way when Triton is told to end may take this long, in seconds; then they are cut.
EXIT_TIMEOUT = 20
#: Between the removal of a pod from its Service and its SIGTERM, in seconds: Triton resets new connections at once.
DRAIN = 15
#: Leaves room for DRAIN and EXIT_TIMEOUT.
GRACE_PERIOD = 60

#: How long a model may load before the kubelet starts the server again, in seconds: long, since a rollout has its own
#: deadline, which says why it gave up.
STARTUP_BUDGET = 1800
STARTUP_PERIOD, READINESS_PERIOD, LIVENESS_PERIOD = 3, 10, 30
#: A dead model fails at once, so three failures are half a minute; a busy one does not fail.
READINESS_FAILURES = 3
#: Five minutes without an answer or a heartbeat: only then is loading the model again the lesser evil.
LIVENESS_FAILURES = 10

FLAGS = (
    f"--model-repository={MODEL_REPOSITORY_DIR}",
    "--model-control-mode=none",
    "--log-format=ISO8601",
    f"--exit-timeout-secs={EXIT_TIMEOUT}",
    "--metrics-config=summary_latencies=true",
    f"--http-port={HTTP_PORT}",
    f"--grpc-port={GRPC_PORT}",
    f"--metrics-port={METRICS_PORT}",
)

_PORTS = (("http", HTTP_PORT), ("grpc", GRPC_PORT), ("metrics", METRICS_PORT))
#: Hashing reads files in blocks; it needs no memory worth speaking of.
_LAYOUT_RESOURCES = Resources(cpu="100m", memory="512Mi")

#: The model repository, written by the layout container and only read by the server.
VOLUMES: tuple[Mapping[str, Any], ...] = ({"name": "models", "emptyDir": {}},)


def accelerators(resources: Resources) -> int:
    """Accelerators of one pod; 0 serves on CPU."""
    return resources.accelerator.per_node if resources.accelerator else 0


def service_ports() -> list[dict[str, Any]]:
    """Ports of a Service in front of the server."""
    return [{"name": n, "port": p, "targetPort": n, "protocol": "TCP"} for n, p in _PORTS]


def layout(seen: Seen, mounts: Sequence[Mapping[str, Any]], run_file: str = RUN_FILE) -> dict[str, Any]:
    """Init container: verifies every digest of the ServeRun in `run_file`, then writes the model repository."""
    return container(
        seen,
        name=LAYOUT,
        image=seen.facts.images.triton,
        requirements=resource_requirements(_LAYOUT_RESOURCES),
        mounts=[*mounts, {"name": "models", "mountPath": MODEL_REPOSITORY_DIR}],
        command=["python", "-m", "anneal_serving", "layout"],
        env=_environment(run_file),
    )


def server(
    seen: Seen, resources: Resources, mounts: Sequence[Mapping[str, Any]], models: int, run_file: str = RUN_FILE
) -> dict[str, Any]:
    """The server of `models` models, started only when all of them answer. `long_lived` or `sidecar` completes it."""
    return container(
        seen,
        name=SERVER,
        image=seen.facts.images.triton,
        requirements=resource_requirements(resources),
        mounts=[*mounts, {"name": "models", "mountPath": MODEL_REPOSITORY_DIR, "readOnly": True}],
        command=["/opt/tritonserver/bin/tritonserver", *FLAGS],
        env=_environment(run_file),
        ports=[{"name": n, "containerPort": p, "protocol": "TCP"} for n, p in _PORTS],
        startupProbe=_probe(models, STARTUP_PERIOD, STARTUP_BUDGET // STARTUP_PERIOD),
    )


def long_lived(server: Mapping[str, Any], models: int) -> dict[str, Any]:
    """The server as a Deployment runs it: watched for good, and ended without cutting a request."""
    return {
        **server,
        "readinessProbe": _probe(models, READINESS_PERIOD, READINESS_FAILURES),
        "livenessProbe": _probe(models, LIVENESS_PERIOD, LIVENESS_FAILURES),
        "lifecycle": {"preStop": {"sleep": {"seconds": DRAIN}}},
    }


def sidecar(server: Mapping[str, Any]) -> dict[str, Any]:
    """The server as a native sidecar: up before the main container starts, ended when it is done."""
    return {**server, "restartPolicy": "Always"}


def _environment(run_file: str) -> list[dict[str, str]]:
    return [{"name": "ANNEAL_RUN_FILE", "value": run_file}, {"name": "HOME", "value": "/tmp"}]


def _probe(models: int, period: int, failures: int) -> dict[str, Any]:
    """A real inference on every model. The probe waits 4 s for each; Python itself needs a moment on a busy node."""
    return {
        "exec": {"command": ["python", "-m", "anneal_serving", "probe"]},
        "periodSeconds": period,
        "timeoutSeconds": 4 + 4 * models,
        "failureThreshold": failures,
    }
