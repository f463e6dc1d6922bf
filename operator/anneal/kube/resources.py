"""Where the objects that the operator reads or writes live in the REST API.

A table instead of discovery: these are all that the operator's role grants, so an unknown kind here is a mistake in
the program and fails before it reaches the API server.
"""

from __future__ import annotations

from typing import NamedTuple

from anneal.api.kinds import KINDS


class Resource(NamedTuple):
    """One kind of object and how its URL is spelt."""

    api_version: str
    kind: str
    plural: str
    namespaced: bool = True

    @property
    def group(self) -> str:
        """API group, empty for the core one."""
        group, slash, _ = self.api_version.partition("/")
        return group if slash else ""

    @property
    def version(self) -> str:
        return self.api_version.rpartition("/")[2]

    def path(self, namespace: str | None = None, name: str | None = None, subresource: str | None = None) -> str:
        """URL path of the collection, or of one object in it."""
        prefix = "/apis" if "/" in self.api_version else "/api"
        within = f"/namespaces/{namespace}" if self.namespaced and namespace else ""
        tail = "".join(f"/{part}" for part in (name, subresource) if part)
        return f"{prefix}/{self.api_version}{within}/{self.plural}{tail}"


RESOURCES: tuple[Resource, ...] = (
    *(Resource(info.api_version, info.kind, info.plural) for info in KINDS),
    Resource("v1", "ConfigMap", "configmaps"),
    Resource("v1", "PersistentVolumeClaim", "persistentvolumeclaims"),
    Resource("v1", "Pod", "pods"),
    Resource("v1", "Service", "services"),
    Resource("apps/v1", "Deployment", "deployments"),
    Resource("batch/v1", "Job", "jobs"),
    Resource("events.k8s.io/v1", "Event", "events"),
    Resource("coordination.k8s.io/v1", "Lease", "leases"),
    Resource("discovery.k8s.io/v1", "EndpointSlice", "endpointslices"),
    Resource("authentication.k8s.io/v1", "TokenReview", "tokenreviews", namespaced=False),
)
_BY_KIND = {resource.kind: resource for resource in RESOURCES}


def resource_of(kind: str) -> Resource:
    """The resource of a kind. Kinds are unique here without their group. Raises LookupError for one that is missing."""
    try:
        return _BY_KIND[kind]
    except KeyError:
        raise LookupError(f"kind '{kind}' is not in the table of anneal.kube.resources") from None
