"""A person's word on a verdict: read from annotations, recorded once in status, and never written by the operator.

It names the digest that it is about, so that an approval copied from another object, or kept from an older one, counts
for nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from anneal.api.conditions import bounded
from anneal.api.policy import Approval
from anneal.kinds.conditions import Mark, no, yes
from anneal.kinds.contract import Object
from anneal.kinds.evaluation.reasons import Reason
from anneal.kinds.times import timestamp
from anneal.kinds.upstream import approval_of, waits_for_approval

DIGEST, BY, WHY = (f"anneal.dev/{name}" for name in ("approved-digest", "approved-by", "approval-reason"))


def recorded(obj: Object, now: datetime) -> dict[str, Any]:
    """The field of status: what was recorded, or what the annotations say now of a verdict that waits for it."""
    if "approval" in (obj.get("status") or {}):
        return {"approval": obj["status"]["approval"]}
    if not waits_for_approval(obj) or _obstacle(obj) is not None:
        return {}
    said = _annotations(obj)
    given = Approval(
        digest=said[DIGEST],
        by=bounded(said[BY].strip(), 128),
        reason=bounded(said[WHY], 512) if said.get(WHY) else None,
        time=timestamp(now),
    )
    return {"approval": given.to_json()}


def mark(obj: Object) -> Mark:
    """The condition Approved of an Evaluation with that status."""
    if (given := approval_of(obj)) is not None:
        why = f": {given.reason}" if given.reason else "."
        return yes(Reason.APPROVED, f"Approved by {given.by} at {given.time}{why}")
    if not waits_for_approval(obj):
        return no(Reason.APPROVAL_NOT_ASKED)
    return _obstacle(obj) or no(Reason.AWAITING_APPROVAL, "The annotations are seen and about to be recorded.")


def _obstacle(obj: Object) -> Mark | None:
    """Why the annotations do not approve what was judged; None when they do."""
    said, judged = _annotations(obj), obj["status"].get("subjectDigest")
    if DIGEST not in said:
        how = (
            f"kubectl -n {obj['metadata']['namespace']} annotate evaluation {obj['metadata']['name']}"
            f" {DIGEST}={judged} {BY}=NAME {WHY}=WHY"
        )
        verdict = obj["status"].get("verdict")
        return no(Reason.AWAITING_APPROVAL, f"The verdict {verdict} waits for a person (policy.approval): {how}")
    if said[DIGEST] != judged:
        named = bounded(said[DIGEST], 80)
        return no(
            Reason.APPROVAL_MISMATCH,
            f"Annotation {DIGEST} names {named}, but judged is {judged}, so nothing is approved; look at what was"
            " judged and name that.",
        )
    if not said.get(BY, "").strip():
        return no(Reason.APPROVAL_INCOMPLETE, f"Annotation {BY} does not say who approves, so nothing is approved.")
    return None


def _annotations(obj: Object) -> Mapping[str, str]:
    return obj["metadata"].get("annotations") or {}
