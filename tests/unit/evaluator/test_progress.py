"""Progress reaches an HTTPS endpoint with the token of the moment, and never gets in the way."""

from __future__ import annotations

import asyncio
import json
import ssl
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from tests.support.https_server import certificate

from anneal.api.runs import ProgressReport, Reporting
from anneal_hosted.progress import Progress


class Endpoint:
    """A real HTTPS server that keeps what it is told."""

    def __init__(self, directory: Path) -> None:
        self.received: list[tuple[str, dict[str, Any]]] = []
        received = self.received

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                received.append((self.headers["Authorization"], json.loads(body)))
                self.send_response(204)
                self.end_headers()

            def log_request(self, code: object = "-", size: object = "-") -> None:
                """Quiet."""

        key_file, ca_file = certificate(directory)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(ca_file, key_file)
        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
        (directory / "token").write_text("first\n")
        self.token = directory / "token"
        self.reporting = Reporting(
            url=f"https://127.0.0.1:{self.server.server_port}/v1/progress",
            ca_file=str(directory / "ca.crt"),
            token_file=str(self.token),
            interval_seconds=0,
        )


@pytest.fixture
def endpoint(tmp_path: Path) -> Iterator[Endpoint]:
    found = Endpoint(tmp_path)
    thread = threading.Thread(target=found.server.serve_forever, args=(0.02,))
    thread.start()
    yield found
    found.server.shutdown()
    thread.join()
    found.server.server_close()


async def test_reports_carry_the_token_of_the_moment(endpoint: Endpoint) -> None:
    progress = Progress(endpoint.reporting, already=50, total=200)
    await progress.tell()
    endpoint.token.write_text("rotated")
    progress.advance()
    await progress.tell()
    (first_token, first), (second_token, second) = endpoint.received
    assert (first_token, second_token) == ("Bearer first", "Bearer rotated")
    assert ProgressReport.model_validate(first) == ProgressReport(percent=25, step=50, total_steps=200)
    assert second["step"] == 51
    assert second["etaSeconds"] >= 0


async def test_only_changes_are_told(endpoint: Endpoint) -> None:
    progress = Progress(endpoint.reporting, already=0, total=2)
    telling = asyncio.create_task(progress.tell_until_cancelled())
    for _ in range(2):
        progress.advance()
        await asyncio.sleep(0.5)
    telling.cancel()
    steps = [report["step"] for _, report in endpoint.received]
    assert steps == sorted(set(steps))
    assert endpoint.received[-1][1]["percent"] == 100


@pytest.mark.parametrize("harm", ["nobody listens", "no token", "no certificate", "another certificate"])
async def test_whatever_goes_wrong_is_harmless(
    endpoint: Endpoint, tmp_path: Path, harm: str, capsys: pytest.CaptureFixture[str]
) -> None:
    changes: dict[str, object] = {
        "nobody listens": {"url": "https://127.0.0.1:1/"},
        "no token": {"token_file": str(tmp_path / "none")},
        "no certificate": {"ca_file": str(tmp_path / "none")},
        "another certificate": {"ca_file": str(tmp_path / "other/ca.crt")},
    }[harm]  # type: ignore[assignment]
    (tmp_path / "other").mkdir()
    certificate(tmp_path / "other")
    await Progress(endpoint.reporting.model_copy(update=changes), 0, 1).tell()
    assert endpoint.received == []
    assert "harmless" in capsys.readouterr().err


async def test_without_an_endpoint_nothing_is_told() -> None:
    progress = Progress(None, 0, 0)
    await progress.tell_until_cancelled()
    await progress.tell()
    assert progress.report().percent == 100
