"""`gs://`: objects of Google Cloud Storage, by Google's own client, held to two servers.

Every object has a generation, which no other content ever gets: what was listed is what is fetched, or nothing is. The
client is given whatever it would look for in the environment (keys, project, server), and its sessions know the service
and the one that hands out tokens: whatever else it may want to ask, a metadata service or a server that an answer leads
to, it has no way there.
"""

from __future__ import annotations

import base64
import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import urlsplit

from anneal.api.references import GsLocation
from anneal_trainer import files
from anneal_trainer.errors import Unavailable, UserMistake
from anneal_trainer.sources.credentials import Credentials
from anneal_trainer.sources.gs_errors import Deed, ours
from anneal_trainer.sources.gs_keys import keys
from anneal_trainer.sources.leash import Leash
from anneal_trainer.sources.place import RemoteFile

_GOOGLE = "https://storage.googleapis.com"
_BLOCK = 4 * 1024 * 1024
#: What is held in memory of an upload, and what is sent again when sending failed.
_PART = 16 * 1024 * 1024
_MAX_BYTES_AT_ONCE = 16 * 1024 * 1024
_LISTED = "items(name,size,generation,crc32c),nextPageToken"


@dataclass(frozen=True)
class Folder:
    """An object, or all objects directly below a prefix. All methods raise UserMistake or Unavailable."""

    where: GsLocation
    client: Any = field(repr=False)
    service: str
    secret: str
    """Whose keys are used; empty: nobody's."""
    leash: Leash
    deed: Deed
    revision: None = None

    def files(self) -> list[RemoteFile]:
        """The object of that key, or the objects below it."""
        key = self.where.key
        with self._asked() as how:
            if key and (found := self._bucket().get_blob(key, **how)) is not None:
                return [_remote(found, key.rpartition("/")[2])]
            prefix = f"{key}/" if key else ""
            found = self.client.list_blobs(
                self.where.bucket, prefix=prefix, delimiter="/", fields=_LISTED, page_size=1000, **how
            )
            below = [(blob, blob.name.removeprefix(prefix)) for blob in found if blob.name.startswith(prefix)]
            # An object whose name ends with a slash stands for a folder in some programs.
            listed = [_remote(blob, name) for blob, name in below if name and "/" not in name]
        if not listed:
            raise UserMistake("SourceNotFound", f"there is nothing at {self._name}: check the name")
        return listed

    def fetch(self, file: RemoteFile, target: Path) -> None:
        """Downloads one object. Raises Unavailable when it is no longer what was listed, or arrives damaged."""
        generation, _, checksum = file.version.partition(" ")
        name = f"gs://{self.where.bucket}/{file.path}"
        with self._asked() as how, files.replacing(target) as output:
            too_long = Unavailable("SourceUnavailable", f"{name} sends more than the {file.size} bytes it announced")
            checked = _Checked(output, file.size or 0, too_long)
            self._download(file.path, int(generation), checked, "Source", **how)
            checked.compare(name, file.size or 0, checksum, "Source")

    def read(self, name: str) -> bytes | None:
        """The first 16 MiB of an object below the folder; None when there is no such object.

        Raises Unavailable when it is replaced meanwhile, or arrives damaged and is no longer than that.
        """
        with self._asked() as how:
            found = self._bucket().get_blob(self._path(name), **how)
            if found is None or not found.size:
                return None if found is None else b""
            content = io.BytesIO()
            too_long = Unavailable("OutputUnavailable", f"{self._name} sends more than it is asked for")
            checked = _Checked(content, _MAX_BYTES_AT_ONCE, too_long)
            self._download(found.name, found.generation, checked, "Output", end=_MAX_BYTES_AT_ONCE - 1, **how)
            # The service knows the checksum of the whole alone. Damaged content would pass for somebody else's.
            if found.size <= _MAX_BYTES_AT_ONCE:
                checked.compare(f"gs://{self.where.bucket}/{found.name}", found.size, found.crc32c, "Output")
        return content.getvalue()

    def put(self, source: Path, name: str) -> None:
        """Writes a file as an object below the folder, whole or not at all; what is there already is left alone.

        The service is told the checksum beforehand and makes no object of anything else, nor when somebody else has
        written one of that name in the meantime.
        """
        from google.api_core.exceptions import PreconditionFailed

        path, size, checksum = self._path(name), source.stat().st_size, _checksum(source)
        with self._asked() as how, source.open("rb") as content:
            found = self._bucket().get_blob(path, **how)
            if _is(found, size, checksum):
                return
            try:
                self._bucket().blob(path, chunk_size=_PART).upload_from_file(
                    content,
                    size=size,
                    content_type="application/octet-stream",
                    checksum="crc32c",
                    crc32c_checksum_value=checksum,
                    if_generation_match=found.generation if found else 0,
                    **how,
                )
            except PreconditionFailed as error:  # also what a second try gets when the first one's answer was lost
                if not _is(self._bucket().get_blob(path, **how), size, checksum):
                    raise Unavailable(
                        "OutputUnavailable", f"gs://{self.where.bucket}/{path} was written by somebody else meanwhile"
                    ) from error

    def _download(self, path: str, generation: int, into: _Checked, deed: Deed, **how: Any) -> None:
        """Takes an object at one generation, or a part of it. Raises Unavailable when it has another by now."""
        from google.api_core.exceptions import NotFound

        # A blob of our own: one that the service described has its address from there, which may be another server's.
        blob = self._bucket().blob(path, generation=generation)
        try:
            # Raw: stored gzip could unpack to any size. The client does not check what it fetched in two requests.
            blob.download_to_file(into, raw_download=True, checksum=None, **how)
        except NotFound as error:
            name = f"gs://{self.where.bucket}/{path}"
            raise Unavailable(f"{deed}Unavailable", f"{name} changed while it was fetched") from error

    def _bucket(self) -> Any:
        return self.client.bucket(self.where.bucket)

    def _path(self, name: str) -> str:
        return f"{self.where.key}/{name}".lstrip("/")

    @property
    def _name(self) -> str:
        return f"{self.where.uri}{self.service}"

    @contextmanager
    def _asked(self) -> Iterator[dict[str, Any]]:
        """How every request is made: on the leash, with its patience; what goes wrong becomes ours."""
        try:
            with self.leash.held():
                yield {"timeout": self.leash.timeout_seconds, "retry": _retry(self.leash)}
        except Unavailable:
            raise
        except Exception as error:
            known = ours(error, self.deed, self._name, self.secret)
            if known is None:
                raise
            raise known from error


