"""What should be of a ModelDeployment: a chain of rules says why it is as it is, and each pass takes every safe step.

A rollout is: record the revision, start its pods beside the old ones, move the stable Service when all of them answer,
let the old ones drain, take them away. Each step is taken on what is seen of the one before, so that a crash at any
point leaves traffic where it is. Whatever happens to a newer revision, the one that serves is left alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime

from anneal.api.conditions import find
from anneal.api.modeldeployment import KIND, ModelDeployment, ModelDeploymentSpec, ModelDeploymentStatus, Revision
from anneal.kinds.conditions import Health, Mark, Verdict, no, status_of, unknown, yes
from anneal.kinds.contract import Delete, Found, Kind, Object, Plan, Reference, Seen, Wanted
from anneal.kinds.modeldeployment import promotion
from anneal.kinds.modeldeployment.children import (
    REVISION,
    revision_children,
    scaled,
    selector,
    stable_name,
    stable_service,
    url,
)
from anneal.kinds.modeldeployment.context import Context, status_in
from anneal.kinds.modeldeployment.reasons import Reason
from anneal.kinds.modeldeployment.revisions import missing_claims, next_record
from anneal.kinds.times import timestamp
from anneal.kinds.validation import problem

#: Claims are not watched, so they are looked for again after this long, in seconds.
CLAIM_RETRY = 15.0

OWNS = (("v1", "ConfigMap"), ("v1", "Service"), ("apps/v1", "Deployment"), ("v1", "Pod"))
_STEPS = (Reason.REVISION_RECORDED, Reason.ROLLING_OUT, Reason.SWITCHING, Reason.SCALING, Reason.DRAINING)

Rule = Callable[[Context], Verdict | None]


def references(obj: Object, found: Found) -> frozenset[Wanted]:
    """What decides the artifact, whoever may have its Service's name, and then the claims of the artifact."""
    if problem(obj, ModelDeployment) is not None:
        return frozenset()
    spec = ModelDeploymentSpec.model_validate(obj["spec"])
    contenders = promotion.contenders(spec, status_in(obj).revisions, found)
    claims = () if isinstance(contenders, promotion.Proof) else {claim for c in contenders for claim in c.claims}
    return (
        promotion.wanted(spec)
        | {Reference("Service", stable_name(obj["metadata"]["name"]))}
        | {Reference("PersistentVolumeClaim", claim) for claim in claims}
    )


def plan(seen: Seen, now: datetime) -> Plan:
    """The whole plan for one ModelDeployment."""
    if (wrong := problem(seen.obj, ModelDeployment)) is not None:
        return _invalid(seen, wrong)
    ctx = Context(seen, now)
    verdict = next(v for rule in RULES if (v := rule(ctx)) is not None)
    return Plan(
        apply=_children(ctx),
        delete=tuple(_forgotten(ctx)),
        status=status_of(seen, verdict, _marks(ctx, verdict), _recorded(ctx).to_json()),
        requeue_after=_requeue_after(ctx),
    )


# The rules, in order. Each returns None when it has nothing to say.


def name_is_taken(ctx: Context) -> Verdict | None:
    if not ctx.name_is_taken:
        return None
    said = (
        f"Service '{stable_name(ctx.seen.name)}' exists already and does not belong to this object, so it is left as it"
        " is and no traffic can come; delete it or create this object under another name"
    )
    return Verdict(_phase(ctx, "Pending"), Reason.NAME_TAKEN, said, Health.STUCK)


def pin_is_unknown(ctx: Context) -> Verdict | None:
    if not ctx.pin_is_unknown:
        return None
    known = ", ".join(r.name for r in ctx.revisions if ctx.can_run(r)) or "none"
    said = f"spec.revision '{ctx.spec.revision}' is not a revision that can be served; known are: {known}."
    return Verdict(_phase(ctx, "Pending"), Reason.REVISION_NOT_FOUND, said + _kept(ctx), Health.STUCK)


def gate_is_closed(ctx: Context) -> Verdict | None:
    if ctx.proof.is_open:
        return None
    health = Health.MOVING if ctx.proof.gate == "Waiting" else Health.STUCK
    return Verdict(_phase(ctx, "Pending"), ctx.proof.reason, ctx.proof.message + _kept(ctx), health)


def claim_is_missing(ctx: Context) -> Verdict | None:
    if not (missing := missing_claims(ctx)):
        return None
    said = f"PersistentVolumeClaim '{missing[0]}' does not exist in this namespace; create it with the files in it."
    return Verdict(_phase(ctx, "Pending"), Reason.CLAIM_NOT_FOUND, said + _kept(ctx))


def revision_is_new(ctx: Context) -> Verdict | None:
    if ctx.newcomer is None:
        return None
    said = f"Revision {ctx.name_for(ctx.newcomer)} of FineTuneJob '{ctx.newcomer.fine_tune_job}' is recorded."
    return Verdict("Progressing", Reason.REVISION_RECORDED, said)


