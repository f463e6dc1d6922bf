"""A repository of a container registry, by the OCI distribution protocol: manifests and blobs, there and back.

Everything is named by its sha256, so what is read is hashed on the way and refused when it is something else, and what
is there already is not written again. Nothing is read further than it may be long. A login goes to the registry alone:
where it leads for content, to a storage service by a signed URL, the request goes without.
"""

from __future__ import annotations

import hashlib
import json
import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import urljoin, urlsplit

from anneal.api.artifacts import digest_of_bytes
from anneal.api.references import OciLocation
from anneal_trainer.errors import Unavailable, UserMistake
from anneal_trainer.sources.credentials import Credentials
from anneal_trainer.sources.leash import ForbiddenAddress, Leash
from anneal_trainer.sources.registry_login import Login, bounded

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
_DOCKER = "application/vnd.docker.distribution.manifest"
MANIFESTS = (MANIFEST, f"{_DOCKER}.v2+json")
INDEXES = (INDEX, f"{_DOCKER}.list.v2+json")
_MAX_MANIFEST_BYTES = 4 * 1024 * 1024
_MAX_COMPLAINT_BYTES = 16 * 1024
_MAX_REDIRECTS = 5
#: A registry checks and moves a blob that it was sent before it answers.
_COMMIT_SECONDS = 900.0
_DOCKER_HUB = "registry-1.docker.io"
_HOSTS = {"docker.io": _DOCKER_HUB, "index.docker.io": _DOCKER_HUB}

Body = Callable[[], Iterator[bytes]]
Deed = Literal["Source", "Output"]


@dataclass(frozen=True)
class Document:
    """A manifest or an index, as it was sent."""

    content: bytes
    media_type: str

    @property
    def digest(self) -> str:
        return digest_of_bytes(self.content)


class Registry:
    """One repository, for as long as it is open. All methods raise UserMistake or Unavailable."""

    def __init__(self, where: OciLocation, deed: Deed, login: Login, client: Any) -> None:
        self._where, self._deed, self._login, self._client = where, deed, login, client
        self._base = f"{login.endpoint}/v2/{login.repository}"
        self._authorization: str | None = None

    def find(self, reference: str) -> Document | None:
        """The manifest or index of that tag or digest; None when there is none."""
        accept = {"Accept": ", ".join((*MANIFESTS, *INDEXES))}
        with self._asked("GET", f"{self._base}/manifests/{reference}", headers=accept) as response:
            if response.status_code == 404:
                return None
            self._expect(response, 200)
            content = bounded(response.iter_raw(), _MAX_MANIFEST_BYTES)
            media_type = response.headers.get("Content-Type", "").partition(";")[0]
        if content is None:
            raise UserMistake(
                f"{self._deed}NotAllowed", f"the manifest of {self._name} is larger than {_MAX_MANIFEST_BYTES} bytes"
            )
        found = Document(content, media_type)
        if reference.startswith("sha256:") and found.digest != reference:
            raise Unavailable(f"{self._deed}Unavailable", f"{self._name} sent {found.digest} for {reference}")
        return found

    def blob(self, digest: str, size: int) -> Iterator[bytes]:
        """The content of a blob in blocks; when the last one was taken, it was what its digest says."""
        hasher, left = hashlib.sha256(), size
        with self._asked("GET", f"{self._base}/blobs/{digest}") as response:
            self._expect(response, 200)
            for block in response.iter_raw():
                left -= len(block)
                if left < 0:
                    break
                hasher.update(block)
                yield block
        if left != 0 or f"sha256:{hasher.hexdigest()}" != digest:
            raise Unavailable(f"{self._deed}Unavailable", f"blob {digest} of {self._name} arrived damaged")

    def put_blob(self, digest: str, size: int, body: Body) -> None:
        """Writes a blob that is not there; what was interrupted before was never kept, and is written anew."""
        with self._asked("HEAD", f"{self._base}/blobs/{digest}") as response:
            if response.status_code == 200:
                return
            self._expect(response, 404)
        with self._asked("POST", f"{self._base}/blobs/uploads/", headers={"Content-Length": "0"}) as response:
            self._expect(response, 202)
            place = urljoin(str(response.url), response.headers.get("Location", ""))
        place += ("&" if urlsplit(place).query else "?") + f"digest={digest}"
        headers = {"Content-Type": "application/octet-stream", "Content-Length": str(size)}
        with self._asked("PUT", place, headers=headers, body=body) as response:
            self._expect(response, 201)

    def put_document(self, document: Document, reference: str) -> None:
        """Writes a manifest or an index under a tag or under its digest. Everything that it names must be there."""
        headers = {"Content-Type": document.media_type, "Content-Length": str(len(document.content))}
        url = f"{self._base}/manifests/{reference}"
        with self._asked("PUT", url, headers=headers, body=lambda: iter((document.content,))) as response:
            self._expect(response, 201)

    @contextmanager
    def _asked(
        self, method: str, url: str, headers: dict[str, str] | None = None, body: Body | None = None
    ) -> Iterator[Any]:
        """The answer to a request: logged in where the registry wants it, and followed to where it leads."""
        logins = 0
        for _ in range(_MAX_REDIRECTS + 2):
            with self._sent(method, url, headers or {}, body) as response:
                if response.status_code == 401 and logins == 0 and self._is_home(url):
                    logins += 1
                    challenges = response.headers.get_list("WWW-Authenticate")
                    self._authorization = self._login.authorization(challenges, self._client)
                    if self._authorization is not None:
                        continue
                if response.is_redirect and method in ("GET", "HEAD"):
                    url = urljoin(url, response.headers.get("Location", ""))
                    continue
                yield response
                return
        raise Unavailable(f"{self._deed}Unavailable", f"{self._name} redirects more than {_MAX_REDIRECTS} times")

    @contextmanager
    def _sent(self, method: str, url: str, headers: dict[str, str], body: Body | None) -> Iterator[Any]:
        import httpx2

        own = {"Authorization": self._authorization} if self._authorization and self._is_home(url) else {}
        timeout = httpx2.Timeout(self._client.timeout)
        if body is not None:
            timeout.read = _COMMIT_SECONDS
        request = self._client.stream(
            method, self._checked(url), headers=headers | own, content=body() if body else None, timeout=timeout
        )
        with request as response:
            yield response

    def _is_home(self, url: str) -> bool:
        ours, theirs = urlsplit(self._login.endpoint), urlsplit(url)
        return (ours.scheme, ours.netloc) == (theirs.scheme, theirs.netloc)

    def _checked(self, url: str) -> str:
        if urlsplit(url).scheme != "https" and not self._is_home(url):
            raise UserMistake(
                f"{self._deed}NotAllowed", f"{self._name} leads to {urlsplit(url).netloc} without encryption"
            )
        return url

    @property
    def _name(self) -> str:
        return named(self._where, self._login.endpoint)

    def _expect(self, response: Any, status: int) -> None:
        """Raises what another status means."""
        found = response.status_code
        if found == status:
            return
        said = _complaint(bounded(response.iter_raw(), _MAX_COMPLAINT_BYTES))
        if found in (401, 403):
            secret = self._login.credentials.secret
            who = f"with the login of Secret '{secret}'" if secret else "by anybody (secretRef)"
            reason, deed = ("SourceNotReadable", "read") if self._deed == "Source" else ("OutputNotWritable", "written")
            raise UserMistake(reason, f"{self._name} may not be {deed} {who}{said}: check name, user and rights")
        if found == 404:
            raise UserMistake(f"{self._deed}NotFound", f"there is nothing at {self._name}{said}: check the name")
        raise Unavailable(f"{self._deed}Unavailable", f"{self._name} answered {found}{said}")


