"""The record of revisions in status: what is added, what is learnt, what is given up, what is forgotten.

Everything is recorded before it is acted upon: a revision before its pods are made, its failure before they are taken
away, its end before its children are deleted.
"""

from __future__ import annotations

from anneal.api.conditions import bounded
from anneal.api.modeldeployment import Revision
from anneal.kinds.modeldeployment.context import Context
from anneal.kinds.modeldeployment.serving import chosen
from anneal.kinds.times import timestamp


def next_record(ctx: Context) -> tuple[Revision, ...]:
    """What status.revisions should be, newest first."""
    known = tuple(_learnt(ctx, r) for r in ctx.revisions)
    newest = _newest(ctx)
    return _kept(ctx, (newest, *known) if newest is not None else known)


def missing_claims(ctx: Context) -> tuple[str, ...]:
    """Claims that a newcomer needs and that do not exist."""
    if ctx.newcomer is None:
        return ()
    return tuple(c for c in ctx.newcomer.claims if ctx.seen.get("PersistentVolumeClaim", c) is None)


def _newest(ctx: Context) -> Revision | None:
    """The record of a newcomer, once its claims exist."""
    contender = ctx.newcomer
    if contender is None or missing_claims(ctx):
        return None
    return Revision(
        name=ctx.name_for(contender),
        runtime=chosen(ctx.spec).name,
        fine_tune_job=contender.fine_tune_job,
        artifact_uri=contender.artifact_uri,
        digest=contender.digest,
        base_uri=contender.base_uri,
        base_digest=contender.base_digest,
        evaluation=ctx.proof.evaluation,
        approved_by=ctx.proof.approved_by,
        created_time=timestamp(ctx.now),
    )


def _learnt(ctx: Context, revision: Revision) -> Revision:
    """One record with what this pass knows of it."""
    if ctx.target is None or revision.name != ctx.target.name:
        return revision.model_copy(update={"started_time": None})
    if ctx.is_retried:
        return revision.model_copy(update={"failed": False, "message": None, "started_time": None})
    if ctx.given_up is not None:
        return revision.model_copy(update={"failed": True, "message": bounded(ctx.given_up), "started_time": None})
    update: dict[str, str | None] = {}
    proof = ctx.proof
    if ctx.spec.revision is None and proof.evaluation is not None and _is_of(ctx, revision):
        update |= {"evaluation": proof.evaluation, "approved_by": proof.approved_by}
    if revision.started_time is None and ctx.is_started(revision.name):
        update["started_time"] = timestamp(ctx.now)
    if revision.ready_time is None and ctx.counts(revision.name).ready > 0:
        update["ready_time"] = timestamp(ctx.now)
    return revision.model_copy(update=update)


def _is_of(ctx: Context, revision: Revision) -> bool:
    contender = ctx.promotion.contender
    return contender is not None and ctx.name_for(contender) == revision.name


def _kept(ctx: Context, revisions: tuple[Revision, ...]) -> tuple[Revision, ...]:
    """Without the oldest beyond revisionHistoryLimit, and without those that cannot run again."""
    if ctx.drain_left > 0:
        return revisions
    in_use = {ctx.serving, ctx.target.name if ctx.target else None, ctx.newcomer and ctx.name_for(ctx.newcomer)}
    others = [r.name for r in revisions if r.name not in in_use and ctx.can_run(r)]
    kept = in_use | set(others[: ctx.spec.revision_history_limit])
    return tuple(r for r in revisions if r.name in kept)
