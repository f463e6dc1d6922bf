"""A Hugging Face Hub on this machine: the part of its protocol by which repositories are looked up and fetched.

The Hub itself cannot be had in a test. Paths, headers and JSON are those that huggingface_hub asks for and reads: large
files are answered by a redirect to another host with a signed URL, small ones at once; a commit has a hash for each.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from tests.support.https_server import Address, HttpsServer, https_server

LARGE = 4096


def commit_of(files: dict[str, bytes]) -> str:
    """A commit: a function of all files."""
    known = [(name, hashlib.sha256(content).hexdigest()) for name, content in sorted(files.items())]
    return hashlib.sha1(repr(known).encode()).hexdigest()


@dataclass
class Hub:
    """Repositories by path (`owner/name`, `datasets/owner/name`), each with the files at every revision."""

    server: HttpsServer
    storage: HttpsServer
    repositories: dict[str, dict[str, dict[str, bytes]]] = field(default_factory=dict)
    token: str | None = None
    """Who may read; None is everybody."""
    asked: list[str] = field(default_factory=list)
    """Method and path of every request to the Hub."""
    seen_by_storage: list[str | None] = field(default_factory=list)
    """What the storage host was sent as Authorization."""
    spoil: bytes = b""
    """Laid over the beginning of large files, as a broken mirror would."""

    @property
    def url(self) -> str:
        return self.server.url

    def put(self, path: str, files: dict[str, bytes], revision: str = "main") -> str:
        """Makes a commit, and a branch that names it. Returns the commit."""
        commit = commit_of(files)
        self.repositories.setdefault(path, {}).update({revision: files, commit: files})
        return commit

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        self.asked.append(f"{request.command} {request.path}")
        if self.token and request.headers.get("Authorization") != f"Bearer {self.token}":
            return _refuse(request, 401, "RepoNotFound")
        path = urlsplit(request.path).path
        if path.startswith("/api/"):
            return self._api(request, path.removeprefix("/api/"))
        repository, _, rest = path.strip("/").partition("/resolve/")
        revision, _, name = rest.partition("/")
        return self._file(request, repository, revision, name)

    def _api(self, request: BaseHTTPRequestHandler, path: str) -> None:
        for marker in ("/revision/", "/paths-info/"):
            repository, found, revision = path.partition(marker)
            if found:
                break
        files = self.repositories.get(repository.removeprefix("models/"))
        if files is None:
            return _refuse(request, 404, "RepoNotFound")
        if revision not in files:
            return _refuse(request, 404, "RevisionNotFound")
        if marker == "/paths-info/":
            asked = parse_qs(request.rfile.read(int(request.headers["Content-Length"])).decode())["paths"]
            return _json(request, [_entry(n, files[revision][n]) for n in asked if n in files[revision]])
        siblings = [
            {"rfilename": n, "size": len(c), "blobId": _git_blob(c), **_lfs(c)} for n, c in files[revision].items()
        ]
        commit = commit_of(files[revision])
        return _json(request, {"id": repository.removeprefix("models/"), "sha": commit, "siblings": siblings})

    def _file(self, request: BaseHTTPRequestHandler, repository: str, revision: str, name: str) -> None:
        files = self.repositories.get(repository, {}).get(revision, {})
        if name not in files:
            return _refuse(request, 404, "EntryNotFound")
        content = files[name]
        large = len(content) >= LARGE
        etag = hashlib.sha256(content).hexdigest() if large else _git_blob(content)
        request.send_response(302 if large else 200)
        request.send_header("X-Repo-Commit", commit_of(files))
        request.send_header("X-Linked-Etag" if large else "ETag", f'"{etag}"')
        if large:
            request.send_header("X-Linked-Size", str(len(content)))
            request.send_header("Location", f"{self.storage.url}/{etag}?signature=s")
        request.send_header("Content-Length", "0" if large else str(len(content)))
        request.end_headers()
        if not large and request.command == "GET":
            request.wfile.write(content)
        return None

    def store(self, request: BaseHTTPRequestHandler) -> None:
        """The storage host, which knows files by their hash alone."""
        self.seen_by_storage.append(request.headers.get("Authorization"))
        wanted = urlsplit(request.path).path.strip("/")
        contents = {c for r in self.repositories.values() for files in r.values() for c in files.values()}
        (content,) = [c for c in contents if hashlib.sha256(c).hexdigest() == wanted]
        content = self.spoil + content[len(self.spoil) :]
        request.send_response(200)
        request.send_header("Content-Length", str(len(content)))
        request.end_headers()
        request.wfile.write(content)


@contextmanager
def hub_server(folder: Path, at: Address = Address(), storage_at: Address = Address()) -> Iterator[Hub]:  # noqa: B008
    """A Hub and its storage host, for as long as the block lasts."""
    with https_server(folder, {}, at) as server, https_server(folder, {}, storage_at) as storage:
        hub = Hub(server, storage)
        server.default, storage.default = hub.answer, hub.store
        yield hub


def _git_blob(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def _lfs(content: bytes) -> dict[str, object]:
    if len(content) < LARGE:
        return {}
    return {"lfs": {"sha256": hashlib.sha256(content).hexdigest(), "size": len(content), "pointerSize": 134}}


def _entry(name: str, content: bytes) -> dict[str, object]:
    large = {"oid": hashlib.sha256(content).hexdigest(), "size": len(content), "pointerSize": 134}
    return {
        "type": "file",
        "path": name,
        "size": len(content),
        "oid": _git_blob(content),
        **({"lfs": large} if len(content) >= LARGE else {}),
    }


def _json(request: BaseHTTPRequestHandler, document: object) -> None:
    content = json.dumps(document).encode()
    request.send_response(200)
    request.send_header("Content-Type", "application/json")
    request.send_header("Content-Length", str(len(content)))
    request.end_headers()
    request.wfile.write(content)


def _refuse(request: BaseHTTPRequestHandler, status: int, code: str) -> None:
    request.send_response(status)
    request.send_header("X-Error-Code", code)
    request.send_header("Content-Length", "0")
    request.end_headers()
