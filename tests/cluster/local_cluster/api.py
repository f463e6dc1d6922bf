"""The few calls to the API server that bring a cluster up: no client library exists yet at that moment."""

from __future__ import annotations

import json
import ssl
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from local_cluster.errors import ClusterError


@dataclass(frozen=True)
class Api:
    """One user's access to one API server."""

    server: str
    authority: Path
    token: str

    def ready(self) -> bool:
        """Whether `/readyz` answers ok."""
        try:
            return self._send("GET", "/readyz", None, "") == b"ok"
        except (OSError, ClusterError):
            return False

    def get(self, path: str) -> dict[str, Any] | None:
        """The object at `path`, or None when it does not exist."""
        try:
            return self._json("GET", path, None, "")
        except urllib.error.HTTPError as error:
            if error.code == 404:
                return None
            raise _sentence(error) from error

    def create(self, path: str, body: dict[str, Any]) -> None:
        """Create an object in the collection `path`; one that exists already stays as it is."""
        try:
            self._json("POST", path, body, "application/json")
        except urllib.error.HTTPError as error:
            if error.code != 409:
                raise _sentence(error) from error

    def merge(self, path: str, body: dict[str, Any]) -> None:
        """Change the object at `path` by a JSON merge patch."""
        try:
            self._json("PATCH", path, body, "application/merge-patch+json")
        except urllib.error.HTTPError as error:
            raise _sentence(error) from error

    def _json(self, method: str, path: str, body: dict[str, Any] | None, content: str) -> dict[str, Any]:
        parsed: dict[str, Any] = json.loads(self._send(method, path, body, content))
        return parsed

    def _send(self, method: str, path: str, body: dict[str, Any] | None, content: str) -> bytes:
        request = urllib.request.Request(
            self.server + path,
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"Authorization": f"Bearer {self.token}", **({"Content-Type": content} if content else {})},
        )
        # No proxy of the machine's environment may stand between a cluster and its own host.
        opener = urllib.request.build_opener(
            urllib.request.ProxyHandler({}),
            urllib.request.HTTPSHandler(context=ssl.create_default_context(cafile=str(self.authority))),
        )
        with opener.open(request, timeout=10) as answer:
            answered: bytes = answer.read()
        return answered


def _sentence(error: urllib.error.HTTPError) -> ClusterError:
    return ClusterError(f"{error.url} answers {error.code}: {error.read().decode(errors='replace')[:400]}")
