"""Pods of the toolbox, the program of this folder's Go module: what the cluster's own tests run."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

from local_cluster import Cluster
from local_cluster.layout import Record

TOOLBOX = "localhost/anneal-toolbox:1"
RESTRICTED = {
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "readOnlyRootFilesystem": True,
}


def apply(cluster: Cluster, *objects: dict[str, Any]) -> None:
    """Apply objects as the administrator."""
    cluster.kubectl("apply", "-f", "-", stdin=json.dumps({"apiVersion": "v1", "kind": "List", "items": objects}))


def container(*arguments: str, **more: Any) -> dict[str, Any]:
    """A container that runs one tool; `more` are further fields of it."""
    return {"name": "main", "image": TOOLBOX, "args": list(arguments), "securityContext": RESTRICTED, **more}


def pod(namespace: str, name: str, main: dict[str, Any], **more: Any) -> dict[str, Any]:
    """A pod that the standard `restricted` admits; `security` changes its security context, `more` its spec."""
    security = {
        "runAsNonRoot": True,
        "runAsUser": 65532,
        "runAsGroup": 65532,
        "seccompProfile": {"type": "RuntimeDefault"},
        **more.pop("security", {}),
    }
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": namespace, "labels": {"app": name}},
        "spec": {
            "restartPolicy": "Never",
            "automountServiceAccountToken": False,
            "terminationGracePeriodSeconds": 1,
            "securityContext": security,
            "containers": [main],
            **more,
        },
    }


def claim(namespace: str, name: str) -> dict[str, Any]:
    """A claim of the default StorageClass."""
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Mi"}}},
    }


def mounted(claim_name: str) -> dict[str, Any]:
    return {"volumes": [{"name": "data", "persistentVolumeClaim": {"claimName": claim_name}}]}


DATA = {"volumeMounts": [{"name": "data", "mountPath": "/data"}]}


def outcome(cluster: Cluster, namespace: str, name: str) -> str:
    """What a pod printed, once it ended well."""
    cluster.kubectl("-n", namespace, "wait", f"pod/{name}", "--for=jsonpath={.status.phase}=Succeeded", "--timeout=60s")
    return cluster.kubectl("-n", namespace, "logs", name)


def command_line(process: Path) -> bytes:
    """The arguments of a process of `/proc`, each ended by a zero; nothing when it is gone."""
    try:
        return (process / "cmdline").read_bytes()
    except OSError:
        return b""


def recorded(cluster: Cluster) -> Record:
    """The record of a cluster that is up."""
    record = Record.read(cluster.layout)
    assert record is not None
    return record


def output(*argv: str) -> str:
    return subprocess.run(argv, capture_output=True, text=True, check=True).stdout
