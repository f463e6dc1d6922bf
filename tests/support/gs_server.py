"""A Google Cloud Storage on this machine: the part of its JSON API by which objects are listed, read and written.

Google Cloud cannot be had in a test. Paths, headers and JSON are those of its documented JSON API, as Google's client
asks for and reads them. Tokens are handed out for assertions (RFC 7523) whose signature, issuer, audience and times are
good; nothing is read or written without one that has the scope for it, unless a bucket is public. An upload becomes an
object with its last byte, when its checksum is the one that was told, and never before.
"""

from __future__ import annotations

import base64
import json
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote, unquote, urlsplit

import google_crc32c
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from tests.support.https_server import HttpsServer, https_server

EMAIL = "trainer@project.iam.gserviceaccount.com"
#: Whom assertions are for, whichever server they are sent to.
_AUDIENCE = "https://oauth2.googleapis.com/token"
_SCOPE = "https://www.googleapis.com/auth/devstorage."
KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)


def key_file(token_uri: object, key: rsa.RSAPrivateKey = KEY, **more: object) -> str:
    """The key of the service account, as Google hands it out."""
    pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()
    document = {
        "type": "service_account",
        "project_id": "project",
        "private_key_id": "k1",
        "private_key": pem,
        "client_email": EMAIL,
        "token_uri": token_uri,
        "universe_domain": "googleapis.com",
        **more,
    }
    return json.dumps({name: value for name, value in document.items() if value is not None})


def checksum_of(content: bytes) -> str:
    """CRC32C as the service writes it."""
    return base64.b64encode(google_crc32c.value(content).to_bytes(4, "big")).decode()


@dataclass(frozen=True)
class Stored:
    """An object at one generation."""

    content: bytes
    generation: int
    encoding: str | None = None


@dataclass
class _Upload:
    bucket: str
    name: str
    condition: str | None
    metadata: dict[str, Any]
    content: bytes = b""


