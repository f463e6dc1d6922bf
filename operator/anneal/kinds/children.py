"""What all children share: names, labels, owner, and the pod that passes Pod Security `restricted`.

A child's name is a function of its owner, its role and what goes into it, so a second pass (or a second operator) asks
for the same object and never for another one.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from anneal.api import API_VERSION
from anneal.api.quantities import bytes_of
from anneal.api.runs import (
    CLAIMS_DIR,
    CREDENTIALS_DIR,
    KEY_FILE,
    KEYS_DIR,
    RUN_DIR,
    RUN_FILE,
    TERMINATION_FILE,
    TOKEN_FILE,
    ObjectIdentity,
    Run,
)
from anneal.api.subjects import Hosted
from anneal.api.workloads import DEFAULT_MEMORY, Accelerator, Resources, Scheduling
from anneal.estimate.accelerators import MEMORY_LABEL, MIB, PRODUCT_LABEL
from anneal.kinds.contract import Object, Seen

MANAGED_BY = "app.kubernetes.io/managed-by"
MANAGER = "anneal"
OWNER_UID = "anneal.dev/owner-uid"
OWNER = "anneal.dev/owner"
ROLE = "anneal.dev/role"
#: A DNS label, less what Kubernetes appends to a Job's name for the host name of a numbered pod ("-63").
MAX_NAME = 60
USER = 65532
#: Of a pod, on its accelerators, where they are claimed.
CLAIM = "accelerators"


def hash8(*parts: object) -> str:
    """Eight hex digits over the parts, each as canonical JSON."""
    text = json.dumps(parts, sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def child_name(owner: str, role: str, *parts: object) -> str:
    """`{owner}-{role}-{hash8}`, at most 60 characters, a DNS label. The owner's name is cut, never the hash."""
    return child_name_with(owner, role, hash8(owner, role, *parts))


def child_name_with(owner: str, role: str, suffix: str) -> str:
    """The same with a suffix that others speak of too; it must be another one for another owner."""
    tail = f"-{role}-{suffix}"
    head = owner.replace(".", "-")[: MAX_NAME - len(tail)].strip("-")
    if not head or not head[0].isalpha():
        head = f"x{head}"[: MAX_NAME - len(tail)].strip("-")
    return head + tail


def identity(seen: Seen) -> ObjectIdentity:
    """The object, as a run document names it."""
    return ObjectIdentity(kind=seen.obj["kind"], namespace=seen.namespace, name=seen.name, uid=seen.uid)


def child_labels(seen: Seen, role: str) -> dict[str, str]:
    """Labels of a child. The owner's own labels are not among them: Argo CD would take the child for its own."""
    return {MANAGED_BY: MANAGER, OWNER_UID: seen.uid, ROLE: role}


def child_annotations(seen: Seen) -> dict[str, str]:
    """Annotations of a child and its pods: the owner by name, since a label cannot hold 253 characters."""
    return {OWNER: f"{seen.obj['kind']}/{seen.name}"}


def metadata(seen: Seen, name: str, role: str) -> dict[str, Any]:
    """Metadata of a direct child: owned, labelled, in the owner's namespace."""
    return {
        "name": name,
        "namespace": seen.namespace,
        "labels": child_labels(seen, role),
        "annotations": child_annotations(seen),
        "ownerReferences": [
            {
                "apiVersion": API_VERSION,
                "kind": seen.obj["kind"],
                "name": seen.name,
                "uid": seen.uid,
                "controller": True,
                "blockOwnerDeletion": False,
            }
        ],
    }


def run_config_map(seen: Seen, name: str, role: str, run: Run) -> Object:
    """The ConfigMap that tells a pod what to do, with the CA certificate that its reports, if any, are sent under.

    The certificate changes with every leader, so a run that reports nothing must not carry it.
    """
    data = {"run.json": run.model_dump_json(by_alias=True, exclude_none=True)}
    if seen.facts.reports is not None and getattr(run, "reporting", None) is not None:
        data["ca.crt"] = seen.facts.reports.ca_pem
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata(seen, name, role), "data": data}


def claim_path(claim: str) -> str:
    """Where a claim is mounted in every pod."""
    return f"{CLAIMS_DIR}/{claim}"


def credentials_path(secret: str) -> str:
    """Where the keys of a Secret are mounted in the pods that need them."""
    return f"{CREDENTIALS_DIR}/{secret}"


def resource_requirements(resources: Resources, cpu: str = "1", memory: str = DEFAULT_MEMORY) -> dict[str, Any]:
    """CPU is requested but not limited (a limit only wastes idle cores); memory and accelerators are both.

    What a claim gives is the container's by the name of the claim in its pod (`accelerators_of_pod`).
    """
    memory = resources.memory or memory
    limits = {"memory": memory}
    requests = {"cpu": resources.cpu or cpu, "memory": memory}
    wanted = resources.accelerator
    if wanted is None:
        return {"requests": requests, "limits": limits}
    if wanted.resource_claim_template_name is not None:
        return {"requests": requests, "limits": limits, "claims": [{"name": CLAIM}]}
    count = {wanted.resource_name: str(wanted.per_node)}
    return {"requests": requests | count, "limits": limits | count}


