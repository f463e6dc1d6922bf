"""A real MLflow tracking server on this machine, over TLS, and the reader of TensorBoard.

Both live in an environment of their own, made once from the hash-locked list in `tests/mlflow` and then cached: what
they bring must not be in the one that is tested.
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
import ssl
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

from tests.support.listening import HERE, free_port, wait_until_it_listens

from local_cluster.locks import exclusive
from local_cluster.paths import cache_root

REQUIREMENTS = Path(__file__).resolve().parents[1] / "mlflow" / "requirements.txt"
_READY_SECONDS = 120
_READER = """
import json, sys
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
found = EventAccumulator(sys.argv[1]).Reload()
tags = found.Tags()["scalars"]
print(json.dumps({tag: [(e.step, e.wall_time, e.value) for e in found.Scalars(tag)] for tag in tags}))
"""


@dataclass(frozen=True)
class MLflowServer:
    """Where it listens, and who vouches for it."""

    url: str
    ca_file: Path

    def ask(self, path: str, body: Any = None) -> dict[str, Any]:
        """An answer of its API, by another client than the one under test."""
        content = None if body is None else json.dumps(body).encode()
        request = Request(f"{self.url}/api/2.0/mlflow/{path}", content, {"Content-Type": "application/json"})
        with urlopen(request, context=ssl.create_default_context(cafile=self.ca_file)) as answer:
            found: dict[str, Any] = json.loads(answer.read())
        return found


def environment() -> Path:
    """The folder of the programs, made if it is not there: some 700 MB, half a minute the first time."""
    place = cache_root() / "venvs" / f"mlflow-{hashlib.sha256(REQUIREMENTS.read_bytes()).hexdigest()[:16]}"
    with exclusive(place.with_name("mlflow.lock")):
        if not (place / "ready").exists():
            for arguments in (
                ["venv", "--quiet", "--clear", "--python", "3.11", str(place)],
                ["pip", "install", "--quiet", "--python", str(place), "--require-hashes", "-r", str(REQUIREMENTS)],
            ):
                subprocess.run(["uv", *arguments], check=True, timeout=600)
            (place / "ready").touch()
    return place / "bin"


def scalars(folder: Path) -> dict[str, list[tuple[int, float, float]]]:
    """(step, time, value) by tag, as TensorBoard reads the event files of a folder."""
    program = [str(environment() / "python"), "-c", _READER, str(folder)]
    answer = subprocess.run(program, check=True, capture_output=True, text=True, timeout=120).stdout
    return {tag: [(*point,) for point in points] for tag, points in json.loads(answer.splitlines()[-1]).items()}


@contextmanager
def mlflow_server(folder: Path, key_file: Path, ca_file: Path, address: str = HERE) -> Iterator[MLflowServer]:
    """The server with its database in `folder`, for as long as the block lasts."""
    port = free_port(address)
    arguments = [
        "--host", address, "--port", str(port), "--workers", "1", "--allowed-hosts", f"{address}:{port}",
        "--backend-store-uri", f"sqlite:///{folder}/runs.db", "--artifacts-destination", str(folder / "artifacts"),
        "--uvicorn-opts", f"--ssl-keyfile {key_file} --ssl-certfile {ca_file}",
    ]  # fmt: skip
    programs = environment()
    # The runner of its jobs, of which there are none, is eight processes that import all of MLflow: 45 CPU seconds.
    variables = {
        "PATH": f"{programs}:{os.environ['PATH']}",
        "PYTHONPATH": "",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    }
    with (folder / "server.log").open("wb") as log:
        process = subprocess.Popen(
            [str(programs / "mlflow"), "server", *arguments],
            env={**os.environ, **variables},
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        try:
            wait_until_it_listens(process, port, folder / "server.log", _READY_SECONDS, address)
            yield MLflowServer(f"https://{address}:{port}", ca_file)
        finally:
            os.killpg(process.pid, signal.SIGKILL)  # its workers are of its session
            process.wait(10)