def revision_has_failed(ctx: Context) -> Verdict | None:
    if ctx.given_up is None or ctx.target is None:
        return None
    said = (
        f"Revision {ctx.target.name} was given up: {ctx.given_up}. A new artifact or other settings are tried anew,"
        f" this revision when spec.revision names it.{_kept(ctx)}"
    )
    phase = "Degraded" if ctx.serving is not None else "Failed"
    return Verdict(phase, Reason.REVISION_NOT_READY, said, Health.STUCK)


def revision_is_starting(ctx: Context) -> Verdict | None:
    target = ctx.target
    if target is None or target.name == ctx.serving or (ctx.is_available(target.name) and not target.failed):
        return None
    said = f"Revision {target.name} starts, {_count(ctx, target.name)}." + _trouble(ctx, target.name)
    return Verdict("Progressing", Reason.ROLLING_OUT, said + _kept(ctx))


def traffic_is_moving(ctx: Context) -> Verdict | None:
    if ctx.target is None or ctx.target.name == ctx.serving:
        return None
    return Verdict("Progressing", Reason.SWITCHING, f"Traffic moves to revision {ctx.target.name}.")


def pods_are_draining(ctx: Context) -> Verdict | None:
    leaving = [r.name for r in _left_behind(ctx) if ctx.counts(r.name).wanted > 0]
    if not leaving:
        return None
    said = f"Traffic goes to revision {ctx.serving}; revision {leaving[0]} finishes its requests, then its pods go."
    return Verdict("Progressing", Reason.DRAINING, said)


def nothing_is_wanted(ctx: Context) -> Verdict | None:
    if ctx.spec.replicas > 0 or ctx.serving is None or not _is_scaled(ctx, ctx.serving):
        return None
    return Verdict("Ready", Reason.SCALED_TO_ZERO, "No pods are wanted (spec.replicas is 0).", Health.SETTLED)


def nothing_answers(ctx: Context) -> Verdict | None:
    if ctx.spec.replicas == 0 or ctx.serving is None or ctx.counts(ctx.serving).ready > 0:
        return None
    said = f"No pod of revision {ctx.serving} answers." + _trouble(ctx, ctx.serving)
    return Verdict("Degraded", Reason.NOT_ANSWERING, said)


def is_scaling(ctx: Context) -> Verdict | None:
    if ctx.serving is None or _is_scaled(ctx, ctx.serving):
        return None
    said = f"Of revision {ctx.serving}, {_count(ctx, ctx.serving)}." + _trouble(ctx, ctx.serving)
    return Verdict(_phase(ctx, "Progressing"), Reason.SCALING, said)


def is_serving(ctx: Context) -> Verdict:
    said = f"Revision {ctx.serving} serves, {_count(ctx, ctx.serving or '')}."
    return Verdict("Ready", Reason.SERVING, said, Health.SETTLED)


RULES: tuple[Rule, ...] = (
    name_is_taken,
    pin_is_unknown,
    gate_is_closed,
    claim_is_missing,
    revision_is_new,
    revision_has_failed,
    revision_is_starting,
    traffic_is_moving,
    pods_are_draining,
    nothing_is_wanted,
    nothing_answers,
    is_scaling,
    is_serving,
)


# The steps, each taken whenever it is safe.


def _children(ctx: Context) -> tuple[Object, ...]:
    """What serves comes first: a newer revision that the API server refuses must not keep it from its due."""
    first = [r for r in ctx.revisions if r.name == ctx.serving]
    then = [r for r in ctx.revisions if r.name != ctx.serving]
    return (*_of_revisions(ctx, first), *_traffic(ctx), *_of_revisions(ctx, then))


def _of_revisions(ctx: Context, revisions: list[Revision]) -> Iterator[Object]:
    """The children of recorded revisions, with as many pods as each should have."""
    for revision in revisions:
        live = ctx.deployment(revision.name)
        replicas = _replicas(ctx, revision)
        if replicas is None:
            continue
        if _is_in_use(ctx, revision) and ctx.is_today(revision):
            yield from revision_children(ctx.seen, ctx.spec, revision, replicas)
        elif live is not None and live["spec"].get("replicas") != replicas:
            yield scaled(ctx.seen, live, revision.name, replicas)


def _traffic(ctx: Context) -> tuple[Object, ...]:
    """The stable Service: at the target once all its pods answer, until then where it is."""
    target = ctx.target
    is_ready = target is not None and not target.failed and ctx.is_available(target.name)
    to = target.name if target is not None and is_ready else ctx.serving
    return () if to is None or ctx.name_is_taken else (stable_service(ctx.seen, to, ctx.runtime_of(to)),)


def _forgotten(ctx: Context) -> list[Delete]:
    """Children of revisions whose end is recorded."""
    kept = {ctx.serving, *(r.name for r in ctx.revisions)}
    if ctx.newcomer is not None:
        kept.add(ctx.name_for(ctx.newcomer))
    return [
        Delete(api_version, kind, child["metadata"]["name"], child["metadata"]["uid"])
        for api_version, kind in reversed(OWNS[:3])
        for child in ctx.seen.of_kind(kind)
        if child["metadata"]["labels"].get(REVISION, ctx.serving) not in kept
    ]