def accelerators_of_pod(resources: Resources) -> dict[str, Any]:
    """What the spec of a pod that wants accelerators says beside its containers; mostly nothing.

    Either the claim from which it gets them, whose template chooses the devices, or `affinity` to nodes of a kind, by
    the labels of GPU feature discovery. Nodes whose devices are claimed need not have those labels.
    """
    wanted = resources.accelerator or Accelerator()
    if (template := wanted.resource_claim_template_name) is not None:
        return {"resourceClaims": [{"name": CLAIM, "resourceClaimTemplateName": template}]}
    terms: list[dict[str, Any]] = []
    if wanted.products:
        terms.append({"key": PRODUCT_LABEL, "operator": "In", "values": list(wanted.products)})
    if wanted.min_memory is not None:
        # The label counts whole MiB, and there is no "at least".
        below = -(-bytes_of(wanted.min_memory) // MIB) - 1
        terms.append({"key": MEMORY_LABEL, "operator": "Gt", "values": [str(below)]})
    if not terms:
        return {}
    selector = {"nodeSelectorTerms": [{"matchExpressions": terms}]}
    return {"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": selector}}}


def container(
    seen: Seen,
    *,
    name: str,
    image: str,
    requirements: Mapping[str, Any],
    mounts: Sequence[Mapping[str, Any]],
    **extra: Any,
) -> dict[str, Any]:
    """A container that passes Pod Security `restricted`, with the run document mounted and a writable /tmp."""
    return {
        "name": name,
        "image": image,
        "imagePullPolicy": seen.facts.image_pull_policy,
        "resources": dict(requirements),
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "terminationMessagePath": TERMINATION_FILE,
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "env": [{"name": "ANNEAL_RUN_FILE", "value": RUN_FILE}, {"name": "HOME", "value": "/tmp"}],
        "volumeMounts": [
            {"name": "run", "mountPath": RUN_DIR, "readOnly": True},
            {"name": "tmp", "mountPath": "/tmp"},
            *[dict(m) for m in mounts],
        ],
        **extra,
    }


def token_volume(seen: Seen) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """(volumes, mounts) of the projected token that only the operator's reports endpoint accepts; empty without one."""
    if seen.facts.reports is None:
        return [], []
    directory, _, file = TOKEN_FILE.rpartition("/")
    source = {
        "serviceAccountToken": {
            "audience": seen.facts.reports.audience,
            "expirationSeconds": 3600,
            "path": file,
        }
    }
    return (
        [{"name": "token", "projected": {"defaultMode": 0o440, "sources": [source]}}],
        [{"name": "token", "mountPath": directory, "readOnly": True}],
    )


def claim_volumes(
    claims: Iterable[str], writable: Iterable[str] = ()
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """(volumes, mounts) of claims, each mounted once at `claim_path`, read-only unless writable."""
    may_write = set(writable)
    names = sorted(set(claims) | may_write)
    volumes = [
        {
            "name": f"claim-{i}",
            "persistentVolumeClaim": {"claimName": n} if n in may_write else {"claimName": n, "readOnly": True},
        }
        for i, n in enumerate(names)
    ]
    mounts = [
        {"name": f"claim-{i}", "mountPath": claim_path(n)} | ({} if n in may_write else {"readOnly": True})
        for i, n in enumerate(names)
    ]
    return volumes, mounts


def secret_volumes(secrets: Iterable[str]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """(volumes, mounts) of Secrets, each at `credentials_path`. The kubelet reads them; the operator never does."""
    names = list(secrets)
    volumes = [{"name": f"secret-{i}", "secret": {"secretName": n, "defaultMode": 0o440}} for i, n in enumerate(names)]
    mounts = [{"name": f"secret-{i}", "mountPath": credentials_path(n), "readOnly": True} for i, n in enumerate(names)]
    return volumes, mounts


def key_volumes(asked: Iterable[tuple[str, Hosted | None]]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """(volumes, mounts) of the API keys of those who are asked, one file each in a directory of its name.

    The volumes are optional: without its Secret, the pod starts and says so instead of waiting for ever.
    """
    volumes, mounts = [], []
    for n, (name, hosted) in enumerate(asked):
        if hosted is None or (secret := hosted.secret_ref) is None:
            continue
        source = {
            "secretName": secret.name,
            "items": [{"key": secret.key, "path": KEY_FILE}],
            "defaultMode": 0o440,
            "optional": True,
        }
        volumes.append({"name": f"key-{n}", "secret": source})
        mounts.append({"name": f"key-{n}", "mountPath": f"{KEYS_DIR}/{name}", "readOnly": True})
    return volumes, mounts


def pod_template(
    seen: Seen,
    role: str,
    *,
    config_map: str,
    containers: Sequence[Mapping[str, Any]],
    init_containers: Sequence[Mapping[str, Any]] = (),
    volumes: Sequence[Mapping[str, Any]] = (),
    scheduling: Scheduling,
    extra_labels: Mapping[str, str] | None = None,
    **extra: Any,
) -> dict[str, Any]:
    """A pod template that passes Pod Security `restricted`: non-root, no service account token, RuntimeDefault."""
    spec: dict[str, Any] = {
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": USER,
            "runAsGroup": USER,
            "fsGroup": USER,
            "fsGroupChangePolicy": "OnRootMismatch",
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [dict(c) for c in containers],
        "volumes": [
            {"name": "run", "configMap": {"name": config_map}},
            {"name": "tmp", "emptyDir": {}},
            *[dict(v) for v in volumes],
        ],
        **extra,
    }
    if init_containers:
        spec["initContainers"] = [dict(c) for c in init_containers]
    if scheduling.priority_class_name:
        spec["priorityClassName"] = scheduling.priority_class_name
    if scheduling.node_selector:
        spec["nodeSelector"] = dict(scheduling.node_selector)
    if scheduling.tolerations:
        spec["tolerations"] = [t.to_json() for t in scheduling.tolerations]
    return {
        "metadata": {
            "labels": child_labels(seen, role) | dict(extra_labels or {}),
            "annotations": child_annotations(seen),
        },
        "spec": spec,
    }
