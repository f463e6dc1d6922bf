"""What one kind reads of another: the artifact of a FineTuneJob, and where the parts of an artifact lie.

The chain is loose on purpose. Whoever is further down reads status, records what it needs in its own, and from then
on does without the object that it came from.
"""

from __future__ import annotations

from pydantic import ValidationError

from anneal.api.conditions import find, is_true
from anneal.api.finetunejob import Artifact
from anneal.api.policy import Approval, asks_for_approval
from anneal.api.references import PvcLocation, parse
from anneal.api.runs import MountedPath
from anneal.kinds.children import claim_path
from anneal.kinds.contract import Object


def artifact_of(job: Object) -> Artifact | None:
    """The artifact of a complete FineTuneJob; None when it is not complete or its artifact cannot be located."""
    if not is_true(job, "Complete"):
        return None
    try:
        artifact = Artifact.model_validate((job.get("status") or {}).get("artifact"))
        for uri in (artifact.uri, artifact.base_uri, artifact.held_out_uri):
            location(uri)
    except (ValidationError, ValueError):
        return None
    return artifact


def training_cost(job: Object | None) -> str | None:
    """What a FineTuneJob says that its training cost, with the currency; None when it does not."""
    paid = (((job or {}).get("status") or {}).get("usage") or {}).get("cost")
    return str(paid) if paid else None


def failure_of(obj: Object) -> str | None:
    """Why a FineTuneJob or an Evaluation failed, in its own words; None when it did not."""
    if not is_true(obj, "Failed"):
        return None
    condition = find(obj.get("status"), "Failed") or {}
    return str(condition.get("message") or condition.get("reason") or "it gives no reason")


def waits_for_approval(evaluation: Object) -> bool:
    """Whether the verdict of an Evaluation lets nothing be served before a person approves."""
    policy = (evaluation.get("spec") or {}).get("policy") or {}
    return asks_for_approval(policy.get("approval"), (evaluation.get("status") or {}).get("verdict"))


def approval_of(evaluation: Object) -> Approval | None:
    """The approval that an Evaluation has recorded of what it judged, or None."""
    status = evaluation.get("status") or {}
    try:
        approval = Approval.model_validate(status.get("approval"))
    except ValidationError:
        return None
    return approval if approval.digest == status.get("subjectDigest") else None


def location(uri: str) -> PvcLocation:
    """Where a pvc:// URI points. Raises ValueError, in a sentence, for any other."""
    found = parse(uri)
    if not isinstance(found, PvcLocation):
        raise ValueError(f"'{uri}' is not in a claim: use pvc://claim/path")
    return found


def mounted(where: PvcLocation) -> MountedPath:
    """The same place as a pod sees it."""
    return MountedPath(uri=where.uri, path=where.below(claim_path(where.claim)))


def claims_of(*uris: str) -> tuple[str, ...]:
    """The claims that these URIs point into, each once, sorted."""
    return tuple(sorted({location(uri).claim for uri in uris}))
