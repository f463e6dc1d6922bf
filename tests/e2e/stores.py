"""Services that keep things outside a cluster, the real ones, on the machine that runs it: registry, S3, MLflow."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.e2e import outside
from tests.support.https_server import certificate
from tests.support.mlflow_server import MLflowServer, mlflow_server
from tests.support.registry_service import PASSWORD, USER, RegistryService, docker_config, registry_service
from tests.support.s3_service import S3Service, s3_service

from local_cluster import packages

Object = dict[str, Any]
REGISTRY, BUCKET, TRACKER = "registry", "bucket", "tracker"


@dataclass(frozen=True)
class Stores:
    """The services. All have one certificate."""

    registry: RegistryService
    s3: S3Service
    mlflow: MLflowServer

    def secrets(self) -> list[Object]:
        """One Secret for each, as jobs name them."""
        ca = self.registry.ca_file.read_text()
        keys = {"AWS_ACCESS_KEY_ID": self.s3.access_key, "AWS_SECRET_ACCESS_KEY": self.s3.secret_key}
        return [
            outside.secret(REGISTRY, {".dockerconfigjson": docker_config(self.registry.host), "ca.crt": ca}),
            outside.secret(BUCKET, {**keys, "ca.crt": ca}),
            outside.secret(TRACKER, {"MLFLOW_TRACKING_URI": self.mlflow.url, "ca.crt": ca}),
        ]

    def push(self, model: Path, name: str, folder: Path) -> None:
        """An image with the model in /models, as people build and push one; `folder` is for what that leaves."""
        packages.ensure(["buildah"])
        trusted = folder / "trusted"
        trusted.mkdir(parents=True)
        (trusted / "ca.crt").write_bytes(self.registry.ca_file.read_bytes())
        (folder / "Containerfile").write_text("FROM scratch\nCOPY . /models\n")
        places = {"--root": folder / "images", "--runroot": folder / "run", "--storage-driver": "vfs"}
        reference = f"{self.registry.host}/{name}"
        for verb in (
            ["build", "--isolation", "chroot", "--file", folder / "Containerfile", "--tag", reference, model],
            ["push", "--creds", f"{USER}:{PASSWORD}", "--cert-dir", trusted, reference],
        ):
            command = ["buildah", *(str(part) for pair in places.items() for part in pair), *map(str, verb)]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            assert done.returncode == 0, done.stderr


@contextmanager
def stores(folder: Path, address: str) -> Iterator[Stores]:
    """The services at an address of this machine, for as long as the block lasts."""
    tls = certificate(folder, address)
    with (
        registry_service(folder, address=address) as registry,
        s3_service(folder, *tls, address) as s3,
        mlflow_server(folder, *tls, address) as mlflow,
    ):
        yield Stores(registry, s3, mlflow)
