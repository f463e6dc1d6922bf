"""A real HTTPS server on this machine, with a certificate made for it, that answers as it is told."""

from __future__ import annotations

import datetime
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

Answer = Callable[[BaseHTTPRequestHandler], None]


@dataclass
class HttpsServer:
    """Where it listens, whom to trust, and what it was sent."""

    url: str
    ca_file: Path
    answers: dict[str, Answer]
    default: Answer
    """What is answered on any other path."""
    received: list[tuple[dict[str, str], bytes]] = field(default_factory=list)


def body(content: bytes, **headers: str) -> Answer:
    """200 with a body. `content_length` announces another length than there is."""

    def answer(request: BaseHTTPRequestHandler) -> None:
        request.send_response(200)
        request.send_header("Content-Length", headers.get("content_length", str(len(content))))
        request.end_headers()
        request.wfile.write(content)

    return answer


def status(code: int, location: str | None = None) -> Answer:
    """An empty answer with a status."""

    def answer(request: BaseHTTPRequestHandler) -> None:
        request.send_response(code)
        if location:
            request.send_header("Location", location)
        request.send_header("Content-Length", "0")
        request.end_headers()

    return answer


@dataclass(frozen=True)
class Address:
    """Where a server listens, and what its clients call it."""

    bind: str = "127.0.0.1"
    port: int = 0
    name: str = "127.0.0.1"


@contextmanager
def https_server(folder: Path, answers: dict[str, Answer], at: Address = Address()) -> Iterator[HttpsServer]:
    """The server, for as long as the block lasts. Servers of one folder have one certificate."""
    key_file, ca_file = certificate(folder, at.name)
    server = HttpsServer("", ca_file, answers, status(404))

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            server.answers.get(self.path, server.default)(self)

        do_HEAD = do_PUT = do_DELETE = do_GET  # noqa: N815

        def do_POST(self) -> None:
            if self.path not in server.answers:
                server.default(self)
                return
            content = self.rfile.read(int(self.headers["Content-Length"]))
            server.received.append((dict(self.headers), content))
            server.answers[self.path](self)

        def log_message(self, *_: object) -> None:
            """Says nothing."""

    listener = ThreadingHTTPServer((at.bind, at.port), Handler)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(ca_file, key_file)
    listener.socket = tls.wrap_socket(listener.socket, server_side=True)
    server.url = f"https://{at.name}:{listener.server_address[1]}"
    thread = threading.Thread(target=listener.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield server
    finally:
        listener.shutdown()
        thread.join()
        listener.server_close()


def certificate(folder: Path, host: str = "127.0.0.1") -> tuple[Path, Path]:
    """(key, certificate) for a host, which is its own authority; made when the folder has none."""
    key_file, ca_file = folder / "tls.key", folder / "ca.crt"
    if ca_file.exists():
        return key_file, ca_file
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([_named(host)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    ca_file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    key_file.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return key_file, ca_file


def _named(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(host))
    except ValueError:
        return x509.DNSName(host)
