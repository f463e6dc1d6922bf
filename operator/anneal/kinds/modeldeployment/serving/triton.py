"""NVIDIA Triton Inference Server.

Readiness is a real inference, since Triton's own health endpoints stay good when a model's process has died, and an
empty model repository is "ready". The probe takes a busy model's heartbeat for an answer, so it may be strict.
"""

from __future__ import annotations

from anneal.api.runs import MODEL_REPOSITORY_DIR
from anneal.kinds.modeldeployment.serving.runtime import EXIT_TIMEOUT, HTTP_PORT, Runtime, inference

_GRPC_PORT, _METRICS_PORT = 8001, 8002

TRITON = Runtime(
    name="triton",
    image=lambda images: images.triton,
    command=(
        "/opt/tritonserver/bin/tritonserver",
        f"--model-repository={MODEL_REPOSITORY_DIR}",
        "--model-control-mode=none",
        "--log-format=ISO8601",
        f"--exit-timeout-secs={EXIT_TIMEOUT}",
        "--metrics-config=summary_latencies=true",
        f"--http-port={HTTP_PORT}",
        f"--grpc-port={_GRPC_PORT}",
        f"--metrics-port={_METRICS_PORT}",
    ),
    ports=(("http", HTTP_PORT), ("grpc", _GRPC_PORT), ("metrics", _METRICS_PORT)),
    path="/v2/models/{model}/generate",
    alive=inference,
)
