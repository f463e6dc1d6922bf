"""Whatever is wrong with MLflow, the artifact is whole and a sentence says what is wrong."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from tests.trainer.job import Job

from anneal.api.artifacts import verify_artifact
from anneal.api.runs import MLflowServer, PublishRun
from anneal.api.tracking import TrackingStatus
from anneal_trainer.publish import mlflow, tensorboard
from anneal_trainer.sources import Leash

TRACKING_URI, TOKEN = "MLFLOW_TRACKING_URI", "MLFLOW_TRACKING_TOKEN"


@contextmanager
def answering(status: int, body: bytes) -> Iterator[str]:
    """A server that is not MLflow, or one that is out of order: it has one answer to everything."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.end_headers()
            self.wfile.write(body)

        do_POST = do_GET  # noqa: N815 - the name that is called

        def log_message(self, *_: Any) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.fixture
def run(job: Job, tmp_path: Path) -> PublishRun:
    prepared = job.prepared()
    fitted = job.do(job.fit_run(prepared))
    secret = tmp_path / "tracker"
    secret.mkdir()
    told = MLflowServer(credentials=str(secret), experiment="e")
    return job.publish_run(prepared, fitted).model_copy(update={"mlflow": told})


@pytest.fixture(autouse=True)
def _do_not_wait_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mlflow, "_WAITS", (0.01, 0.01))


def published(job: Job, run: PublishRun, **keys: str) -> TrackingStatus:
    """What became of telling; the artifact must be whole whatever it is."""
    assert run.mlflow is not None
    for key, value in keys.items():
        (Path(run.mlflow.credentials) / key).write_text(value)
    result = job.do(run)
    assert result.publish is not None, result.message
    verify_artifact(job.output / result.publish.uri.rpartition("/")[2], result.publish.digest)
    assert result.publish.tracking is not None
    return result.publish.tracking


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({}, "Secret 'tracker' has no key MLFLOW_TRACKING_URI; it has no keys, or is not there"),
        ({TRACKING_URI: "databricks"}, "key MLFLOW_TRACKING_URI of Secret 'tracker' is not an http(s) URL"),
        ({TRACKING_URI: "http://mlflow.test", TOKEN: "secret-token"}, "is not https, and keys are not sent in clear"),
        ({TRACKING_URI: "https://127.0.0.1:9"}, "it leads to 127.0.0.1, an address of the node itself"),
        ({TRACKING_URI: "https://127.0.0.1:9", "ca.crt": "no PEM"}, "key ca.crt of Secret 'tracker' is not a cert"),
    ],
)
def test_what_is_wrong_with_the_secret_is_said(job: Job, run: PublishRun, keys: dict[str, str], said: str) -> None:
    told = published(job, run, **keys)
    assert told.run_uri is None
    assert told.message.startswith("MLflow could not be told of the training, the artifact is whole: ")
    assert said in told.message
    assert "secret-token" not in told.message


@pytest.mark.parametrize(
    ("status", "body", "said"),
    [
        (403, b'{"error_code": "PERMISSION_DENIED", "message": "not yours"}', "403 PERMISSION_DENIED: not yours"),
        (403, b"Invalid Host header", "it answered 403 Forbidden: Invalid Host header"),
        (503, b"<html>down</html>", "it answered 503 Service Unavailable"),
        (200, b"<html>", "no JSON object: is it an MLflow server?"),
        (200, b"{}", "its answer has no 'experiment'"),
    ],
)
def test_what_the_server_answers_is_said(
    job: Job, run: PublishRun, monkeypatch: pytest.MonkeyPatch, status: int, body: bytes, said: str
) -> None:
    monkeypatch.setattr(mlflow, "Leash", lambda **more: Leash(**more, is_forbidden=lambda _: False))
    with answering(status, body) as url:
        told = published(job, run, **{TRACKING_URI: url})
    assert told.run_uri is None
    assert said in told.message


def test_checksums_are_those_of_rfc_3720() -> None:
    def unmasked(data: bytes) -> int:
        masked = (int.from_bytes(tensorboard._checksum(data), "little") - 0xA282EAD8) & 0xFFFFFFFF
        return (masked << 15 | masked >> 17) & 0xFFFFFFFF

    assert unmasked(bytes(32)) == 0x8A9136AA
    assert unmasked(b"\xff" * 32) == 0x62A8AB43
    assert unmasked(bytes(range(32))) == 0x46DD794E
