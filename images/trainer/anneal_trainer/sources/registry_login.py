"""Who asks a registry: the accounts of a Secret, and what a registry is answered when it wants to know.

A password goes to the host that the Secret names it for. A registry that sends its clients elsewhere for tokens gets no
password sent there, unless that place is known to belong to it or the Secret has an entry for it as well.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from anneal_trainer.errors import Unavailable, UserMistake
from anneal_trainer.sources.credentials import Credentials

LOGIN_KEY = ".dockerconfigjson"
_MAX_ANSWER_BYTES = 64 * 1024
_TOKEN = re.compile(r"[A-Za-z0-9._~+/=-]+")
_CHALLENGE = re.compile(r"\s*(Basic|Bearer)\s+(.*)", re.IGNORECASE)
_PARAMETER = re.compile(r'([A-Za-z_]+)="([^"]*)"')
#: Registries whose tokens come from another host of the same owner.
_TOKEN_HOSTS = {"registry-1.docker.io": "auth.docker.io", "registry.gitlab.com": "gitlab.com"}
#: What `docker login` calls Docker's registry in its file.
_DOCKER_HUB = "registry-1.docker.io"
_DOCKER_HUB_NAMES = ("index.docker.io", "docker.io")


@dataclass(frozen=True)
class Account:
    """A user of one host. The password stays out of every representation."""

    user: str
    password: str = field(repr=False)

    @property
    def basic(self) -> str:
        """The value of an Authorization header."""
        return "Basic " + base64.b64encode(f"{self.user}:{self.password}".encode()).decode()


@dataclass(frozen=True)
class Login:
    """How one registry is logged in to."""

    endpoint: str
    """URL of the registry."""
    repository: str
    credentials: Credentials
    actions: str = "pull"
    """What tokens are for: pull, or pull,push from the start, since some registries deny that a new repository is."""

    def authorization(self, challenges: list[str], client: Any) -> str | None:
        """The value of an Authorization header that answers a refusal; None when there is nothing more to say.

        Args:
            challenges: the values of WWW-Authenticate.
            client: an HTTP client that follows no redirects.

        Raises UserMistake and Unavailable.
        """
        found = {m[1].lower(): dict(_PARAMETER.findall(m[2])) for m in map(_CHALLENGE.match, challenges) if m}
        host = urlsplit(self.endpoint).netloc
        if "bearer" in found:
            return self._token(found["bearer"], client)
        account = self._account(host)
        return account.basic if "basic" in found and account else None

    def _token(self, challenge: dict[str, str], client: Any) -> str | None:
        realm = challenge.get("realm", "")
        account = self._account_for_tokens(realm)
        asked = {name: challenge[name] for name in ("service", "scope") if name in challenge}
        if asked.get("scope") == f"repository:{self.repository}:pull":
            asked["scope"] = f"repository:{self.repository}:{self.actions}"
        headers = {"Authorization": account.basic} if account else {}
        with client.stream("GET", realm, params=asked, headers=headers) as response:
            if response.status_code in (400, 401, 403):
                return None
            content = bounded(response.iter_raw(), _MAX_ANSWER_BYTES)
        try:
            document = json.loads(content or b"")
            token = document.get("token") or document.get("access_token")
        except (ValueError, AttributeError):
            token = None
        if response.status_code != 200 or not isinstance(token, str) or not _TOKEN.fullmatch(token):
            raise Unavailable(
                "SourceUnavailable", f"{realm} answered {response.status_code} without a token for {self.endpoint}"
            )
        return f"Bearer {token}"

    def _account_for_tokens(self, realm: str) -> Account | None:
        """Whose password goes to `realm`; None: tokens are asked for as nobody. Raises UserMistake."""
        ours, theirs = urlsplit(self.endpoint), urlsplit(realm)
        at_home = (theirs.scheme, theirs.netloc) == (ours.scheme, ours.netloc)
        if not theirs.hostname or not (at_home or theirs.scheme == "https"):
            raise UserMistake(
                "SourceNotAllowed",
                f"{self.endpoint} sends its clients to '{realm}' for tokens, which is not encrypted: use a registry"
                " with https",
            )
        account = self._account(ours.netloc)
        if account is None or at_home or _TOKEN_HOSTS.get(ours.netloc) == theirs.netloc:
            return account
        elsewhere = self._entry(theirs.netloc)
        if elsewhere is None:
            raise UserMistake(
                "SourceNotAllowed",
                f"{self.endpoint} sends its clients to {theirs.netloc} for tokens: if the password may go there, add an"
                f" entry for {theirs.netloc} to {LOGIN_KEY} of Secret '{self.credentials.secret}'",
            )
        return elsewhere

    def _account(self, host: str) -> Account | None:
        """The account at the registry; None without a Secret, or with one that has an authority alone."""
        self.credentials.need(LOGIN_KEY)
        if self.credentials.get(LOGIN_KEY) is None:
            return None
        account = self._entry(host)
        if account is None:
            raise UserMistake(
                "SecretUnusable",
                f"{LOGIN_KEY} of Secret '{self.credentials.secret}' has no entry for {host}; it has"
                f" {', '.join(sorted(self._entries())) or 'none at all'}: add one",
            )
        return account

    def _entry(self, host: str) -> Account | None:
        """The entry for a host, or for the longest beginning of the repository there."""
        names = (host, *_DOCKER_HUB_NAMES) if host == _DOCKER_HUB else (host,)
        asked = [f"{name}/{self.repository}/" for name in names]
        fitting = [name for name in self._entries() if any(a.startswith(f"{_plain(name)}/") for a in asked)]
        if not fitting:
            return None
        name = max(fitting, key=lambda n: len(_plain(n)))
        return self._parsed(name, self._entries()[name])

    def _entries(self) -> dict[str, Any]:
        try:
            entries = json.loads(self.credentials.get(LOGIN_KEY) or "{}").get("auths", {})
        except (ValueError, AttributeError):
            entries = None
        if not isinstance(entries, dict):
            raise UserMistake(
                "SecretUnusable",
                f"{LOGIN_KEY} of Secret '{self.credentials.secret}' is not JSON with 'auths': make it with kubectl"
                " create secret docker-registry",
            )
        return entries

    def _parsed(self, name: str, entry: Any) -> Account:
        entry = entry if isinstance(entry, dict) else {}
        user, password = entry.get("username"), entry.get("password")
        try:
            if not user and entry.get("auth"):
                user, _, password = base64.b64decode(entry["auth"], validate=True).decode().partition(":")
        except (binascii.Error, UnicodeDecodeError, TypeError):
            user = None
        if not isinstance(user, str) or not isinstance(password, str) or not user or not password:
            raise UserMistake(
                "SecretUnusable",
                f"the entry for {name} in {LOGIN_KEY} of Secret '{self.credentials.secret}' has no username and"
                " password: logins by other programs and identity tokens cannot be used from a pod",
            )
        return Account(user, password)


def bounded(blocks: Any, limit: int) -> bytes | None:
    """The blocks as one, read no further than `limit` bytes; None when there are more."""
    content = b""
    for block in blocks:
        content += block
        if len(content) > limit:
            return None
    return content


def _plain(name: str) -> str:
    """A key of `auths` without scheme and version: `https://index.docker.io/v1/` is index.docker.io."""
    return re.sub(r"/v[12]/?$", "", name.removeprefix("https://").removeprefix("http://")).rstrip("/")