def connect(
    where: GsLocation, endpoint: str | None, credentials: Credentials, leash: Leash, deed: Deed = "Source"
) -> Folder:
    """The place in the service at `endpoint`, or in Google's. Raises UserMistake."""
    # A thread of the client would ask for the bucket's region, for traces that nobody collects.
    os.environ["DISABLE_GCS_PYTHON_CLIENT_OTEL_BUCKET_METADATA"] = "true"
    from google.cloud.storage import Client

    server = (endpoint or _GOOGLE).rstrip("/")
    known = keys(credentials, server, deed)
    servers = {_origin(server), *({_origin(known.token_uri)} if known.token_uri else ())}
    client = Client(
        project="none",  # only lists of buckets need one
        credentials=known.used,
        client_options={"api_endpoint": server},
        _http=_session(known.used, servers, credentials),
    )
    secret = credentials.secret if known.token_uri else ""
    return Folder(where, client, f" at {endpoint}" if endpoint else "", secret, leash, deed)


def _session(used: Any, servers: set[str], credentials: Credentials) -> Any:
    """Requests as the owner of the keys, to these servers alone."""
    from google.auth.transport.requests import AuthorizedSession, Request
    from requests import Session
    from requests.adapters import HTTPAdapter

    for_tokens = Session()
    session = AuthorizedSession(used, auth_request=Request(for_tokens))
    for each in (session, for_tokens):
        each.trust_env = False
        each.max_redirects = 0
        each.adapters.clear()  # a URL that no adapter is for is not asked
        for server in servers:
            adapter = HTTPAdapter()
            adapter.init_poolmanager(4, 4, ssl_context=credentials.tls())
            each.mount(f"{server}/", adapter)
    return session


def _retry(leash: Leash) -> Any:
    """The client's own rule of what may be tried again, for as long as one wait may take."""
    from google.api_core.retry import Retry
    from google.cloud.storage.retry import DEFAULT_RETRY
    from requests.exceptions import SSLError

    may_pass = DEFAULT_RETRY._predicate
    return Retry(
        predicate=lambda error: may_pass(error) and not isinstance(error, SSLError),
        initial=0.5,
        timeout=leash.timeout_seconds,
    )


class _Checked:
    """A stream that takes no more than it was told to, and knows what it took."""

    def __init__(self, stream: BinaryIO, limit: int, too_long: Unavailable) -> None:
        from google_crc32c import Checksum

        self._stream, self._limit, self._too_long = stream, limit, too_long
        self._sum = Checksum()
        self.size = 0

    def write(self, block: bytes) -> None:
        """Takes a block. Raises Unavailable for what is too much."""
        self.size += len(block)
        if self.size > self._limit:
            raise self._too_long
        self._sum.update(block)
        self._stream.write(block)

    @property
    def checksum(self) -> str:
        """CRC32C of all of it, as the service writes it."""
        return base64.b64encode(self._sum.digest()).decode()

    def compare(self, name: str, size: int, checksum: str, deed: Deed) -> None:
        """Raises Unavailable unless what it took is the object as the service describes it."""
        if (self.size, self.checksum) != (size, checksum):
            raise Unavailable(
                f"{deed}Unavailable", f"{name} arrived damaged: its CRC32C is {self.checksum}, not {checksum}"
            )


def _checksum(path: Path) -> str:
    from google_crc32c import Checksum

    with path.open("rb") as stream:
        found = Checksum()
        while block := stream.read(_BLOCK):
            found.update(block)
    return base64.b64encode(found.digest()).decode()


def _is(found: Any, size: int, checksum: str) -> bool:
    return found is not None and (found.size, found.crc32c) == (size, checksum)


def _remote(blob: Any, name: str) -> RemoteFile:
    if blob.size is None or not blob.generation or not blob.crc32c:
        raise ValueError(f"object {name[:100]} has no size, generation or checksum")
    return RemoteFile(name, blob.size, f"{blob.generation} {blob.crc32c}", blob.name)


def _origin(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"
