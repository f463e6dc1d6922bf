"""A finished training in a real MLflow server, and as TensorBoard itself reads it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.https_server import certificate
from tests.support.mlflow_server import MLflowServer, mlflow_server, scalars
from tests.support.tiny_model import write_base
from tests.trainer.job import FAST, OBJECT, Job

from anneal.api import runs
from anneal.api.training import Validation
from anneal_trainer.publish import mlflow
from anneal_trainer.sources import Leash

pytestmark = pytest.mark.integration
TRACKING_URI = "MLFLOW_TRACKING_URI"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MLflowServer]:
    folder = tmp_path_factory.mktemp("mlflow")
    with mlflow_server(folder, *certificate(folder)) as running:
        yield running


@pytest.fixture(autouse=True)
def _leave_this_machine_in_reach(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mlflow, "Leash", lambda **more: Leash(**more, is_forbidden=lambda _: False))


def test_the_curve_is_in_mlflow_once_and_in_tensorboard(server: MLflowServer, tmp_path: Path) -> None:
    write_base(tmp_path / "tiny")
    secret = tmp_path / "secret"
    secret.mkdir()
    keys = {TRACKING_URI: server.url, "MLFLOW_TRACKING_TOKEN": "t", "ca.crt": server.ca_file.read_text()}
    for key, value in keys.items():
        (secret / key).write_text(value)
    validated = FAST.model_copy(update={"validation": Validation(rows=4, every_steps=2)})
    job = Job(tmp_path / "tiny", tmp_path, training=validated)
    prepared = job.prepared()
    run = job.publish_run(prepared, job.do(job.fit_run(prepared))).model_copy(
        update={"mlflow": runs.MLflowServer(credentials=str(secret), experiment="a b/c")}
    )
    for _ in range(2):  # a pod that died after telling tells again
        result = job.do(run)
        assert result.publish is not None, result.message
        assert result.publish.tracking is not None
        page = result.publish.tracking.run_uri
        assert page is not None, result.publish.tracking.message

    experiment = server.ask("experiments/get-by-name?experiment_name=a%20b%2Fc")["experiment"]["experiment_id"]
    (found,) = server.ask("runs/search", {"experiment_ids": [experiment]})["runs"]
    info, data = found["info"], found["data"]
    assert page == f"{server.url}/#/experiments/{experiment}/runs/{info['run_id']}"
    assert (info["status"], info["run_name"]) == ("FINISHED", OBJECT.name)
    tags = {tag["key"]: tag["value"] for tag in data["tags"]}
    assert tags["anneal.dev/artifact"] == result.publish.digest
    parameters = {parameter["key"]: parameter["value"] for parameter in data["params"]}
    assert (parameters["lora.rank"], parameters["training.learningRate"]) == ("4", "1e-2")

    folder = job.output / result.publish.uri.rpartition("/")[2]
    history = json.loads((folder / "report.json").read_text())["history"]
    read = scalars(folder / "tensorboard")
    names = {"loss": "loss", "learning_rate": "learningRate", "peak_memory_bytes": "peakMemoryBytes"}
    for metric, name in names.items():
        expected = [(told["step"], pytest.approx(told[name], rel=1e-5)) for told in history]
        told = server.ask(f"metrics/get-history?run_id={info['run_id']}&metric_key={metric}")["metrics"]
        assert [(point["step"], point["value"]) for point in told] == expected
        assert [(step, value) for step, _, value in read[metric]] == expected
        times = [point["timestamp"] for point in told]
        assert times == sorted(times)
        assert times[-1] == info["end_time"]
    assert read.keys() == {*names, "tokens_per_second", "validation_loss"}
