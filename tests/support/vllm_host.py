"""The real vLLM on this machine, without an image: installed once in the cache from the image's own pins."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.support.hosts import REPOSITORY, free_ports, is_well, prepared, run, running

from anneal.kinds.modeldeployment.serving.vllm import VLLM

SOURCES = [REPOSITORY / "operator", REPOSITORY / "images"]
PINS = REPOSITORY / "images/vllm-cpu/requirements.txt"
#: The smallest heads that vLLM's kernels for CPUs have.
WIDE = {"hidden_size": 64, "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 32}
#: The one shape of latent attention that they have: R1's cache, with few and small heads.
LATENT = {
    "hidden_size": 64,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "q_lora_rank": 32,
    "kv_lora_rank": 512,
    "qk_rope_head_dim": 64,
    "qk_nope_head_dim": 32,
    "v_head_dim": 32,
}
#: Long on a busy machine: three processes import torch, one after the other.
START_SECONDS = 600.0
HEALTH = "/health"


def prepare() -> Path:
    """Python of the environment: 180 MB to fetch, and links to what the development environment has as well."""
    made_of = "\n".join([PINS.read_text(), sys.version, sys.prefix, *map(str, SOURCES)])
    return prepared("vllm", made_of, _install) / "env/bin/python"


def _install(root: Path) -> None:
    environment = root / "env"
    run("uv", "venv", "--quiet", "--python", sys.executable, str(environment))
    python = str(environment / "bin/python")
    run("uv", "pip", "install", "--quiet", "--no-deps", "--require-hashes", "--python", python, "-r", str(PINS))
    (packages,) = (environment / "lib").glob("python3*/site-packages")
    (packages / "ours.pth").write_text("\n".join(map(str, SOURCES)) + "\n", encoding="utf-8")


@dataclass(frozen=True)
class Server:
    """A started vLLM."""

    process: subprocess.Popen[bytes]
    address: str
    log: Path

    def is_healthy(self) -> bool:
        """What the kubelet asks while it serves."""
        return is_well(f"http://{self.address}{HEALTH}")


@contextmanager
def started(python: Path, options: Path, log: Path) -> Iterator[Server]:
    """A server that is healthy or has ended, told what a pod tells it; stopped with its engine when the block ends."""
    (port,) = free_ports(1)
    command = [str(python), *VLLM.command[1:]]
    command[command.index("--config") + 1] = str(options)
    command[command.index("--port") + 1] = str(port)
    environment = {**os.environ, **dict(VLLM.environment), "OMP_WAIT_POLICY": "PASSIVE", "HOME": str(log.parent)}
    address = f"localhost:{port}"
    with running(command, environment, log, f"http://{address}{HEALTH}", START_SECONDS) as process:
        yield Server(process, address, log)
