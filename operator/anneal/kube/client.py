"""The real API server. The only module that knows how it is spoken to; every fault leaves it as one of `kube.errors`.

`kubernetes.aio` brings the configuration (kubeconfig, service account, token renewal, TLS) and the HTTP session; its
models are passed by, because a generic loop works on plain JSON and decoding costs more than the request.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import aiohttp
from kubernetes.aio.client import Configuration
from kubernetes.aio.client.rest import RESTClientObject
from kubernetes.aio.config import ConfigException, load_incluster_config, load_kube_config

from anneal.kube.errors import ConflictError, KubeError, NotFoundError, RefusedError, UnavailableError
from anneal.kube.interface import Object
from anneal.kube.resources import resource_of

_log = logging.getLogger(__name__)

USER_AGENT = "anneal-operator"
#: Requests in flight at once; priority and fairness in the API server does the rest.
MAX_CONNECTIONS = 32
PAGE_SIZE = 500
TIMEOUT = aiohttp.ClientTimeout(total=30, sock_connect=5)

#: Told of every request: its verb, the kind of the object, the HTTP status (0: no answer).
RequestObserver = Callable[[str, str, int], None]


@dataclass(frozen=True)
class Credentials:
    """How to reach the API server, for a client that opens its own connections."""

    server: str
    authorization: str | None
    ca_file: str | None
    certificate_file: str | None
    key_file: str | None
    verify: bool


class Client:
    """A `Cluster` over HTTPS."""

    def __init__(self, configuration: Configuration, on_request: RequestObserver = lambda *_: None) -> None:
        configuration.connection_pool_maxsize = MAX_CONNECTIONS
        self._configuration = configuration
        self._http = RESTClientObject(configuration)
        self._on_request = on_request

    async def close(self) -> None:
        """Close the connections."""
        await self._http.close()

    async def credentials(self) -> Credentials:
        """What this client connects with, as it is now."""
        c = self._configuration
        return Credentials(c.host, await self._authorization(), c.ssl_ca_cert, c.cert_file, c.key_file, c.verify_ssl)

    async def get(self, api_version: str, kind: str, namespace: str, name: str) -> Object | None:
        try:
            return await self._request("get", kind, resource_of(kind).path(namespace, name))
        except NotFoundError:
            return None

    async def list(
        self, api_version: str, kind: str, namespace: str | None, labels: Mapping[str, str] | None = None
    ) -> list[Object]:
        selector = ",".join(f"{name}={value}" for name, value in (labels or {}).items())
        query = {"limit": str(PAGE_SIZE)} | ({"labelSelector": selector} if selector else {})
        found: list[Object] = []
        while True:
            page = await self._request("list", kind, resource_of(kind).path(namespace), query)
            # Items of a list come without what they have in common.
            found += ({"apiVersion": api_version, "kind": kind, **item} for item in page["items"])
            query["continue"] = page["metadata"].get("continue", "")
            if not query["continue"]:
                return found

    async def apply(self, obj: Object, *, manager: str, subresource: str | None = None) -> Object:
        kind, metadata = obj["kind"], obj["metadata"]
        path = resource_of(kind).path(metadata.get("namespace"), metadata["name"], subresource)
        return await self._request("apply", kind, path, {"fieldManager": manager, "force": "true"}, obj)

    async def delete(self, api_version: str, kind: str, namespace: str, name: str, uid: str) -> None:
        options = {
            "apiVersion": "v1",
            "kind": "DeleteOptions",
            "preconditions": {"uid": uid},
            "propagationPolicy": "Background",
        }
        try:
            await self._request("delete", kind, resource_of(kind).path(namespace, name), body=options)
        except (NotFoundError, ConflictError):
            _log.debug("%s %s/%s with uid %s is gone already", kind, namespace, name, uid)

    async def create(self, obj: Object) -> Object:
        path = resource_of(obj["kind"]).path(obj["metadata"].get("namespace"))
        return await self._request("create", obj["kind"], path, {"fieldManager": USER_AGENT}, obj)

    async def _request(
        self,
        verb: str,
        kind: str,
        path: str,
        query: Mapping[str, str] | None = None,
        body: Mapping[str, Any] | None = None,
    ) -> dict[str, Any]:
        """One request and its JSON answer. Raises KubeError only."""
        status = 0
        try:
            headers = {"User-Agent": USER_AGENT, "Accept": "application/json", "Content-Type": _CONTENT_TYPE[verb]}
            authorization = await self._authorization()
            if authorization:
                headers["Authorization"] = authorization
            url = self._configuration.host + path + (f"?{urlencode(query)}" if query else "")
            response = await self._http.request(
                _METHOD[verb], url, headers=headers, body=body, _request_timeout=TIMEOUT
            )
            content, status = await response.read(), response.status
            answer = json.loads(content) if status < HTTPStatus.BAD_REQUEST else None
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError, ConfigException) as error:
            what = f"{type(error).__name__}: {error}".removesuffix(": ")
            raise UnavailableError(f"the API server did not answer '{verb} {kind}' ({what})") from error
        finally:
            self._on_request(verb, kind, status)
        if answer is None:
            raise error_of(status, content, response.getheader("Retry-After"))
        return dict(answer)

    async def _authorization(self) -> str | None:
        """The Authorization header. Within a cluster the token file is read again every minute."""
        settings = await self._configuration.auth_settings()
        return settings["BearerToken"]["value"] if "BearerToken" in settings else None


_METHOD = {"get": "GET", "list": "GET", "apply": "PATCH", "delete": "DELETE", "create": "POST"}
_CONTENT_TYPE = dict.fromkeys(_METHOD, "application/json") | {"apply": "application/apply-patch+yaml"}
_REFUSED = frozenset(
    {
        HTTPStatus.BAD_REQUEST,
        HTTPStatus.FORBIDDEN,
        HTTPStatus.METHOD_NOT_ALLOWED,
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
        HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
        HTTPStatus.UNPROCESSABLE_ENTITY,
    }
)


def error_of(status: int, content: bytes, retry_after: str | None = None) -> KubeError:
    """Our error for an answer of the API server, with the server's own sentence."""
    try:
        message = str(json.loads(content)["message"])
    except (ValueError, KeyError, TypeError):
        message = content.decode(errors="replace").strip()[:300] or f"HTTP status {status}"
    if status == HTTPStatus.NOT_FOUND:
        return NotFoundError(message)
    if status == HTTPStatus.CONFLICT:
        return ConflictError(message)
    if status in _REFUSED:
        return RefusedError(message)
    # Everything else may pass: too many requests, a restart, a token that is about to be renewed, an expired page.
    advice = float(retry_after) if retry_after and retry_after.isdigit() else None
    return UnavailableError(f"{message} (HTTP status {status})", advice)


async def connect(kubeconfig: Path | None, on_request: RequestObserver = lambda *_: None) -> Client:
    """A client for the cluster of this file or, without one, of the pod that this process runs in.

    Raises UnavailableError, in a sentence, when neither tells how to reach an API server.
    """
    configuration = Configuration()
    try:
        if kubeconfig is None:
            load_incluster_config(client_configuration=configuration)
        else:
            await load_kube_config(str(kubeconfig), client_configuration=configuration, persist_config=False)
    except (ConfigException, OSError) as error:
        where = f"the kubeconfig '{kubeconfig}'" if kubeconfig else "the service account of this pod"
        raise UnavailableError(
            f"{where} does not tell how to reach an API server ({error}); outside a cluster, set ANNEAL_KUBECONFIG"
        ) from error
    return Client(configuration, on_request)
