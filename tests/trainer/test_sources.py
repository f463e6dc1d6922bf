"""Fetching by HTTPS from a real server: what arrives, what is refused, and what may be tried again."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from tests.support.https_server import HttpsServer, body, https_server, status

from anneal.api.artifacts import digest_of_bytes
from anneal.api.runs import Access, SourceInput
from anneal_trainer.errors import TrainerError, Unavailable, UserMistake
from anneal_trainer.sources import Leash, opened
from anneal_trainer.sources.https import Page
from anneal_trainer.sources.leash import ForbiddenAddress, is_node_address
from anneal_trainer.sources.place import RemoteFile
from anneal_trainer.workspace import Workspace

ROWS = b'{"prompt": "a", "completion": "b"}\n' * 1000


@pytest.fixture
def server(tmp_path: Path) -> Iterator[HttpsServer]:
    answers = {
        "/rows.jsonl": body(ROWS),
        "/rows.jsonl?signature=secret": body(ROWS),
        "/cut.jsonl": body(ROWS, content_length=str(2 * len(ROWS))),
        "/moved": status(302, "/rows.jsonl"),
        "/to-http": status(302, "http://127.0.0.1/rows.jsonl"),
        "/for-ever": status(307, "/for-ever"),
        "/forbidden": status(403),
        "/busy": status(503),
    }
    with https_server(tmp_path, answers) as running:
        yield running


LOOSE = Leash(timeout_seconds=5, is_forbidden=lambda _: False)


@pytest.fixture
def tls(server: HttpsServer) -> ssl.SSLContext:
    """Trust in the test's certificate."""
    return ssl.create_default_context(cafile=server.ca_file)


def fetch(url: str, target: Path, tls: ssl.SSLContext, leash: Leash = LOOSE) -> None:
    Page(url, leash, tls).fetch(RemoteFile("rows"), target)


def test_a_source_is_streamed_and_leaves_nothing_behind(server: HttpsServer, tmp_path: Path) -> None:
    secret = tmp_path / "files-ca"
    secret.mkdir()
    (secret / "ca.crt").write_bytes(server.ca_file.read_bytes())
    source = SourceInput(uri=f"{server.url}/rows.jsonl", access=Access(credentials=str(secret)))
    workspace = Workspace(tmp_path / "workspace")
    with opened(source, workspace, LOOSE) as found:
        assert found.stream.read() == ROWS
        assert found.resolved == digest_of_bytes(ROWS)
    assert list(workspace.downloads.iterdir()) == []


def test_a_redirect_is_followed(server: HttpsServer, tls: ssl.SSLContext, tmp_path: Path) -> None:
    fetch(f"{server.url}/moved", tmp_path / "rows", tls)
    assert (tmp_path / "rows").read_bytes() == ROWS


@pytest.mark.parametrize(
    ("path", "kind", "sentence"),
    [
        ("/to-http", UserMistake, "leads to http://127.0.0.1/rows.jsonl: data is fetched by https only"),
        ("/for-ever", UserMistake, "redirects more than 5 times"),
        ("/forbidden", UserMistake, "answered 403 Forbidden: check the URL and who may read it"),
        ("/missing", UserMistake, "answered 404 Not Found"),
        ("/busy", Unavailable, "answered 503 Service Unavailable"),
        ("/cut.jsonl", Unavailable, "could not be fetched: IncompleteRead"),
    ],
)
def test_what_goes_wrong_is_said(
    server: HttpsServer, tls: ssl.SSLContext, tmp_path: Path, path: str, kind: type[TrainerError], sentence: str
) -> None:
    with pytest.raises(kind) as caught:
        fetch(server.url + path, tmp_path / "rows", tls)
    assert sentence in caught.value.message
    assert not (tmp_path / "rows").exists()


def test_a_file_that_is_too_large_is_refused_on_the_way(
    server: HttpsServer, tls: ssl.SSLContext, tmp_path: Path
) -> None:
    with pytest.raises(UserMistake, match="is larger than 1000 bytes"):
        fetch(f"{server.url}/rows.jsonl", tmp_path / "rows", tls, replace(LOOSE, max_bytes=1000))
    assert not list(tmp_path.glob("*rows*"))


def test_the_node_itself_is_out_of_reach(server: HttpsServer, tls: ssl.SSLContext, tmp_path: Path) -> None:
    with pytest.raises(UserMistake, match=r"rows\.jsonl: it leads to 127\.0\.0\.1, an address of the node itself"):
        fetch(f"{server.url}/rows.jsonl", tmp_path / "rows", tls, Leash())


def test_a_name_that_is_looked_up_elsewhere_is_out_of_reach_too() -> None:
    with socket.socket() as raw, Leash().held(), pytest.raises(ForbiddenAddress, match="leads to localhost"):
        raw.connect(("localhost", 9))


def test_the_leash_holds_in_every_thread_and_no_longer_than_its_block(server: HttpsServer) -> None:
    host, _, port = server.url.removeprefix("https://").partition(":")

    def connect() -> None:
        socket.create_connection((host, int(port)), timeout=5).close()

    with ThreadPoolExecutor(1) as pool:
        with Leash().held(), pytest.raises(ForbiddenAddress):
            pool.submit(connect).result()
        pool.submit(connect).result()


def test_an_unknown_certificate_is_refused(server: HttpsServer, tls: ssl.SSLContext, tmp_path: Path) -> None:
    with pytest.raises(UserMistake, match="is not trusted"):
        fetch(f"{server.url}/rows.jsonl", tmp_path / "rows", ssl.create_default_context())


def test_messages_hold_no_signature(server: HttpsServer, tls: ssl.SSLContext, tmp_path: Path) -> None:
    with pytest.raises(UserMistake) as caught:
        fetch(f"{server.url}/rows.jsonl?signature=secret", tmp_path / "rows", tls, replace(LOOSE, max_bytes=1))
    assert "rows.jsonl is larger" in caught.value.message
    assert "secret" not in caught.value.message


def test_nobody_listening_may_be_tried_again(server: HttpsServer, tls: ssl.SSLContext, tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match=r"could not be fetched: .*refused"):
        fetch("https://127.0.0.1:1/rows", tmp_path / "rows", tls)


@pytest.mark.parametrize(
    ("address", "forbidden"),
    [
        ("127.0.0.1", True),
        ("169.254.169.254", True),
        ("::1", True),
        ("fe80::1%eth0", True),
        ("::ffff:169.254.169.254", True),
        ("fd00:ec2::254", True),
        ("100.100.100.200", True),
        ("0.0.0.0", True),
        ("10.96.0.10", False),
        ("93.184.216.34", False),
        ("2606:2800:220:1::1", False),
    ],
)
def test_addresses(address: str, forbidden: bool) -> None:
    assert is_node_address(address) is forbidden
