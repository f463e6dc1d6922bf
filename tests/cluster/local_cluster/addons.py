"""What a plain control plane lacks and every real cluster has: DNS names and dynamic volumes."""

from __future__ import annotations

import http.client
from typing import Any

from local_cluster import network
from local_cluster.api import Api
from local_cluster.layout import Layout
from local_cluster.network import Uplink
from local_cluster.pki import DNS, VOLUMES

STORAGE_CLASS = "standard"
_DNS_READY_PORT = 8181

_COREFILE = """
cluster.local:53 in-addr.arpa:53 {{
    bind {address}
    errors
    ready {ready}
    kubernetes cluster.local in-addr.arpa {{
        kubeconfig {kubeconfig} {context}
        pods insecure
        ttl 5
    }}
    cache 5
}}
"""


def dns(layout: Layout, uplink: Uplink) -> list[str]:
    """Write the Corefile and give CoreDNS's command line. It knows the cluster's names and no others."""
    corefile = layout.state / "Corefile"
    corefile.write_text(
        _COREFILE.format(
            address=network.BRIDGE_ADDRESS,
            ready=f"{uplink.node_address}:{_DNS_READY_PORT}",
            kubeconfig=layout.kubeconfig(DNS.name),
            context=f"anneal-{layout.name}",
        )
    )
    return ["coredns", f"--conf={corefile}"]


def volume_provisioner(layout: Layout) -> list[str]:
    """Make the folder of volumes and give the command line of their provisioner."""
    layout.volumes.mkdir(exist_ok=True)
    return ["volume-provisioner", f"--kubeconfig={layout.kubeconfig(VOLUMES.name)}", f"--root={layout.volumes}"]


def create_storage_class(api: Api) -> None:
    """Make the default StorageClass, served by the volume provisioner."""
    storage_class: dict[str, Any] = {
        "apiVersion": "storage.k8s.io/v1",
        "kind": "StorageClass",
        "metadata": {"name": STORAGE_CLASS, "annotations": {"storageclass.kubernetes.io/is-default-class": "true"}},
        "provisioner": "cluster.anneal.dev/folder",
        "reclaimPolicy": "Delete",
        "volumeBindingMode": "WaitForFirstConsumer",
    }
    api.create("/apis/storage.k8s.io/v1/storageclasses", storage_class)


def dns_is_ready(uplink: Uplink) -> bool:
    """Whether CoreDNS knows the cluster's Services."""
    connection = http.client.HTTPConnection(uplink.node_address, _DNS_READY_PORT, timeout=2)
    try:
        connection.request("GET", "/ready")
        return connection.getresponse().status == http.HTTPStatus.OK
    except OSError:
        return False
    finally:
        connection.close()
