"""Progress reaches a real HTTPS endpoint, and its failures reach nobody."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.https_server import HttpsServer, body, https_server, status
from tests.trainer.job import Job

from anneal.api.runs import ProgressReport, Reporting
from anneal_trainer.progress import Reporter


@pytest.fixture
def server(tmp_path: Path) -> Iterator[HttpsServer]:
    with https_server(tmp_path, {"/v1/progress": body(b"")}) as running:
        yield running


@pytest.fixture
def reporting(server: HttpsServer, tmp_path: Path) -> Reporting:
    (tmp_path / "token").write_text("first\n")
    return Reporting(
        url=f"{server.url}/v1/progress",
        ca_file=str(server.ca_file),
        token_file=str(tmp_path / "token"),
        interval_seconds=1,
    )


def steps(server: HttpsServer) -> list[int]:
    return [json.loads(content)["step"] for _, content in server.received]


def test_the_first_report_goes_at_once_and_the_last_at_the_end(server: HttpsServer, reporting: Reporting) -> None:
    with Reporter(reporting) as reporter:
        reporter.report(ProgressReport(percent=0, step=1))
        deadline = time.monotonic() + 5
        while not server.received and time.monotonic() < deadline:
            time.sleep(0.01)
        for step in range(2, 50):
            reporter.report(ProgressReport(percent=step, step=step))
        Path(reporting.token_file).write_text("second")  # the kubelet renews it
    assert steps(server) == [1, 49]
    assert [headers["Authorization"] for headers, _ in server.received] == ["Bearer first", "Bearer second"]


@pytest.mark.parametrize("trouble", ["refused", "status", "token", "http"])
def test_trouble_is_logged_once_and_never_raised(
    server: HttpsServer, reporting: Reporting, caplog: pytest.LogCaptureFixture, trouble: str
) -> None:
    if trouble == "refused":
        reporting = reporting.model_copy(update={"url": "https://127.0.0.1:1/v1/progress"})
    if trouble == "http":
        reporting = reporting.model_copy(update={"url": server.url.replace("https", "http")})
    if trouble == "status":
        server.answers["/v1/progress"] = status(401)
    if trouble == "token":
        Path(reporting.token_file).unlink()
    with Reporter(reporting.model_copy(update={"interval_seconds": 0})) as reporter:
        for step in range(20):
            reporter.report(ProgressReport(percent=step, step=step))
            time.sleep(0.005)
    assert caplog.text.count("progress is not being reported") == 1


def test_training_reports_its_last_step(job: Job, server: HttpsServer, reporting: Reporting) -> None:
    run = job.fit_run(job.prepared()).model_copy(update={"reporting": reporting})
    assert job.do(run).outcome == "Succeeded"
    last = json.loads(server.received[-1][1])
    assert (last["percent"], last["step"], last["totalSteps"], last["checkpointStep"]) == (100, 6, 6, 6)
    assert float(last["loss"]) > 0
    assert last["tokensPerSecond"] > 0
