"""What a ModelDeployment serves at the moment that an Evaluation starts: recorded once, since it moves.

Promotion waits for a verdict, so a verdict cannot wait for the first promotion: while a deployment serves nothing, its
users would be served by nobody better than the base model, and that stands in.
"""

from __future__ import annotations

from pydantic import ValidationError

from anneal.api.finetunejob import Artifact
from anneal.api.modeldeployment import ModelDeploymentStatus
from anneal.api.subjects import Baseline, IncumbentStatus
from anneal.kinds.contract import Object
from anneal.kinds.upstream import location


def deployments_of(baselines: list[Baseline]) -> dict[str, str]:
    """The ModelDeployment of each incumbent baseline, by the baseline's name."""
    return {b.name: b.incumbent.model_deployment_ref.name for b in baselines if b.incumbent is not None}


def incumbent_of(name: str, deployment: Object, candidate: Artifact) -> IncumbentStatus:
    """What `deployment` serves now, as the baseline `name`. Raises ValueError when it cannot be told, in a sentence."""
    try:
        status = ModelDeploymentStatus.model_validate(deployment.get("status") or {})
    except ValidationError as error:
        raise ValueError(f"its status cannot be read: {error.errors()[0]['msg']}") from error
    if status.serving_revision is None:
        return IncumbentStatus(name=name, base_uri=candidate.base_uri, base_digest=candidate.base_digest)
    revision = next((r for r in status.revisions if r.name == status.serving_revision), None)
    if revision is None:
        raise ValueError(f"its status does not say what its serving revision {status.serving_revision} is")
    for uri in (revision.artifact_uri, revision.base_uri):
        location(uri)
    return IncumbentStatus(
        name=name,
        uri=revision.artifact_uri,
        digest=revision.digest,
        base_uri=revision.base_uri,
        base_digest=revision.base_digest,
    )
