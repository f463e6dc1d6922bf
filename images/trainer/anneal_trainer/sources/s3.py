"""`s3://`: objects of Amazon S3 and of every service that speaks its protocol, by Apache Arrow's S3 client.

S3 has no commits. A folder is taken as it is listed: names, sizes and times of change; what changes between the listing
and the fetch is noticed and refused. The client's sockets are its own, so the leash is applied to the addresses of the
service's name before it is asked for anything.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

from anneal.api.references import S3Location
from anneal_trainer import files
from anneal_trainer.errors import Unavailable, UserMistake
from anneal_trainer.sources.credentials import Credentials
from anneal_trainer.sources.leash import Leash
from anneal_trainer.sources.place import RemoteFile

_BLOCK = 4 * 1024 * 1024
_MAX_BYTES_AT_ONCE = 16 * 1024 * 1024
_DEFAULT_REGION = "us-east-1"
_KEYS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")


@dataclass(frozen=True)
class Folder:
    """An object, or all objects directly below a prefix."""

    where: S3Location
    client: Any = field(repr=False)
    service: str
    credentials: Credentials
    revision: None = None

    def files(self) -> list[RemoteFile]:
        """The object of that key, or the objects below it. Raises UserMistake when there is neither."""
        from pyarrow.fs import FileSelector, FileType

        path = self._path()
        with self._errors("Source"):
            found = self.client.get_file_info(path)
            if found.type == FileType.File:
                return [_remote(found)]
            below = self.client.get_file_info(FileSelector(path, allow_not_found=True))
        listed = [_remote(f) for f in below if f.type == FileType.File]
        if not listed:
            raise UserMistake("SourceNotFound", f"there is nothing at {self.where.uri}{self.service}: check the name")
        return listed

    def fetch(self, file: RemoteFile, target: Path) -> None:
        """Downloads one object. Raises Unavailable when it changed since it was listed."""
        with self._errors("Source"), files.replacing(target) as output:
            # Compression would be guessed from the name, and a small object could unpack to any size.
            with self.client.open_input_stream(file.path, compression=None) as stream:
                size = 0
                while block := stream.read(_BLOCK):
                    size += len(block)
                    output.write(block)
            now = _remote(self.client.get_file_info(file.path))
            if (now.size, now.version) != (file.size, file.version) or size != file.size:
                raise Unavailable("SourceUnavailable", f"s3://{file.path} changed while it was fetched")

    def read(self, name: str) -> bytes | None:
        """The first 16 MiB of an object below the folder; None when there is no such object."""
        from pyarrow.fs import FileType

        path = f"{self._path()}/{name}"
        with self._errors("Output"):
            if self.client.get_file_info(path).type != FileType.File:
                return None
            with self.client.open_input_stream(path, compression=None) as stream:
                return bytes(stream.read(_MAX_BYTES_AT_ONCE))

    def put(self, source: Path, name: str) -> None:
        """Writes a file as an object below the folder; in parts where it is large, so that it is there whole or not."""
        path = f"{self._path()}/{name}"
        with self._errors("Output"), source.open("rb") as content:
            with self.client.open_output_stream(path, compression=None) as stream:
                while block := content.read(_BLOCK):
                    stream.write(block)
            if self.client.get_file_info(path).size != source.stat().st_size:
                raise Unavailable("OutputUnavailable", f"s3://{path} was not written whole")

    def _path(self) -> str:
        return f"{self.where.bucket}/{self.where.key}".rstrip("/")

    @contextmanager
    def _errors(self, what: Literal["Source", "Output"]) -> Iterator[None]:
        """What the client's errors amount to: it tells them apart in their text alone."""
        name, deed = f"{self.where.uri}{self.service}", "read" if what == "Source" else "written"
        try:
            yield
        except OSError as error:
            text = str(error)
            if isinstance(error, FileNotFoundError) or "NO_SUCH_BUCKET" in text:
                raise UserMistake(f"{what}NotFound", f"there is nothing at {name}: check the name") from error
            if error.errno is not None or "AWS Error" not in text:
                raise
            if any(word in text for word in ("ACCESS_DENIED", "INVALID_ACCESS_KEY", "SIGNATURE", "HTTP status 403")):
                who = (
                    f"with the keys of Secret '{self.credentials.secret}'" if self.credentials.secret else "by anybody"
                )
                raise UserMistake(
                    "SourceNotReadable" if what == "Source" else "OutputNotWritable",
                    f"{name} may not be {deed} {who}: check keys and policy",
                ) from error
            cause = text.partition("AWS Error ")[2]
            raise Unavailable(f"{what}Unavailable", f"{name} could not be reached: {cause[:300]}") from error


def connect(where: S3Location, endpoint: str | None, credentials: Credentials, leash: Leash) -> Folder:
    """The place in the service at `endpoint`, or in Amazon S3. Raises UserMistake or Unavailable."""
    # The client would look for keys, and for a region, at the metadata service of the node.
    os.environ["AWS_EC2_METADATA_DISABLED"] = "true"
    from pyarrow.fs import AwsStandardS3RetryStrategy, S3FileSystem

    credentials.need(*_KEYS)
    key, secret = (credentials.get(name) for name in _KEYS)
    options: dict[str, Any] = {
        "region": credentials.get("AWS_REGION") or _DEFAULT_REGION,
        "request_timeout": leash.timeout_seconds,
        "connect_timeout": leash.timeout_seconds,
        "retry_strategy": AwsStandardS3RetryStrategy(max_attempts=3),
    }
    if key and secret:
        options |= {"access_key": key, "secret_key": secret, "session_token": credentials.get("AWS_SESSION_TOKEN")}
    else:
        options["anonymous"] = True
    if endpoint is not None:
        parts = urlsplit(endpoint)
        _check_addresses(parts.hostname or "", parts.port or (80 if parts.scheme == "http" else 443), endpoint, leash)
        options |= {"endpoint_override": parts.netloc, "scheme": parts.scheme}
    if authorities := credentials.authorities():
        options["tls_ca_file_path"] = str(authorities)
    return Folder(where, S3FileSystem(**options), f" at {endpoint}" if endpoint else "", credentials)


def _check_addresses(host: str, port: int, endpoint: str, leash: Leash) -> None:
    try:
        found = {str(info[4][0]) for info in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)}
    except OSError as error:
        raise Unavailable("SourceUnavailable", f"{endpoint} could not be reached: {error}") from error
    for address in sorted(found):
        if leash.is_forbidden(address):
            raise UserMistake(
                "SourceNotAllowed",
                f"{endpoint} leads to {address}, an address of the node itself, from which nothing is fetched",
            )


def _remote(info: Any) -> RemoteFile:
    return RemoteFile(info.base_name, info.size, str(info.mtime_ns), info.path)
