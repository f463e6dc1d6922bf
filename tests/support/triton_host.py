"""The real tritonserver on this machine, without an image: prepared once in the cache, started per test.

The server comes from the wheel of nvidia-pytriton, the Python of its stub from an environment that overlays numpy < 2
(this Triton dies at the first string with numpy 2) on the development environment.
"""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.support.hosts import REPOSITORY, free_ports, is_well, prepared, run, running

SOURCES = [REPOSITORY / "operator", REPOSITORY / "images"]
PINS, ARRANGE = REPOSITORY / "images/triton/requirements.txt", REPOSITORY / "images/triton/arrange.sh"
START_SECONDS = 300.0
READY = "/v2/health/ready"


@dataclass(frozen=True)
class TritonHost:
    """Where the prepared server is."""

    root: Path

    @property
    def server(self) -> Path:
        return self.root / "dist/pytriton/tritonserver"

    def environment(self, **more: str) -> dict[str, str]:
        """Environment of the server: its stub finds Python by PATH, and libpython where that Python keeps it."""
        return {
            **os.environ,
            "PATH": f"{self.root / 'env/bin'}:{os.environ['PATH']}",
            "LD_LIBRARY_PATH": str(Path(sys.base_prefix) / "lib"),
            "HF_HUB_OFFLINE": "1",
            **more,
        }


def prepare() -> TritonHost:
    """The server in the cache, installed by uv if it is not there yet (55 MB for the server, 18 MB for numpy)."""
    made_of = "\n".join([PINS.read_text(), ARRANGE.read_text(), sys.version, sys.prefix, *map(str, SOURCES)])
    root = prepared("triton", made_of, _install)
    return TritonHost(root)


def _install(root: Path) -> None:
    """The image's own pins and arrangement; only where the shared packages and our code lie differs here."""
    environment = root / "env"
    run("uv", "venv", "--quiet", "--python", sys.executable, str(environment))
    python = str(environment / "bin/python")
    run("uv", "pip", "install", "--quiet", "--no-deps", "--require-hashes", "--python", python, "-r", str(PINS))
    run("sh", str(ARRANGE), str(environment), str(root / "dist"))
    (packages,) = (environment / "lib").glob("python3*/site-packages")
    shared = "\n".join(map(str, [*SOURCES, sysconfig.get_path("purelib")]))
    (packages / "shared.pth").write_text(shared + "\n", encoding="utf-8")


@dataclass(frozen=True)
class Server:
    """A started tritonserver."""

    process: subprocess.Popen[bytes]
    address: str
    metrics_address: str
    log: Path

    def is_ready(self) -> bool:
        """What Triton itself says of its health."""
        return is_well(f"http://{self.address}{READY}")

    def stubs(self) -> list[int]:
        """Process ids of the Python models."""
        found = subprocess.run(
            ["pgrep", "-P", str(self.process.pid), "-f", "triton_python_backend_stub"], capture_output=True, text=True
        )
        return [int(line) for line in found.stdout.split()]


@contextmanager
def started(host: TritonHost, repository: Path, log: Path, **environment: str) -> Iterator[Server]:
    """A server that has bound its port or ended; stopped with all its stubs when the block ends."""
    http, grpc, metrics = free_ports(3)
    command = [
        str(host.server / "bin/tritonserver"),
        f"--model-repository={repository}",
        f"--backend-directory={host.server / 'backends'}",
        "--model-control-mode=none",
        "--exit-timeout-secs=5",
        f"--http-port={http}",
        f"--grpc-port={grpc}",
        f"--metrics-port={metrics}",
    ]
    address = f"localhost:{http}"
    with running(command, host.environment(**environment), log, f"http://{address}{READY}", START_SECONDS) as process:
        yield Server(process, address, f"localhost:{metrics}", log)
