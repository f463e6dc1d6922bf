"""A job that has it all elsewhere: base in a registry, rows in S3, a copy of its artifact there, its curve in MLflow.

The services are the real ones, on the machine that runs the cluster.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.e2e import outside
from tests.e2e.conftest import Anneal, Object
from tests.e2e.samples import animal_rows, job
from tests.support.https_server import certificate
from tests.support.mlflow_server import MLflowServer, mlflow_server
from tests.support.registry_service import PASSWORD, USER, RegistryService, docker_config, registry_service
from tests.support.s3_service import S3Service, s3_service
from tests.support.tiny_model import write_base

from anneal.api.artifacts import base_model_digest
from anneal.api.conditions import is_true
from local_cluster import packages

pytestmark = pytest.mark.e2e
NAME = "kept-elsewhere"


@dataclass(frozen=True)
class Stores:
    """The services, and the base that is in the registry."""

    registry: RegistryService
    s3: S3Service
    mlflow: MLflowServer
    base: Path


@pytest.fixture(scope="module")
def stores(anneal: Anneal, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stores]:
    if anneal.kubernetes.local is None:
        pytest.skip("pods of a cluster elsewhere cannot reach services of this machine")
    folder, address = tmp_path_factory.mktemp("stores"), anneal.kubernetes.local.host_address
    tls = certificate(folder, address)
    with (
        registry_service(folder, address=address) as registry,
        s3_service(folder, *tls, address) as s3,
        mlflow_server(folder, *tls, address) as mlflow,
    ):
        base = folder / "tiny"
        write_base(base)
        push(base, f"{registry.host}/bases/tiny:v1", folder)
        s3.client().create_dir("training")
        s3.put("training/rows.jsonl", animal_rows("prompt").encode())
        yield Stores(registry, s3, mlflow, base)


def push(model: Path, reference: str, folder: Path) -> None:
    """An image with the model in /models, as people build and push one."""
    packages.ensure(["buildah"])
    store = ["buildah", "--root", str(folder / "images"), "--runroot", str(folder / "run"), "--storage-driver", "vfs"]
    (folder / "Containerfile").write_text("FROM scratch\nCOPY . /models\n")
    login = ["--creds", f"{USER}:{PASSWORD}", "--cert-dir", str(folder / "trusted")]
    (folder / "trusted").mkdir()
    (folder / "trusted" / "ca.crt").write_bytes((folder / "ca.crt").read_bytes())
    for arguments in (
        ["build", "--isolation", "chroot", "--file", str(folder / "Containerfile"), "--tag", reference, str(model)],
        ["push", *login, reference],
    ):
        done = subprocess.run([*store, *arguments], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr


def secrets(stores: Stores) -> list[Object]:
    """One Secret for each service."""
    ca = stores.registry.ca_file.read_text()
    return [
        outside.secret("registry", {".dockerconfigjson": docker_config(stores.registry.host), "ca.crt": ca}),
        outside.secret(
            "bucket",
            {"AWS_ACCESS_KEY_ID": stores.s3.access_key, "AWS_SECRET_ACCESS_KEY": stores.s3.secret_key, "ca.crt": ca},
        ),
        outside.secret("mlflow", {"MLFLOW_TRACKING_URI": stores.mlflow.url, "ca.crt": ca}),
    ]


@pytest.fixture(scope="module")
def trained(anneal: Anneal, stores: Stores) -> Object:
    """The job's status when it has ended."""
    registry = f"oci://{stores.registry.host}"
    wanted = job(
        NAME,
        "s3://training/rows.jsonl",
        model={"uri": f"{registry}/bases/tiny:v1", "cache": "pvc://models/bases", "secretRef": {"name": "registry"}},
        lora=None,
        full={},
        resources={"cpu": "200m", "memory": "1500Mi"},
        output={"mirror": {"uri": f"{registry}/models/animals:v1", "secretRef": {"name": "registry"}}},
        tracking={"mlflow": {"secretRef": {"name": "mlflow"}, "experiment": "animals"}},
    )
    wanted["spec"]["dataset"]["sources"][0] |= {"endpoint": stores.s3.endpoint, "secretRef": {"name": "bucket"}}
    anneal.apply(*secrets(stores), wanted)
    ended = anneal.wait("FineTuneJob", NAME, lambda o: is_true(o, "Complete") or is_true(o, "Failed"), 300)
    assert is_true(ended, "Complete"), ended["status"]["message"]
    status: Object = ended["status"]
    return status


def test_the_base_of_an_image_is_known_by_digest_and_kept(stores: Stores, trained: Object) -> None:
    assert trained["resolved"]["model"].startswith("sha256:")
    assert trained["model"]["digest"] == base_model_digest(stores.base)
    assert trained["artifact"]["baseUri"].startswith("pvc://models/bases/")


def test_the_copy_is_in_the_registry_under_the_digest_in_status(stores: Stores, trained: Object) -> None:
    copy = trained["artifact"]["mirrorUri"]
    repository, _, digest = copy.partition("@")
    assert repository == f"oci://{stores.registry.host}/models/animals"
    assert digest in stores.registry.blobs()


def test_the_curve_is_in_mlflow_with_the_artifact_that_it_led_to(stores: Stores, trained: Object) -> None:
    found = stores.mlflow.ask("experiments/get-by-name?experiment_name=animals")["experiment"]["experiment_id"]
    (run,) = stores.mlflow.ask("runs/search", {"experiment_ids": [found]})["runs"]
    tags = {tag["key"]: tag["value"] for tag in run["data"]["tags"]}
    assert tags["anneal.dev/artifact"] == trained["artifact"]["digest"]
    assert trained["tracking"]["runUri"].endswith(run["info"]["run_id"])
    loss = stores.mlflow.ask(f"metrics/get-history?run_id={run['info']['run_id']}&metric_key=loss")["metrics"]
    assert loss[-1]["step"] == trained["training"]["steps"]
