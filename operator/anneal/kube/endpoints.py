"""How pods reach the leader, and only the leader: the EndpointSlice of a Service without selector."""

from __future__ import annotations

from ipaddress import ip_address
from typing import Any

from anneal.kube.interface import Cluster

API_VERSION = "discovery.k8s.io/v1"
MANAGER = "anneal-leader"


async def lead_here(cluster: Cluster, *, service: str, namespace: str, address: str, port: int) -> None:
    """Make `service` lead to this one address, if it does not yet. Raises KubeError."""
    wanted = endpoint_slice(service=service, namespace=namespace, address=address, port=port)
    live = await cluster.get(API_VERSION, "EndpointSlice", namespace, service)
    if live is None or any(live.get(field) != wanted[field] for field in ("endpoints", "ports")):
        await cluster.apply(wanted, manager=MANAGER)


def endpoint_slice(*, service: str, namespace: str, address: str, port: int) -> dict[str, Any]:
    """The slice that makes `service` lead to this one address."""
    version = ip_address(address).version
    return {
        "apiVersion": API_VERSION,
        "kind": "EndpointSlice",
        "metadata": {
            "name": service,
            "namespace": namespace,
            "labels": {
                "kubernetes.io/service-name": service,
                "endpointslice.kubernetes.io/managed-by": "anneal-operator",
            },
        },
        "addressType": f"IPv{version}",
        "endpoints": [{"addresses": [address], "conditions": {"ready": True}}],
        "ports": [{"name": "https", "port": port, "protocol": "TCP"}],
    }
