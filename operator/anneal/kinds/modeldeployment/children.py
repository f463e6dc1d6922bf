"""The children of a ModelDeployment: a ConfigMap, a Deployment and a Service per revision, and one stable Service.

A revision is named by a hash over everything that changes what a pod answers or where it runs, and over nothing else:
scaling keeps the revision, and moving traffic never restarts a pod.
"""

from __future__ import annotations

import re
from typing import Any

from anneal.api.modeldeployment import ModelDeploymentSpec, Revision
from anneal.api.runs import ServedModel, ServeRun
from anneal.api.runtimes import RuntimeName
from anneal.kinds.children import (
    OWNER_UID,
    accelerators_of_pod,
    child_name,
    child_name_with,
    claim_volumes,
    hash8,
    identity,
    metadata,
    pod_template,
    run_config_map,
)
from anneal.kinds.contract import Object, Seen
from anneal.kinds.modeldeployment.promotion import Contender
from anneal.kinds.modeldeployment.serving import BY_NAME, chosen
from anneal.kinds.modeldeployment.serving.runtime import GRACE_PERIOD, accelerators
from anneal.kinds.upstream import claims_of, location, mounted

#: Label of everything that belongs to one revision, pods included.
REVISION = "anneal.dev/revision"
ROLE = "rev"
TRAFFIC = "traffic"
_SERVICE_NAME = re.compile(r"[a-z]([-a-z0-9]{0,61}[a-z0-9])?")


def revision_name(seen: Seen, spec: ModelDeploymentSpec, contender: Contender) -> str:
    """Hash of artifact, base, runtime, resources, scheduling and server image.

    And of the object's uid: what a deleted namesake has left is not in the way.
    """
    runtime = chosen(spec)
    return hash8(
        seen.uid,
        contender.digest,
        contender.artifact_uri,
        contender.base_uri,
        contender.base_digest,
        getattr(spec, runtime.name).to_json(),
        spec.resources.to_json(),
        spec.scheduling.to_json(),
        runtime.image(seen.facts.images),
    )


def object_name(seen: Seen, revision: str) -> str:
    """Name of the ConfigMap, the Deployment and the Service of a revision."""
    return child_name_with(seen.name, ROLE, revision)


def stable_name(name: str) -> str:
    """Name of the Service that clients use: the object's own where a Service can be named like that."""
    return name if _SERVICE_NAME.fullmatch(name) else child_name(name, TRAFFIC)


def url(seen: Seen, runtime: RuntimeName) -> str:
    """Where clients in the cluster ask the model."""
    return BY_NAME[runtime].url(f"{stable_name(seen.name)}.{seen.namespace}.svc", seen.name)


def selector(seen: Seen, revision: str) -> dict[str, str]:
    """Labels of the pods of a revision."""
    return {OWNER_UID: seen.uid, REVISION: revision}


def revision_children(seen: Seen, spec: ModelDeploymentSpec, revision: Revision, replicas: int) -> tuple[Object, ...]:
    """All three, in the order in which they are needed. Only for a revision that today's spec makes."""
    name = object_name(seen, revision.name)
    config = run_config_map(seen, name, ROLE, _run(seen, spec, revision))
    return (
        {**config, "metadata": _metadata(seen, revision.name)},
        _deployment(seen, _deployment_spec(seen, spec, revision, replicas), revision.name),
        _service(seen, name, ROLE, revision.name, revision.runtime) | {"metadata": _metadata(seen, revision.name)},
    )


def scaled(seen: Seen, live: Object, revision: str, replicas: int) -> Object:
    """The Deployment of a revision as it is, with that many pods.

    What made it is not known any more once the spec has moved on, so everything else is said again as it is: what
    server-side apply does not find in a manifest of ours, it removes.
    """
    return _deployment(seen, {**live["spec"], "replicas": replicas}, revision)


def stable_service(seen: Seen, revision: str, runtime: RuntimeName) -> Object:
    """The Service that clients use, pointing at a revision that is served with `runtime`."""
    return _service(seen, stable_name(seen.name), TRAFFIC, revision, runtime)


def _run(seen: Seen, spec: ModelDeploymentSpec, revision: Revision) -> ServeRun:
    model = ServedModel(
        name=seen.name,
        base=mounted(location(revision.base_uri)),
        base_digest=revision.base_digest,
        adapter=mounted(location(revision.artifact_uri)),
        adapter_digest=revision.digest,
    )
    batch = {"max_batch_size": spec.triton.max_batch_size} if spec.triton else {}
    count = accelerators(spec.resources)
    return ServeRun(object=identity(seen), models=[model], vllm=spec.vllm, accelerators=count, **batch)


def _deployment_spec(seen: Seen, spec: ModelDeploymentSpec, revision: Revision, replicas: int) -> dict[str, Any]:
    volumes, mounts = claim_volumes(claims_of(revision.artifact_uri, revision.base_uri))
    runtime = BY_NAME[revision.runtime]
    server = runtime.long_lived(runtime.server(seen, spec.resources, mounts, models=1), models=1)
    return {
        "replicas": replicas,
        "revisionHistoryLimit": 1,
        "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}},
        "selector": {"matchLabels": selector(seen, revision.name)},
        "template": pod_template(
            seen,
            ROLE,
            config_map=object_name(seen, revision.name),
            init_containers=[runtime.layout(seen, mounts)],
            containers=[server],
            volumes=[*runtime.all_volumes(), *volumes],
            scheduling=spec.scheduling,
            extra_labels={REVISION: revision.name},
            terminationGracePeriodSeconds=GRACE_PERIOD,
            **accelerators_of_pod(spec.resources),
        ),
    }


def _deployment(seen: Seen, spec: dict[str, Any], revision: str) -> Object:
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": _metadata(seen, revision), "spec": spec}


def _service(seen: Seen, name: str, role: str, revision: str, runtime: RuntimeName) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": metadata(seen, name, role),
        "spec": {"selector": selector(seen, revision), "ports": BY_NAME[runtime].service_ports()},
    }


def _metadata(seen: Seen, revision: str) -> dict[str, Any]:
    common = metadata(seen, object_name(seen, revision), ROLE)
    return {**common, "labels": {**common["labels"], REVISION: revision}}
