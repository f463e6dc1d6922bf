"""Where examples come from: files on mounted claims, and files fetched by HTTPS.

Fetching is done on a tenant's word, so it is kept on a short leash: HTTPS only, redirects only to HTTPS, a limit on the
size, a limit on every wait, and no way to the node's own addresses (loopback, link-local and with it the metadata
services of clouds). Private addresses are allowed: an object store in the cluster has one. The address is checked on
the open connection, before anything is asked for, so that a name cannot answer one thing and connect to another.
"""

from __future__ import annotations

import errno
import hashlib
import http.client
import ipaddress
import ssl
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO
from urllib.parse import urljoin, urlsplit

from anneal.api.runs import SourceInput
from anneal_trainer import files
from anneal_trainer.errors import Unavailable, UserMistake

_BLOCK = 1024 * 1024
_REDIRECTS = (301, 302, 303, 307, 308)
_MAX_REDIRECTS = 5
_OUR_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EIO)


def is_node_address(address: str) -> bool:
    """Whether an IP address belongs to the node or its metadata service rather than to a server of data."""
    ip = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address) and ip.ipv4_mapped is not None:
        ip = ip.ipv4_mapped
    return ip.is_loopback or ip.is_link_local or ip.is_unspecified or ip.is_multicast


@dataclass(frozen=True)
class Leash:
    """What fetching may do: bytes of a file, seconds of one wait, which addresses, and whom it trusts."""

    max_bytes: int = 1024**3
    timeout_seconds: float = 60.0
    is_forbidden: Callable[[str], bool] = is_node_address
    tls: ssl.SSLContext = field(default_factory=ssl.create_default_context)


@contextmanager
def opened(source: SourceInput, downloads: Path, leash: Leash | None = None) -> Iterator[BinaryIO]:
    """The content of a source. What was fetched for it is removed afterwards."""
    if source.url is not None:
        path = downloads / hashlib.sha256(source.url.encode()).hexdigest()[:16]
        fetch(source.url, path, leash or Leash())
        try:
            with path.open("rb") as stream:
                yield stream
        finally:
            path.unlink()
        return
    path = Path(source.path or "")
    if not path.is_file():
        what = "a folder, not a file" if path.is_dir() else "not there"
        raise UserMistake(
            "SourceNotFound", f"the dataset {source.uri} is {what}: name a JSON Lines file that the claim holds"
        )
    try:
        stream = path.open("rb")
    except PermissionError as error:
        raise UserMistake(
            "SourceNotReadable", f"the dataset {source.uri} may not be read: make it readable for user 65532"
        ) from error
    with stream:
        yield stream


def shown(uri: str) -> str:
    """A URI fit for messages: without its query, where signed URLs carry their signature."""
    return uri.partition("?")[0]


def fetch(url: str, target: Path, leash: Leash) -> None:
    """Downloads `url` to `target`, which is complete or absent. Raises UserMistake or Unavailable."""
    name = shown(url)
    try:
        for _ in range(_MAX_REDIRECTS + 1):
            moved_to = _fetch_once(url, target, leash, name)
            if moved_to is None:
                return
            url = moved_to
    except ssl.SSLCertVerificationError as error:
        raise UserMistake(
            "SourceNotTrusted", f"the certificate of {name} is not trusted: {error.verify_message}"
        ) from error
    except (OSError, http.client.HTTPException) as error:
        if isinstance(error, OSError) and error.errno in _OUR_DISK:
            raise
        raise Unavailable(
            "SourceUnavailable", f"{name} could not be fetched: {error or type(error).__name__}"
        ) from error
    raise UserMistake("SourceNotFound", f"{name} redirects more than {_MAX_REDIRECTS} times")


def _fetch_once(url: str, target: Path, leash: Leash, name: str) -> str | None:
    """Does one request: the address of a redirect, or None once `target` is written."""
    parts = urlsplit(url)
    if parts.scheme != "https" or not parts.hostname:
        raise UserMistake("SourceNotAllowed", f"{name} leads to {shown(url)}: data is fetched by https only")
    connection = http.client.HTTPSConnection(
        parts.hostname, parts.port or 443, timeout=leash.timeout_seconds, context=leash.tls
    )
    with closing(connection):
        connection.connect()
        if leash.is_forbidden(connection.sock.getpeername()[0]):
            raise UserMistake(
                "SourceNotAllowed", f"{name} leads to an address of the node itself, from which nothing is fetched"
            )
        path = f"{parts.path or '/'}?{parts.query}" if parts.query else parts.path or "/"
        connection.request("GET", path, headers={"Accept-Encoding": "identity", "User-Agent": "anneal"})
        response = connection.getresponse()
        if response.status in _REDIRECTS and (location := response.getheader("Location")):
            return urljoin(url, location)
        _refuse_status(response.status, response.reason, name)
        _copy(response, target, leash.max_bytes, name)
    return None


def _refuse_status(status: int, phrase: str, name: str) -> None:
    if status == http.HTTPStatus.OK:
        return
    if status >= 500 or status in (http.HTTPStatus.REQUEST_TIMEOUT, http.HTTPStatus.TOO_MANY_REQUESTS):
        raise Unavailable("SourceUnavailable", f"{name} answered {status} {phrase}")
    raise UserMistake("SourceNotFound", f"{name} answered {status} {phrase}: check the URL and who may read it")


def _copy(response: http.client.HTTPResponse, target: Path, max_bytes: int, name: str) -> None:
    """Streams the body to `target`. A body shorter than announced raises http.client.IncompleteRead."""
    announced = response.length
    size = 0
    with files.replacing(target) as stream:
        while block := response.read(_BLOCK):
            size += len(block)
            if size > max_bytes:
                raise UserMistake(
                    "SourceTooLarge", f"{name} is larger than {max_bytes} bytes; put it on a claim and use pvc://"
                )
            stream.write(block)
        if announced is not None and size < announced:
            raise http.client.IncompleteRead(b"", announced - size)