@dataclass
class GsServer:
    """Buckets of objects by name, who may do what, and what goes wrong."""

    server: HttpsServer
    buckets: dict[str, dict[str, Stored]] = field(default_factory=dict)
    public: set[str] = field(default_factory=set)
    closed: set[str] = field(default_factory=set)
    """Buckets that the service account has no role in."""
    asked: list[str] = field(default_factory=list)
    """What every request wanted: token, get, list, media, start, part, multipart; any other by its path."""
    scopes: list[str] = field(default_factory=list)
    failures: dict[str, list[int]] = field(default_factory=dict)
    """Statuses that the next requests of a kind are answered with."""
    cuts: list[int] = field(default_factory=list)
    """After how many bytes the next contents break off."""
    spoil_sent: bytes = b""
    """Laid over the beginning of what is sent, as a broken disk would."""
    spoil_received: bytes = b""
    listed_too: list[str] = field(default_factory=list)
    """Names that lists have besides, as an evil server would."""
    sessions_at: str | None = None
    """Another server that uploads are sent to."""
    parts: int | None = None
    """How many parts of an upload are taken before nobody answers any more."""
    _tokens: dict[str, str] = field(default_factory=dict)
    _uploads: list[_Upload] = field(default_factory=list)
    _generations: int = 1700000000000000

    @property
    def url(self) -> str:
        return self.server.url

    @property
    def token_uri(self) -> str:
        return f"{self.url}/token"

    def put(self, bucket: str, name: str, content: bytes, encoding: str | None = None) -> None:
        """Makes an object, and its bucket."""
        self._generations += 1
        self.buckets.setdefault(bucket, {})[name] = Stored(content, self._generations, encoding)

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        body = request.rfile.read(int(request.headers.get("Content-Length") or 0))
        url = urlsplit(request.path)
        query = {name: values[0] for name, values in parse_qs(url.query, keep_blank_values=True).items()}
        if url.path == "/token":
            return self._token(request, body)
        found = re.fullmatch(r"(/upload|/download)?/storage/v1/b/([^/]+)/o(/[^/]+)?", url.path)
        if not found:
            self.asked.append(request.path)
            return _refuse(request, 404, "Not Found")
        bucket, name = unquote(found[2]), unquote((found[3] or "")[1:])
        if found[1] == "/upload":
            return self._upload(request, bucket, query, body)
        kind = "list" if not found[3] else "media" if query.get("alt") == "media" else "get"
        if not self._may(request, kind, bucket):
            return None
        if bucket not in self.buckets:
            return _refuse(request, 404, "The specified bucket does not exist.")
        if kind == "list":
            return self._list(request, bucket, query)
        stored = self.buckets[bucket].get(name)
        if stored is None or query.get("generation", str(stored.generation)) != str(stored.generation):
            return _refuse(request, 404, f"No such object: {bucket}/{name}")
        return self._media(request, stored) if kind == "media" else _json(request, _resource(bucket, name, stored))

    def _token(self, request: BaseHTTPRequestHandler, body: bytes) -> None:
        if self._fails(request, "token"):
            return None
        form = parse_qs(body.decode())
        assert form["grant_type"] == ["urn:ietf:params:oauth:grant-type:jwt-bearer"]
        signed, _, signature = form["assertion"][0].rpartition(".")
        header, claims = (json.loads(_decoded(part)) for part in signed.split("."))
        assert (header["alg"], header["kid"]) == ("RS256", "k1")
        try:
            KEY.public_key().verify(_decoded(signature), signed.encode(), padding.PKCS1v15(), hashes.SHA256())
        except InvalidSignature:
            return _json(request, {"error": "invalid_grant", "error_description": "Invalid JWT Signature."}, 400)
        assert (claims["iss"], claims["aud"]) == (EMAIL, _AUDIENCE)
        assert claims["iat"] <= time.time() + 60 < claims["exp"] <= claims["iat"] + 3600
        token = f"ya29.{len(self._tokens)}"
        self._tokens[token] = claims["scope"]
        self.scopes.append(claims["scope"])
        return _json(request, {"access_token": token, "expires_in": 3599, "token_type": "Bearer"})

    def _fails(self, request: BaseHTTPRequestHandler, kind: str) -> bool:
        self.asked.append(kind)
        if not self.failures.get(kind):
            return False
        _refuse(request, self.failures[kind].pop(0), "said by the test")
        return True

    def _may(self, request: BaseHTTPRequestHandler, kind: str, bucket: str) -> bool:
        """Whether the request goes on; otherwise it has been answered."""
        if self._fails(request, kind):
            return False
        token = (request.headers.get("Authorization") or "").removeprefix("Bearer ")
        is_reading = kind in ("get", "list", "media")
        if not token:
            if bucket in self.public and is_reading:
                return True
            _refuse(request, 401, "Anonymous caller does not have storage.objects access.")
            return False
        if token not in self._tokens:
            _refuse(request, 401, "Invalid Credentials")
            return False
        wanted = {f"{_SCOPE}read_write"} | ({f"{_SCOPE}read_only"} if is_reading else set())
        if bucket in self.closed or self._tokens[token] not in wanted:
            _refuse(request, 403, f"{EMAIL} does not have storage.objects access.")
            return False
        return True

    def _list(self, request: BaseHTTPRequestHandler, bucket: str, query: dict[str, str]) -> None:
        assert query["delimiter"] == "/"
        prefix = query.get("prefix", "")
        objects = self.buckets[bucket]
        below = sorted(n for n in objects if n.startswith(prefix) and "/" not in n.removeprefix(prefix))
        start = int(query.get("pageToken", "0"))
        page = below[start : start + 2]  # pages are small here, so that there are several
        items = [_resource(bucket, name, objects[name]) for name in page]
        items += [{**_resource(bucket, n, Stored(b"evil", 7)), "name": n} for n in self.listed_too if start == 0]
        more = {"nextPageToken": str(start + 2)} if start + 2 < len(below) else {}
        _json(request, {"kind": "storage#objects", "items": items, **more})

    def _media(self, request: BaseHTTPRequestHandler, stored: Stored) -> None:
        content = self.spoil_sent + stored.content[len(self.spoil_sent) :]
        wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", request.headers.get("Range") or "")
        start = int(wanted[1]) if wanted else 0
        part = content[start : int(wanted[2]) + 1 if wanted and wanted[2] else None]
        assert "gzip" in (request.headers.get("Accept-Encoding") or "")
        request.send_response(206 if wanted else 200)
        request.send_header("Content-Length", str(len(part)))
        request.send_header("X-Goog-Generation", str(stored.generation))
        if stored.encoding:
            request.send_header("Content-Encoding", stored.encoding)
            request.send_header("X-Goog-Stored-Content-Encoding", stored.encoding)
        if not wanted:
            request.send_header("X-Goog-Hash", f"crc32c={checksum_of(stored.content)}")
        request.end_headers()
        request.wfile.write(part[: self.cuts.pop(0)] if self.cuts else part)

    def _upload(self, request: BaseHTTPRequestHandler, bucket: str, query: dict[str, str], body: bytes) -> None:
        if request.command == "PUT":
            return self._part(request, self._uploads[int(query["upload_id"])], body)
        kind = {"resumable": "start", "multipart": "multipart"}[query["uploadType"]]
        if not self._may(request, kind, bucket):
            return None
        if bucket not in self.buckets:
            return _refuse(request, 404, "The specified bucket does not exist.")
        if kind == "multipart":
            boundary = (request.headers["Content-Type"].partition("boundary=")[2]).strip('"').encode()
            first, second = (
                p.partition(b"\r\n\r\n")[2].removesuffix(b"\r\n") for p in body.split(b"--" + boundary)[1:3]
            )
            metadata = json.loads(first)
            return self._finish(
                request, _Upload(bucket, metadata["name"], query.get("ifGenerationMatch"), metadata, second)
            )
        metadata = json.loads(body)
        self._uploads.append(_Upload(bucket, metadata["name"], query.get("ifGenerationMatch"), metadata))
        session = f"/upload/storage/v1/b/{bucket}/o?uploadType=resumable&upload_id={len(self._uploads) - 1}"
        request.send_response(200)
        request.send_header("Location", (self.sessions_at or self.url) + session)
        request.send_header("Content-Length", "0")
        request.end_headers()
        return None

    def _part(self, request: BaseHTTPRequestHandler, upload: _Upload, body: bytes) -> None:
        if self.parts is not None:
            self.parts -= 1
            if self.parts < 0:
                self.asked.append("silence")
                time.sleep(120)
                return None
        if self._fails(request, "part"):
            return None
        found = re.fullmatch(r"bytes (\d+)-\d+/(\d+)", request.headers["Content-Range"])
        assert found, request.headers["Content-Range"]
        if int(found[1]) > len(upload.content):
            return _refuse(request, 503, "bytes are missing")
        upload.content = upload.content[: int(found[1])] + body
        if len(upload.content) < int(found[2]):
            request.send_response(308)
            request.send_header("Range", f"bytes=0-{len(upload.content) - 1}")
            request.send_header("Content-Length", "0")
            return request.end_headers()
        if hash_ := request.headers.get("X-Goog-Hash"):
            upload.metadata["crc32c"] = hash_.removeprefix("crc32c=")
        return self._finish(request, upload)

    def _finish(self, request: BaseHTTPRequestHandler, upload: _Upload) -> None:
        before = self.buckets[upload.bucket].get(upload.name)
        if upload.condition is not None and upload.condition != str(before.generation if before else 0):
            return _refuse(request, 412, "At least one of the pre-conditions you specified did not hold.")
        content = self.spoil_received + upload.content[len(self.spoil_received) :]
        if upload.metadata.get("crc32c") != checksum_of(content):
            return _refuse(request, 400, "Provided CRC32C does not match calculated CRC32C.")
        self.put(upload.bucket, upload.name, content)
        return _json(request, _resource(upload.bucket, upload.name, self.buckets[upload.bucket][upload.name]))


@contextmanager
def gs_server(folder: Path) -> Iterator[GsServer]:
    """The service, for as long as the block lasts."""
    with https_server(folder, {}) as server:
        storage = GsServer(server)
        server.default = storage.answer
        yield storage


def _resource(bucket: str, name: str, stored: Stored) -> dict[str, Any]:
    return {
        "kind": "storage#object",
        "bucket": bucket,
        "name": name,
        "size": str(len(stored.content)),
        "generation": str(stored.generation),
        "crc32c": checksum_of(stored.content),
        # Google's own server, whichever was asked.
        "mediaLink": f"https://storage.googleapis.com/download/storage/v1/b/{bucket}/o/{quote(name, safe='')}"
        f"?generation={stored.generation}&alt=media",
    }


def _decoded(part: str) -> bytes:
    return base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))


def _json(request: BaseHTTPRequestHandler, document: object, status: int = 200) -> None:
    content = json.dumps(document).encode()
    request.send_response(status)
    request.send_header("Content-Type", "application/json")
    request.send_header("Content-Length", str(len(content)))
    request.end_headers()
    request.wfile.write(content)


def _refuse(request: BaseHTTPRequestHandler, status: int, message: str) -> None:
    _json(request, {"error": {"code": status, "message": message}}, status)
