"""etcd, API server, controller-manager and scheduler: their files and command lines."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from pathlib import Path

from local_cluster import pki
from local_cluster.layout import Layout
from local_cluster.network import API_PORT, API_SERVICE_ADDRESS, SERVICE_RANGE, Uplink

_SERVER_NAMES = (
    "localhost",
    "kubernetes",
    "kubernetes.default",
    "kubernetes.default.svc",
    "kubernetes.default.svc.cluster.local",
)
_ETCD = "http://127.0.0.1:2379"


def write_files(layout: Layout, uplink: Uplink, users: Mapping[str, str]) -> None:
    """Write the audit policy and one kubeconfig a user; the certificates must be there already.

    Args:
        layout: where.
        uplink: gives the address in the kubeconfigs, good from the host and from inside.
        users: token by user name.
    """
    # Metadata names the user, the verb and the object of each request, and what was decided: all that tests count.
    policy = {
        "apiVersion": "audit.k8s.io/v1",
        "kind": "Policy",
        "omitStages": ["RequestReceived"],
        "rules": [{"level": "Metadata"}],
    }
    (layout.state / "audit-policy.json").write_text(json.dumps(policy))
    for user, token in users.items():
        write_kubeconfig(layout.kubeconfig(user), layout, uplink, token)


def server_names(uplink: Uplink) -> list[str]:
    """Subject alternative names of the serving certificate, in openssl's form."""
    addresses = ("127.0.0.1", API_SERVICE_ADDRESS, uplink.node_address)
    return [f"IP:{address}" for address in addresses] + [f"DNS:{name}" for name in _SERVER_NAMES]


def write_kubeconfig(file: Path, layout: Layout, uplink: Uplink, token: str) -> None:
    """Write a kubeconfig, which is JSON here since JSON is YAML, with the one context `anneal-NAME`."""
    name = f"anneal-{layout.name}"
    authority = (layout.pki / "ca.crt").read_bytes()
    cluster = {"server": server_url(uplink), "certificate-authority-data": base64.b64encode(authority).decode()}
    file.touch(mode=0o600)
    file.write_text(
        json.dumps(
            {
                "apiVersion": "v1",
                "kind": "Config",
                "current-context": name,
                "clusters": [{"name": name, "cluster": cluster}],
                "users": [{"name": name, "user": {"token": token}}],
                "contexts": [{"name": name, "context": {"cluster": name, "user": name}}],
            },
            indent=1,
        )
    )


def server_url(uplink: Uplink) -> str:
    """The API server, from the host and from inside."""
    return f"https://{uplink.node_address}:{API_PORT}"


def etcd(layout: Layout) -> list[str]:
    """The command line of etcd, whose only client is the API server beside it."""
    return ["etcd", f"--data-dir={layout.state / 'etcd'}", f"--client-url={_ETCD}"]


def api_server(layout: Layout, uplink: Uplink) -> list[str]:
    """The command line of the API server, which pods and this host reach at the same address."""
    keys = layout.pki
    return [
        "kube-apiserver",
        f"--etcd-servers={_ETCD}",
        f"--advertise-address={uplink.node_address}",
        f"--secure-port={API_PORT}",
        f"--service-cluster-ip-range={SERVICE_RANGE}",
        f"--tls-cert-file={keys}/apiserver.crt",
        f"--tls-private-key-file={keys}/apiserver.key",
        f"--client-ca-file={keys}/ca.crt",
        f"--token-auth-file={keys}/tokens.csv",
        "--anonymous-auth=false",
        "--authorization-mode=Node,RBAC",
        "--enable-admission-plugins=NodeRestriction",
        "--allow-privileged=true",
        "--service-account-issuer=https://kubernetes.default.svc",
        f"--service-account-key-file={keys}/sa.pub",
        f"--service-account-signing-key-file={keys}/sa.key",
        f"--kubelet-client-certificate={keys}/kubelet-client.crt",
        f"--kubelet-client-key={keys}/kubelet-client.key",
        "--kubelet-preferred-address-types=InternalIP",
        f"--requestheader-client-ca-file={keys}/ca.crt",
        "--requestheader-allowed-names=front-proxy-client",
        "--requestheader-username-headers=X-Remote-User",
        "--requestheader-group-headers=X-Remote-Group",
        "--requestheader-extra-headers-prefix=X-Remote-Extra-",
        f"--proxy-client-cert-file={keys}/front-proxy-client.crt",
        f"--proxy-client-key-file={keys}/front-proxy-client.key",
        f"--audit-policy-file={layout.state / 'audit-policy.json'}",
        f"--audit-log-path={layout.audit_log}",
        "--audit-log-maxsize=0",
    ]


def controller_manager(layout: Layout) -> list[str]:
    """The command line of the controller-manager."""
    return [
        "kube-controller-manager",
        f"--kubeconfig={layout.kubeconfig(pki.CONTROLLER_MANAGER.name)}",
        "--bind-address=127.0.0.1",
        "--leader-elect=false",
        # The default of 20 requests a second is what delays the first ServiceAccount by seconds.
        "--kube-api-qps=500",
        "--kube-api-burst=1000",
        f"--service-account-private-key-file={layout.pki}/sa.key",
        f"--root-ca-file={layout.pki}/ca.crt",
        f"--cluster-signing-cert-file={layout.pki}/ca.crt",
        f"--cluster-signing-key-file={layout.pki}/ca.key",
    ]


def scheduler(layout: Layout) -> list[str]:
    """The command line of the scheduler."""
    access = layout.kubeconfig(pki.SCHEDULER.name)
    return [
        "kube-scheduler",
        f"--kubeconfig={access}",
        f"--authentication-kubeconfig={access}",
        f"--authorization-kubeconfig={access}",
        "--bind-address=127.0.0.1",
        "--leader-elect=false",
    ]
