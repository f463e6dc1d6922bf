"""A real container registry on this machine: Debian's docker-registry, with passwords or with tokens.

The token server that such a registry sends its clients to is not in Debian. The one here issues the tokens that the
registry verifies (JWT, ES256, certificate in x5c), by the protocol of the registry's documentation.
"""

from __future__ import annotations

import base64
import json
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, utils
from cryptography.x509 import load_pem_x509_certificate
from tests.support.https_server import body, certificate, status
from tests.support.listening import HERE, free_port, wait_until_it_listens

from local_cluster import packages

PACKAGE = "docker-registry"
USER, PASSWORD = "owner", "owners-secret"
#: bcrypt of the password.
_PASSWORDS = f"{USER}:$2b$04$Iv5eJb8Js.DldBoH9acnvehte6n9w021G0UYpFTYOCndMyJjv68zu\n"
_READY_SECONDS = 20


@dataclass(frozen=True)
class RegistryService:
    """Where it listens, and where its content lies."""

    host: str
    ca_file: Path
    folder: Path

    def blobs(self) -> dict[str, float]:
        """Digest of every blob, with the time at which it was written."""
        root = self.folder / "docker/registry/v2/blobs/sha256"
        return {f"sha256:{p.parent.name}": p.stat().st_mtime for p in root.glob("*/*/data")}

    def uploads(self) -> list[Path]:
        """What was begun and not ended."""
        return list((self.folder / "docker/registry/v2/repositories").glob("**/_uploads/*"))


def docker_config(*hosts: str, user: str = USER, password: str = PASSWORD) -> str:
    """What `kubectl create secret docker-registry` writes."""
    auth = base64.b64encode(f"{user}:{password}".encode()).decode()
    return json.dumps({"auths": {host: {"username": user, "password": password, "auth": auth} for host in hosts}})


@contextmanager
def registry_service(
    folder: Path, auth: dict[str, Any] | None = None, tls: Path | None = None, address: str = HERE
) -> Iterator[RegistryService]:
    """The registry with its content below `folder`, for as long as the block lasts.

    Args:
        auth: who may use it, in the registry's own terms; by default USER with PASSWORD.
        tls: the folder with its certificate; by default `folder`.
        address: where it listens, an address of this machine.
    """
    packages.ensure([PACKAGE])
    key_file, ca_file = certificate(tls or folder, address)
    port = free_port(address)
    (folder / "passwords").write_text(_PASSWORDS)
    settings = {
        "version": "0.1",
        "log": {"level": "warn"},
        "storage": {"filesystem": {"rootdirectory": str(folder / "content")}},
        "http": {
            "addr": f"{address}:{port}",
            "secret": "a-secret-of-the-test",
            "tls": {"certificate": str(ca_file), "key": str(key_file)},
        },
        "auth": auth or {"htpasswd": {"realm": "test", "path": str(folder / "passwords")}},
    }
    (folder / "settings.yml").write_text(json.dumps(settings))  # JSON is YAML
    log = folder / "registry.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            ["docker-registry", "serve", str(folder / "settings.yml")], stdout=output, stderr=output
        )
        try:
            wait_until_it_listens(process, port, log, _READY_SECONDS, address)
            yield RegistryService(f"{address}:{port}", ca_file, folder / "content")
        finally:
            process.terminate()
            process.wait(10)


@dataclass
class TokenServer:
    """Gives tokens to USER for what is asked, and remembers who asked."""

    folder: Path
    realm: str = ""
    seen: list[tuple[str, str | None]] = field(default_factory=list)
    """Scope and Authorization of every request."""

    def auth(self) -> dict[str, Any]:
        """The setting of a registry that trusts it."""
        _, ca_file = certificate(self.folder)
        settings = {"realm": self.realm, "service": "registry.test", "issuer": "test", "rootcertbundle": str(ca_file)}
        return {"token": settings}

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        asked = parse_qs(urlsplit(request.path).query)
        (scope,), login = asked["scope"], request.headers.get("Authorization")
        self.seen.append((scope, login))
        if login != "Basic " + base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode():
            return status(401)(request)
        return body(json.dumps({"token": self._token(scope), "expires_in": 60}).encode())(request)

    def _token(self, scope: str) -> str:
        key_file, ca_file = certificate(self.folder)
        key = serialization.load_pem_private_key(key_file.read_bytes(), None)
        assert isinstance(key, ec.EllipticCurvePrivateKey)
        chain = load_pem_x509_certificate(ca_file.read_bytes()).public_bytes(serialization.Encoding.DER)
        kind, name, actions = scope.split(":")
        now = int(time.time())
        claims = {"iss": "test", "sub": USER, "aud": "registry.test", "nbf": now - 5, "iat": now, "exp": now + 60}
        access = {"access": [{"type": kind, "name": name, "actions": actions.split(",")}], "jti": "1"}
        header = {"typ": "JWT", "alg": "ES256", "x5c": [base64.b64encode(chain).decode()]}
        signed = ".".join(_text(json.dumps(part).encode()) for part in (header, claims | access))
        r, s = utils.decode_dss_signature(key.sign(signed.encode(), ec.ECDSA(hashes.SHA256())))
        return f"{signed}.{_text(r.to_bytes(32, 'big') + s.to_bytes(32, 'big'))}"


def _text(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).decode().rstrip("=")
