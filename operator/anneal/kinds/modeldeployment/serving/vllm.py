"""vLLM, asked by OpenAI's chat completions.

Everything it is told lies in one file that the layout container writes, since rank and chat template of an artifact
are known only to who has read it. A start is proven by an inference on every model; after that its own /health is
honest: it fails once the engine's process is gone.
"""

from __future__ import annotations

from typing import Any

from anneal.api.runs import VLLM_FILE
from anneal.kinds.modeldeployment.serving.runtime import EXIT_TIMEOUT, HTTP_PORT, Runtime

#: Its processes share memory through files there; the 64 MiB that containers have are too few.
_SHARED_MEMORY = "512Mi"


def _health(models: int) -> dict[str, Any]:
    """One engine has all models. It answers while it decodes, however long that takes."""
    return {"httpGet": {"path": "/health", "port": "http"}, "timeoutSeconds": 5}


VLLM = Runtime(
    name="vllm",
    image=lambda images: images.vllm,
    command=(
        *("python", "-m", "vllm.entrypoints.openai.api_server", "--config", VLLM_FILE),
        *("--port", str(HTTP_PORT), "--shutdown-timeout", str(EXIT_TIMEOUT)),
    ),
    ports=(("http", HTTP_PORT),),
    path="/v1/chat/completions",
    alive=_health,
    environment=(
        # Nothing is looked up in the network, and nothing is told to anybody.
        ("HF_HUB_OFFLINE", "1"),
        ("VLLM_NO_USAGE_STATS", "1"),
        ("DO_NOT_TRACK", "1"),
        # On CPU: by itself it ties its threads to the first cores, where the threads of the next pod would be too.
        ("VLLM_CPU_OMP_THREADS_BIND", "nobind"),
    ),
    volumes=({"name": "shm", "emptyDir": {"medium": "Memory", "sizeLimit": _SHARED_MEMORY}},),
    mounts=({"name": "shm", "mountPath": "/dev/shm"},),
)
