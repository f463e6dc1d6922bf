"""A real S3 service on this machine: Versity's gateway on a folder, built from its Go module once and then cached.

The module of `tests/s3` pins it and everything that goes into it by hash.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support.listening import HERE, free_port, wait_until_it_listens

from local_cluster.locks import exclusive
from local_cluster.paths import cache_root

MODULE = Path(__file__).resolve().parents[1] / "s3"
_PACKAGE = "github.com/versity/versitygw/cmd/versitygw"
_READY_SECONDS = 20


@dataclass(frozen=True)
class S3Service:
    """Where it listens, and the keys of its owner."""

    endpoint: str
    access_key: str
    secret_key: str
    ca_file: Path
    folder: Path

    def client(self) -> Any:
        """The owner's client, to make buckets and objects with."""
        from pyarrow.fs import S3FileSystem

        return S3FileSystem(
            access_key=self.access_key,
            secret_key=self.secret_key,
            endpoint_override=self.endpoint.partition("://")[2],
            scheme="https",
            region="us-east-1",
            tls_ca_file_path=str(self.ca_file),
            allow_bucket_creation=True,
        )

    def put(self, path: str, content: bytes) -> None:
        """Makes an object, `bucket/key`."""
        with self.client().open_output_stream(path) as stream:
            stream.write(content)


def program() -> Path:
    """The gateway, built if it is not: one to two minutes of two cores the first time, nothing after."""
    source = b"".join((MODULE / name).read_bytes() for name in ("go.mod", "go.sum"))
    built = cache_root() / "bin" / f"versitygw-{hashlib.sha256(source).hexdigest()[:16]}"
    with exclusive(cache_root() / "bin" / "versitygw.lock"):
        if not built.exists():
            unfinished = built.with_suffix(".unfinished")
            subprocess.run(
                ["nice", "-n", "5", "go", "build", "-trimpath", "-buildvcs=false", "-o", str(unfinished), _PACKAGE],
                cwd=MODULE,
                env={**os.environ, "CGO_ENABLED": "0", "GOMEMLIMIT": "2GiB"},
                check=True,
                timeout=1800,
            )
            unfinished.rename(built)
    return built


@contextmanager
def s3_service(folder: Path, key_file: Path, ca_file: Path, address: str = HERE) -> Iterator[S3Service]:
    """The service with its objects below `folder`, for as long as the block lasts."""
    port = free_port(address)
    objects, sidecar = folder / "objects", folder / "metadata"
    objects.mkdir()
    sidecar.mkdir()
    service = S3Service(f"https://{address}:{port}", "owner", "owners-secret", ca_file, objects)
    arguments = ["--port", f"{address}:{port}", "--cert", str(ca_file), "--key", str(key_file)]
    environment = {**os.environ, "ROOT_ACCESS_KEY": service.access_key, "ROOT_SECRET_KEY": service.secret_key}
    with (folder / "gateway.log").open("wb") as log:
        process = subprocess.Popen(
            [str(program()), *arguments, "posix", "--sidecar", str(sidecar), str(objects)],
            env=environment,
            stdout=log,
            stderr=log,
        )
        try:
            wait_until_it_listens(process, port, folder / "gateway.log", _READY_SECONDS, address)
            yield service
        finally:
            process.terminate()
            process.wait(10)
