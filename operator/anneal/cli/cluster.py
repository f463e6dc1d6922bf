"""The few reads that the command line needs, through the ordinary synchronous client."""

from __future__ import annotations

import json
from typing import Any

from kubernetes import client, config
from kubernetes.client.exceptions import ApiException

from anneal.api import GROUP, VERSION
from anneal.api.kinds import KINDS


class Unreachable(Exception):  # noqa: N818 - a sentence for the user, not a fault
    """What was asked for could not be had; the message says why."""


class Reader:
    """Reads Anneal's objects with the user's own kubeconfig."""

    def __init__(self, kubeconfig: str | None) -> None:
        try:
            self._api = config.new_client_from_config(kubeconfig)
        except config.ConfigException as error:
            raise Unreachable(f"no usable kubeconfig: {error}") from error
        self._objects = client.CustomObjectsApi(self._api)

    def chain(self, namespace: str) -> list[dict[str, Any]]:
        """All FineTuneJobs, Evaluations and ModelDeployments of a namespace, each with its kind."""
        found: list[dict[str, Any]] = []
        for kind in KINDS:
            items = self._objects.list_namespaced_custom_object(GROUP, VERSION, namespace, kind.plural)["items"]
            found += [{**item, "kind": kind.kind} for item in items]
        return found

    def deployment(self, namespace: str, name: str) -> dict[str, Any]:
        """One ModelDeployment. Raises Unreachable when there is none of that name."""
        try:
            found: dict[str, Any] = self._objects.get_namespaced_custom_object(
                GROUP, VERSION, namespace, "modeldeployments", name
            )
        except ApiException as error:
            raise Unreachable(f"ModelDeployment {name} in namespace {namespace}: {error.reason}") from error
        return found

    def post_to_service(self, namespace: str, service: str, port: int, path: str, body: Any) -> Any:
        """POST JSON to a Service through the API server's proxy, so that no route into the cluster is needed."""
        resource = f"/api/v1/namespaces/{namespace}/services/http:{service}:{port}/proxy{path}"
        headers = {"Content-Type": "application/json", "Accept": "application/json"}
        request = self._api.param_serialize(
            "POST", resource, header_params=headers, body=body, auth_settings=["BearerToken"]
        )
        response = self._api.call_api(*request, _request_timeout=120)
        text = response.read().decode(errors="replace")
        if response.status >= 300:
            raise Unreachable(f"service {service} answered {response.status}: {text[:300]}")
        return json.loads(text)