@contextmanager
def connected(
    where: OciLocation, endpoint: str | None, credentials: Credentials, leash: Leash, deed: Deed
) -> Iterator[Registry]:
    """The repository at `endpoint`, or at the host that its name says; its errors become ours."""
    import httpx2

    endpoint, repository = home(where, endpoint)
    login = Login(endpoint, repository, credentials, "pull" if deed == "Source" else "pull,push")
    headers = {"Accept-Encoding": "identity", "User-Agent": "anneal"}
    try:
        with (
            leash.held(),
            httpx2.Client(
                verify=credentials.tls(), timeout=leash.timeout_seconds, headers=headers, trust_env=False
            ) as client,
        ):
            yield Registry(where, deed, login, client)
    except ForbiddenAddress as error:
        raise UserMistake(error.reason, f"{named(where, endpoint)}: {error.message}") from error
    except (httpx2.HTTPError, httpx2.InvalidURL) as error:
        raise _ours(error, named(where, endpoint), deed) from error


def home(where: OciLocation, endpoint: str | None) -> tuple[str, str]:
    """URL of the registry, and the name of the repository there: Docker's has another address than its name says."""
    host = _HOSTS.get(where.registry, where.registry)
    official = host == _DOCKER_HUB and "/" not in where.repository
    repository = f"library/{where.repository}" if official else where.repository
    return (endpoint or f"https://{host}").rstrip("/"), repository


def named(where: OciLocation, endpoint: str) -> str:
    """An image in messages: with the URL of its registry where its name does not say it."""
    return where.uri if urlsplit(endpoint).netloc == where.registry else f"{where.uri} at {endpoint}"


def _ours(error: Exception, name: str, deed: Deed) -> UserMistake | Unavailable:
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, ssl.SSLCertVerificationError):
        cause = cause.__cause__ or cause.__context__
    if cause is not None:
        return UserMistake(
            f"{deed}NotTrusted",
            f"the certificate of {name} is not trusted: {cause.verify_message}; put its authority into key ca.crt of"
            " the Secret",
        )
    return Unavailable(f"{deed}Unavailable", f"{name} could not be reached: {error or type(error).__name__}")


def _complaint(content: bytes | None) -> str:
    """What the registry says of it, in brackets; empty where that is nothing."""
    try:
        message = str(json.loads(content or b"")["errors"][0]["message"])
    except (ValueError, KeyError, IndexError, TypeError):
        return ""
    return f" ({message[:200]})"