def _replicas(ctx: Context, revision: Revision) -> int | None:
    """How many pods a revision should have; None while it must keep what it has."""
    if _is_in_use(ctx, revision):
        return ctx.spec.replicas
    return 0 if revision.failed or ctx.drain_left == 0 else None


def _is_in_use(ctx: Context, revision: Revision) -> bool:
    """Whether traffic goes to a revision or should come to it."""
    is_target = ctx.target is not None and ctx.target.name == revision.name
    return revision.name == ctx.serving or (is_target and not revision.failed)


def _left_behind(ctx: Context) -> list[Revision]:
    return [r for r in ctx.revisions if not _is_in_use(ctx, r)]


def _requeue_after(ctx: Context) -> float | None:
    """Seconds until time alone changes the plan."""
    waits = []
    if missing_claims(ctx):
        waits.append(CLAIM_RETRY)
    target = ctx.target
    if target is not None and target.name != ctx.serving and not target.failed:
        waits.append(max(1.0, ctx.progress_left(target)))
    if ctx.drain_left > 0 and any(ctx.counts(r.name).wanted > 0 for r in _left_behind(ctx)):
        waits.append(ctx.drain_left)
    return min(waits, default=None)


# Status.


def _recorded(ctx: Context) -> ModelDeploymentStatus:
    """Everything but the verdict and the conditions."""
    serving = ctx.serving
    record = ctx.recorded(serving)
    counts = ctx.counts(serving) if serving is not None else None
    target = ctx.name_for(ctx.newcomer) if ctx.newcomer is not None and not missing_claims(ctx) else None
    labels = selector(ctx.seen, serving) if serving is not None else {}
    return ModelDeploymentStatus(
        gate=ctx.proof.gate,
        url=url(ctx.seen, ctx.runtime_of(serving)) if serving is not None else None,
        digest=record.digest if record is not None else None,
        serving_revision=serving,
        target_revision=target or (ctx.target.name if ctx.target is not None else None),
        replicas=counts.replicas if counts is not None else 0,
        ready_replicas=counts.ready if counts is not None else 0,
        selector=",".join(f"{k}={v}" for k, v in labels.items()) or None,
        switched_time=timestamp(ctx.now) if ctx.has_just_switched else ctx.status.switched_time,
        revisions=list(next_record(ctx)),
    )


def _marks(ctx: Context, verdict: Verdict) -> dict[str, Mark]:
    proof = ctx.proof
    return {
        "GatePassed": (yes if proof.is_open else no)(proof.reason, proof.message),
        "Ready": _ready_mark(ctx, verdict),
        "Progressing": (yes if verdict.reason in _STEPS else no)(verdict.reason, verdict.message),
    }


def _ready_mark(ctx: Context, verdict: Verdict) -> Mark:
    """Whether requests are answered, whatever else goes on."""
    if ctx.serving is None:
        return no(verdict.reason, verdict.message)
    if ctx.spec.replicas == 0:
        return yes(Reason.SCALED_TO_ZERO, "No pods are wanted (spec.replicas is 0).")
    if ctx.counts(ctx.serving).ready == 0:
        said = f"No pod of revision {ctx.serving} answers." + _trouble(ctx, ctx.serving)
        return no(Reason.NOT_ANSWERING, said)
    return yes(Reason.SERVING, f"Revision {ctx.serving} serves, {_count(ctx, ctx.serving)}.")


def _invalid(seen: Seen, wrong: str) -> Plan:
    """Nothing is done for a spec that nobody understands, and nothing is taken away."""
    verdict = Verdict("Failed", Reason.INVALID_SPEC, f"{wrong}; correct it and apply again", Health.STUCK)
    marks = {}
    for type_ in ("GatePassed", "Ready", "Progressing"):
        old = find(seen.status, type_)
        marks[type_] = Mark(old["status"], old["reason"], old.get("message", "")) if old else unknown(verdict.reason)
    kept = {k: v for k, v in seen.status.items() if k != "conditions"}
    return Plan(status=status_of(seen, verdict, marks, kept))


def _phase(ctx: Context, otherwise: str) -> str:
    """Ready as long as something answers."""
    return "Ready" if ctx.serving is not None and ctx.counts(ctx.serving).ready > 0 else otherwise


def _is_scaled(ctx: Context, revision: str) -> bool:
    return ctx.is_available(revision) and ctx.counts(revision).replicas == ctx.spec.replicas


def _count(ctx: Context, revision: str) -> str:
    return f"{ctx.counts(revision).ready} of {ctx.spec.replicas} pods answer"


def _trouble(ctx: Context, revision: str) -> str:
    why = ctx.trouble(revision)
    return f" {why[0].upper()}{why[1:]}." if why else ""


def _kept(ctx: Context) -> str:
    return f" Revision {ctx.serving} keeps serving." if ctx.serving is not None else ""


KIND_ROW = Kind(info=KIND, owns=OWNS, references=references, plan=plan)
