"""`oci://` against registries that mean no good, or that are none; a real one is in tests/integration."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest
from tests.support.https_server import Address, Answer, HttpsServer, body, https_server, status

from anneal.api.references import OciLocation
from anneal_trainer.errors import Unavailable, UserMistake
from anneal_trainer.sources import Leash
from anneal_trainer.sources.credentials import Credentials
from anneal_trainer.sources.registry import Registry, connected, home, named
from anneal_trainer.sources.registry_login import Login

LOOSE = Leash(timeout_seconds=2, is_forbidden=lambda _: False)
CONTENT = b"weights"
DIGEST = "sha256:" + hashlib.sha256(CONTENT).hexdigest()
MANIFEST, BLOB = "/v2/acme/tiny/manifests/v1", f"/v2/acme/tiny/blobs/{DIGEST}"
Open = Callable[..., AbstractContextManager[Registry]]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[HttpsServer]:
    with https_server(tmp_path, {}) as running:
        yield running


@pytest.fixture
def opened(server: HttpsServer, tmp_path: Path) -> Open:
    """The registry, with a Secret that has an account for `hosts`; without hosts, with its authority alone."""

    def open_it(*hosts: str, leash: Leash = LOOSE) -> AbstractContextManager[Registry]:
        folder = tmp_path / "credentials" / "store"
        folder.mkdir(parents=True)
        (folder / "ca.crt").write_bytes(server.ca_file.read_bytes())
        if hosts:
            accounts = {host: {"username": "me", "password": "my-password"} for host in hosts}
            (folder / ".dockerconfigjson").write_text(json.dumps({"auths": accounts}))
        where = OciLocation(host_of(server), "acme/tiny", "v1")
        return connected(where, None, Credentials.read(str(folder)), leash, "Source")

    return open_it


def host_of(server: HttpsServer) -> str:
    return server.url.removeprefix("https://")


def noting(seen: list[str | None], then: Answer) -> Answer:
    """Remembers what was sent as Authorization."""

    def answer(request: BaseHTTPRequestHandler) -> None:
        seen.append(request.headers.get("Authorization"))
        then(request)

    return answer


def asking(challenge: str, then: Answer) -> Answer:
    """401 with a challenge, unless there is an Authorization."""

    def answer(request: BaseHTTPRequestHandler) -> None:
        if request.headers.get("Authorization"):
            return then(request)
        request.send_response(401)
        request.send_header("WWW-Authenticate", challenge)
        request.send_header("Content-Length", "0")
        return request.end_headers()

    return answer


def test_a_manifest_without_end_is_read_no_further_than_it_may_be(server: HttpsServer, opened: Open) -> None:
    sent = 0

    def endless(request: BaseHTTPRequestHandler) -> None:
        nonlocal sent
        request.send_response(200)
        request.end_headers()
        try:
            while sent < 256 * 1024**2:
                request.wfile.write(b" " * 65536)
                sent += 65536
        except OSError:
            request.close_connection = True

    server.answers[MANIFEST] = endless
    with pytest.raises(UserMistake, match="is larger than 4194304 bytes") as refused, opened() as registry:
        registry.find("v1")
    assert refused.value.reason == "SourceNotAllowed"
    assert sent < 32 * 1024**2  # what was under way


def test_a_manifest_by_digest_is_what_it_says(server: HttpsServer, opened: Open) -> None:
    server.answers[f"/v2/acme/tiny/manifests/{DIGEST}"] = body(b"{}")
    with pytest.raises(Unavailable, match=f"sent sha256:.* for {DIGEST}"), opened() as registry:
        registry.find(DIGEST)


@pytest.mark.parametrize("sent", [b"Weights", b"weight", b"weights and more"], ids=["other", "short", "long"])
def test_a_blob_that_is_not_what_it_says_is_refused(server: HttpsServer, opened: Open, sent: bytes) -> None:
    server.answers[BLOB] = body(sent)
    with pytest.raises(Unavailable, match=f"blob {DIGEST} of .* arrived damaged"), opened() as registry:
        list(registry.blob(DIGEST, len(CONTENT)))


def test_a_login_does_not_go_where_the_registry_leads(server: HttpsServer, opened: Open, tmp_path: Path) -> None:
    seen: list[str | None] = []
    with https_server(tmp_path, {"/signed?x=1": noting(seen, body(CONTENT))}) as storage:
        moved = status(307, f"{storage.url}/signed?x=1")
        server.answers[BLOB] = asking('Basic realm="here"', noting(seen, moved))
        with opened(host_of(server)) as registry:
            assert b"".join(registry.blob(DIGEST, len(CONTENT))) == CONTENT
    assert seen == ["Basic " + base64.b64encode(b"me:my-password").decode(), None]


def test_nothing_is_fetched_without_encryption(server: HttpsServer, opened: Open) -> None:
    server.answers[BLOB] = status(307, "http://127.0.0.1:1/signed")
    with pytest.raises(UserMistake, match=r"leads to 127\.0\.0\.1:1 without encryption"), opened() as registry:
        list(registry.blob(DIGEST, len(CONTENT)))


def test_redirects_have_an_end(server: HttpsServer, opened: Open) -> None:
    server.answers[BLOB] = status(307, BLOB)
    with pytest.raises(Unavailable, match="redirects more than 5 times"), opened() as registry:
        list(registry.blob(DIGEST, len(CONTENT)))


def test_tokens_of_the_registry_itself(server: HttpsServer, opened: Open) -> None:
    seen: list[str | None] = []
    realm = f'Bearer realm="{server.url}/token",service="it",scope="repository:acme/tiny:pull"'
    server.answers["/token?service=it&scope=repository%3Aacme%2Ftiny%3Apull"] = noting(seen, body(b'{"token": "t0"}'))
    server.answers[MANIFEST] = asking(realm, noting(seen, body(b"{}")))
    with opened(host_of(server)) as registry:
        assert registry.find("v1") is not None
    assert seen == ["Basic " + base64.b64encode(b"me:my-password").decode(), "Bearer t0"]


@pytest.mark.parametrize(
    ("realm", "sentence"),
    [
        ("https://tokens.test/token", "sends its clients to tokens.test for tokens: if the password may go there, add"),
        ("https://HOST.tokens.test/token", "for tokens: if the password may go there, add an entry"),
        ("http://HOST/token", "which is not encrypted"),
        ("file:///etc/passwd", "which is not encrypted"),
        ("", "which is not encrypted"),
    ],
)
def test_no_password_goes_elsewhere(server: HttpsServer, opened: Open, realm: str, sentence: str) -> None:
    realm = realm.replace("HOST", "127.0.0.1" if ".test" in realm else host_of(server))
    server.answers[MANIFEST] = asking(f'Bearer realm="{realm}"', body(b"{}"))
    with pytest.raises(UserMistake) as refused, opened(host_of(server)) as registry:
        registry.find("v1")
    assert sentence in str(refused.value)
    assert "my-password" not in str(refused.value)


def test_without_an_account_tokens_are_asked_for_as_nobody(server: HttpsServer, opened: Open, tmp_path: Path) -> None:
    seen: list[str | None] = []
    with https_server(tmp_path, {"/token": noting(seen, body(b'{"access_token": "t1"}'))}) as tokens:
        server.answers[MANIFEST] = asking(f'Bearer realm="{tokens.url}/token"', noting(seen, body(b"{}")))
        with opened() as registry:
            registry.find("v1")
    assert seen == [None, "Bearer t1"]


@pytest.mark.parametrize("answer", [b'{"token": "a b"}', b"[]", b"x", b'{"token": "' + b"t" * 70000 + b'"}'])
def test_a_token_that_is_none_is_an_error(server: HttpsServer, opened: Open, answer: bytes) -> None:
    server.answers["/token"] = body(answer)
    server.answers[MANIFEST] = asking(f'Bearer realm="{server.url}/token"', body(b"{}"))
    with pytest.raises(Unavailable, match="without a token for"), opened() as registry:
        registry.find("v1")


def test_what_a_registry_says_is_passed_on(server: HttpsServer, opened: Open) -> None:
    def broken(request: BaseHTTPRequestHandler) -> None:
        said = b'{"errors": [{"code": "X", "message": "the disk is full"}]}'
        request.send_response(503)
        request.send_header("Content-Length", str(len(said)))
        request.end_headers()
        request.wfile.write(said)

    server.answers[MANIFEST] = broken
    with pytest.raises(Unavailable, match=r"answered 503 \(the disk is full\)"), opened() as registry:
        registry.find("v1")


def test_a_redirect_to_the_node_is_not_followed(server: HttpsServer, opened: Open, tmp_path: Path) -> None:
    away = Address(bind="127.0.0.2", name="127.0.0.2")
    (tmp_path / "away").mkdir()
    with https_server(tmp_path / "away", {}, away) as metadata:
        server.answers[BLOB] = status(307, f"{metadata.url}/latest")
        leash = Leash(timeout_seconds=2, is_forbidden=lambda a: a == "127.0.0.2")
        node = r"leads to 127\.0\.0\.2, an address of the node"
        with pytest.raises(UserMistake, match=node), opened(leash=leash) as registry:
            list(registry.blob(DIGEST, len(CONTENT)))


@pytest.mark.parametrize(
    ("where", "endpoint", "url", "repository", "shown"),
    [
        (OciLocation("ghcr.io", "a/b"), None, "https://ghcr.io", "a/b", "oci://ghcr.io/a/b"),
        (OciLocation("docker.io", "redis"), None, "https://registry-1.docker.io", "library/redis", ""),
        (OciLocation("docker.io", "a/b"), None, "https://registry-1.docker.io", "a/b", ""),
        (OciLocation("r", "a/b"), "http://r.svc:5000/", "http://r.svc:5000", "a/b", "oci://r/a/b at http://r.svc:5000"),
    ],
)
def test_where_a_registry_is(where: OciLocation, endpoint: str | None, url: str, repository: str, shown: str) -> None:
    assert home(where, endpoint) == (url, repository)
    assert named(where, url) == shown or not shown


def test_dockers_registry_is_known_by_the_name_that_docker_gives_it(tmp_path: Path) -> None:
    (tmp_path / ".dockerconfigjson").write_text(
        json.dumps({"auths": {"https://index.docker.io/v1/": {"auth": base64.b64encode(b"me:it").decode()}}})
    )
    login = Login("https://registry-1.docker.io", "library/redis", Credentials.read(str(tmp_path)))
    assert login.authorization(['Basic realm="x"'], None) == "Basic " + base64.b64encode(b"me:it").decode()


@pytest.mark.parametrize(
    ("key", "fits"),
    [
        ("HOST", True),
        ("https://HOST/v2/", True),
        ("HOST/acme", True),
        ("HOST/acme/tiny", True),
        ("HOST/other", False),
        ("HOST0", False),
    ],
)
def test_an_account_is_found_as_docker_names_it(server: HttpsServer, opened: Open, key: str, fits: bool) -> None:
    server.answers[MANIFEST] = asking('Basic realm="here"', body(b"{}"))
    try:
        with opened(key.replace("HOST", host_of(server))) as registry:
            assert registry.find("v1") is not None
        assert fits
    except UserMistake as error:
        assert not fits
        assert error.reason == "SecretUnusable"
