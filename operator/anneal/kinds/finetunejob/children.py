"""The objects that a FineTuneJob asks for: a workspace for all its steps, and a ConfigMap and a Job for each.

Names are functions of the object's name and uid, so every pass asks for the same ones.
"""

from __future__ import annotations

from typing import Any

from anneal.api.finetunejob import FineTuneJobSpec
from anneal.api.runs import MLFLOW_DIR, RANKS_PORT, WORKSPACE_DIR
from anneal.kinds.children import (
    accelerators_of_pod,
    child_labels,
    child_name,
    claim_volumes,
    container,
    key_volumes,
    metadata,
    pod_template,
    resource_requirements,
    run_config_map,
    secret_volumes,
    token_volume,
)
from anneal.kinds.contract import Delete, Object, Seen
from anneal.kinds.finetunejob.context import Context
from anneal.kinds.finetunejob.steps import FIT, PUBLISH, Step
from anneal.kinds.jobs import job, spread

#: Kinds of the children, in the order in which they are deleted; pods go with their Jobs.
OWNED = (("batch/v1", "Job"), ("v1", "Service"), ("v1", "ConfigMap"), ("v1", "PersistentVolumeClaim"))


def step_name(seen: Seen, step: Step) -> str:
    """Name of the Job and of the ConfigMap of a step."""
    return child_name(seen.name, step.role, seen.uid)


def workspace_name(seen: Seen) -> str:
    return child_name(seen.name, "workspace", seen.uid)


def of_step(ctx: Context, step: Step) -> tuple[Object, ...]:
    """All that a step needs, what is needed first first."""
    config_map = run_config_map(ctx.seen, step_name(ctx.seen, step), step.role, step.run(ctx))
    return (*workspace(ctx), config_map, *meeting(ctx, step), step_job(ctx, step))


def meeting(ctx: Context, step: Step) -> tuple[Object, ...]:
    """The headless Service by which the pods of a spread training find each other, before any of them is ready."""
    if step is not FIT or ctx.spec.resources.nodes == 1:
        return ()
    name = step_name(ctx.seen, step)
    spec = {
        "clusterIP": "None",
        "publishNotReadyAddresses": True,
        "selector": child_labels(ctx.seen, step.role),
        "ports": [{"name": "ranks", "port": RANKS_PORT}],
    }
    return ({"apiVersion": "v1", "kind": "Service", "metadata": metadata(ctx.seen, name, step.role), "spec": spec},)


def workspace(ctx: Context) -> tuple[Object, ...]:
    """The claim for data and checkpoints, until it exists: after that it may be grown, which must not be undone."""
    name = workspace_name(ctx.seen)
    if ctx.seen.one("PersistentVolumeClaim", name) is not None:
        return ()
    wanted = ctx.spec.workspace
    spec = {"accessModes": [wanted.access_mode], "resources": {"requests": {"storage": wanted.size}}}
    if wanted.storage_class_name is not None:
        spec["storageClassName"] = wanted.storage_class_name
    claim = {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": metadata(ctx.seen, name, "workspace"),
        "spec": spec,
    }
    return (claim,)


def step_job(ctx: Context, step: Step) -> Object:
    """The Job of a step. Everything that may change while it runs is in its ConfigMap."""
    seen, spec, name = ctx.seen, ctx.spec, step_name(ctx.seen, step)
    claims, claim_mounts = claim_volumes((c for _, c in step.claims(spec)), writable=step.written(spec))
    secrets, secret_mounts = secret_volumes(step.secrets(spec))
    keys, key_mounts = key_volumes(step.hosted(spec))
    token, token_mounts = token_volume(seen) if step is FIT else ([], [])
    told, told_mounts = tracking_volumes(spec) if step is PUBLISH else ([], [])
    trainer = container(
        seen,
        name="trainer",
        image=seen.facts.images.trainer,
        requirements=resource_requirements(step.resources(spec)),
        mounts=[
            {"name": "workspace", "mountPath": WORKSPACE_DIR},
            *claim_mounts,
            *secret_mounts,
            *key_mounts,
            *token_mounts,
            *told_mounts,
        ],
        command=["python", "-m", "anneal_trainer"],
    )
    template = pod_template(
        seen,
        step.role,
        config_map=name,
        containers=[trainer],
        volumes=[
            {"name": "workspace", "persistentVolumeClaim": {"claimName": workspace_name(seen)}},
            *claims,
            *secrets,
            *keys,
            *token,
            *told,
        ],
        scheduling=spec.scheduling,
        terminationGracePeriodSeconds=step.grace_seconds,
        **accelerators_of_pod(step.resources(spec)),
    )
    wanted = job(seen, name, step.role, template, spec.backoff_limit)
    if step is not FIT or spec.resources.nodes == 1:
        return wanted
    return spread(wanted, spec.resources.nodes, name, seen.one("Job", name))


def tracking_volumes(spec: FineTuneJobSpec) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """(volumes, mounts) of the MLflow server's Secret. Optional: an artifact does not wait for a Secret to come."""
    if (server := spec.tracking.mlflow) is None:
        return [], []
    name = server.secret_ref.name
    source = {"secretName": name, "defaultMode": 0o440, "optional": True}
    mount = {"name": "mlflow", "mountPath": f"{MLFLOW_DIR}/{name}", "readOnly": True}
    return [{"name": "mlflow", "secret": source}], [mount]


def delete(child: Object) -> Delete:
    meta = child["metadata"]
    return Delete(child["apiVersion"], child["kind"], meta["name"], meta["uid"])
