"""`https://`: one file from a web server. HTTPS only, redirects only to HTTPS, a limit on size and on every wait."""

from __future__ import annotations

import errno
import http.client
import ssl
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urljoin, urlsplit

from anneal_trainer import files
from anneal_trainer.errors import Unavailable, UserMistake
from anneal_trainer.sources.leash import ForbiddenAddress, Leash
from anneal_trainer.sources.place import RemoteFile, shown

_BLOCK = 1024 * 1024
_REDIRECTS = (301, 302, 303, 307, 308)
_MAX_REDIRECTS = 5
_OUR_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EIO)


@dataclass(frozen=True)
class Page:
    """One file on a web server."""

    url: str
    leash: Leash = field(default_factory=Leash)
    tls: ssl.SSLContext = field(default_factory=ssl.create_default_context)
    revision: None = None

    def files(self) -> list[RemoteFile]:
        """The file, of which nothing is known before it is fetched."""
        return [RemoteFile(urlsplit(self.url).path.rpartition("/")[2])]

    def fetch(self, file: RemoteFile, target: Path) -> None:
        """Downloads to `target`, which is complete or absent. Raises UserMistake or Unavailable."""
        del file
        url, name = self.url, shown(self.url)
        try:
            with self.leash.held():
                for _ in range(_MAX_REDIRECTS + 1):
                    moved_to = self._fetch_once(url, target, name)
                    if moved_to is None:
                        return
                    url = moved_to
        except ForbiddenAddress as error:
            raise UserMistake(error.reason, f"{name}: {error.message}") from error
        except ssl.SSLCertVerificationError as error:
            raise UserMistake(
                "SourceNotTrusted",
                f"the certificate of {name} is not trusted: {error.verify_message}; put its authority into key ca.crt"
                " of the source's Secret",
            ) from error
        except (OSError, http.client.HTTPException) as error:
            if isinstance(error, OSError) and error.errno in _OUR_DISK:
                raise
            raise Unavailable(
                "SourceUnavailable", f"{name} could not be fetched: {error or type(error).__name__}"
            ) from error
        raise UserMistake("SourceNotFound", f"{name} redirects more than {_MAX_REDIRECTS} times")

    def _fetch_once(self, url: str, target: Path, name: str) -> str | None:
        """Does one request: the address of a redirect, or None once `target` is written."""
        parts = urlsplit(url)
        if parts.scheme != "https" or not parts.hostname:
            raise UserMistake("SourceNotAllowed", f"{name} leads to {shown(url)}: data is fetched by https only")
        connection = http.client.HTTPSConnection(
            parts.hostname, parts.port or 443, timeout=self.leash.timeout_seconds, context=self.tls
        )
        with closing(connection):
            path = f"{parts.path or '/'}?{parts.query}" if parts.query else parts.path or "/"
            connection.request("GET", path, headers={"Accept-Encoding": "identity", "User-Agent": "anneal"})
            response = connection.getresponse()
            if response.status in _REDIRECTS and (location := response.getheader("Location")):
                return urljoin(url, location)
            refuse_status(response.status, response.reason, name)
            _copy(response, target, self.leash.max_bytes, name)
        return None


def refuse_status(status: int, phrase: str, name: str) -> None:
    """Raises UserMistake or Unavailable unless the status is 200."""
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
