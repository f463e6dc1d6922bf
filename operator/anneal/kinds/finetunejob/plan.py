"""What should be for a FineTuneJob, decided by the first rule that has something to say.

Read RULES from top to bottom: that is the life of a FineTuneJob. The rule that fires writes the reason and the message.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from anneal.api.conditions import is_true
from anneal.api.finetunejob import KIND, FineTuneJobSpec, FineTuneJobStatus
from anneal.kinds.conditions import Health, Verdict, no, yes
from anneal.kinds.contract import Found, Kind, Object, Plan, Reference, Seen, Wanted
from anneal.kinds.finetunejob import children
from anneal.kinds.finetunejob.context import Context
from anneal.kinds.finetunejob.places import claims
from anneal.kinds.finetunejob.progress import reported, standing_still
from anneal.kinds.finetunejob.reasons import Reason
from anneal.kinds.finetunejob.specification import problem
from anneal.kinds.finetunejob.status import carried_over, status
from anneal.kinds.finetunejob.steps import FIT, PUBLISH, Step, next_step, remarked
from anneal.kinds.jobs import suspended
from anneal.kinds.pods import PodReason
from anneal.kinds.results import Failed, NotStarted, Running, StepResult, Succeeded, is_at_rest, is_finished, read
from anneal.kinds.times import seconds_since, timestamp

#: Claims are not watched: a plan that waits for one looks again after this long, in seconds.
CLAIM_RETRY_SECONDS = 15.0

Rule = Callable[[Context], Plan | None]


def is_being_deleted(ctx: Context) -> Plan | None:
    """Nothing is made for an object that goes; its children go with it, by their owner references."""
    return Plan(status=ctx.seen.status) if "deletionTimestamp" in ctx.seen.obj["metadata"] else None


def is_over(ctx: Context) -> Plan | None:
    """Complete and Failed are final. What is left to do is to stop and, in time, to remove what still exists."""
    obj = ctx.seen.obj
    if not (is_true(obj, "Complete") or is_true(obj, "Failed")):
        return None
    owned = [child for _, kind in children.OWNED for child in ctx.seen.of_kind(kind)]
    ttl = (obj.get("spec") or {}).get("ttlSecondsAfterFinished")
    left = None if ttl is None else ttl - seconds_since(ctx.seen.status.get("completionTime"), ctx.now)
    if left is not None and left <= 0:
        return Plan(delete=tuple(children.delete(c) for c in owned), status=carried_over(ctx.seen))
    running = tuple(children.delete(c) for c in owned if c["kind"] == "Job" and not is_finished(c))
    return Plan(delete=running, status=carried_over(ctx.seen), requeue_after=left if owned else None)


def spec_is_invalid(ctx: Context) -> Plan | None:
    """Nothing is begun with a spec that cannot work; when it is corrected, the job goes on."""
    said = problem(ctx.seen.obj)
    if said is None:
        return None
    return Plan(status=status(ctx.seen, ctx.status, Verdict("Pending", Reason.INVALID_SPEC, said, Health.STUCK)))


def is_complete(ctx: Context) -> Plan | None:
    """Every step has left its result in status."""
    artifact = ctx.status.artifact
    if next_step(ctx.status) is not None or artifact is None:
        return None
    said = f"the artifact {artifact.digest} is at {artifact.uri}"
    return Plan(
        status=status(
            ctx.seen,
            ctx.status.model_copy(update={"completion_time": timestamp(ctx.now)}),
            Verdict("Complete", Reason.COMPLETED, said, Health.SETTLED),
            Complete=yes(Reason.COMPLETED, said),
        )
    )


def a_step_has_failed(ctx: Context) -> Plan | None:
    """The pod's own reason and message are the object's."""
    step, result = _where(ctx)
    return _failed(ctx, step, result.reason, result.message) if isinstance(result, Failed) else None


def a_step_has_succeeded(ctx: Context) -> Plan | None:
    """Its result is recorded before anything is built on it, and whatever else is wanted by now."""
    step, result = _where(ctx)
    if not isinstance(result, Succeeded):
        return None
    try:
        recorded = step.record(ctx, result.result)
    except ValueError as error:
        return _failed(ctx, step, PodReason.RESULT_UNREADABLE, f"the result of the {step.role} pod is wrong: {error}")
    said = step.summary(recorded)
    return Plan(status=status(ctx.seen, recorded, Verdict(step.phase, said.reason, said.message)))


def does_not_fit(ctx: Context) -> Plan | None:
    """An accelerator is not taken for a training that is known to run out of memory."""
    estimate, step = ctx.status.estimate, next_step(ctx.status)
    if step is not FIT or estimate is None or estimate.fit != "DoesNotFit" or ctx.spec.planner.policy != "Enforce":
        return None
    return _failed(ctx, FIT, Reason.DOES_NOT_FIT, estimate.message)


def is_suspended(ctx: Context) -> Plan | None:
    """The pods save what they have and go; the Job stays, to go on from there."""
    if not ctx.spec.suspend:
        return None
    step, _ = _where(ctx)
    job = ctx.seen.one("Job", children.step_name(ctx.seen, step))
    recorded = _with_progress(ctx, step)
    asked = (suspended(children.step_job(ctx, step)),) if job is not None else ()
    if job is not None and not (job["spec"].get("suspend") and is_at_rest(ctx.seen, job)):
        said = f"suspended while {step.what}: its pod has {step.grace_seconds} s to save its state and end"
        return Plan(
            apply=asked,
            status=status(
                ctx.seen,
                recorded,
                Verdict(step.phase, Reason.SUSPENDING, said),
                Suspended=no(Reason.SUSPENDING, said),
            ),
        )
    said = _why_suspended(recorded, step)
    return Plan(
        apply=asked,
        status=status(
            ctx.seen,
            standing_still(recorded),
            Verdict("Suspended", Reason.SUSPENDED, said, Health.SETTLED),
            Suspended=yes(Reason.SUSPENDED, said),
        ),
    )


def deadline_has_passed(ctx: Context) -> Plan | None:
    """Recorded first; what runs is stopped by `is_over`, once that is seen in status."""
    if ctx.deadline_in is None or ctx.deadline_in > 0:
        return None
    step, _ = _where(ctx)
    said = (
        f"still {step.what} {ctx.spec.active_deadline_seconds} s (spec.activeDeadlineSeconds) after"
        f" {ctx.status.active_since}; create a new FineTuneJob with more time or with less to do"
    )
    return _failed(ctx, step, Reason.DEADLINE_EXCEEDED, said)


def waits_for_claims(ctx: Context) -> Plan | None:
    """A pod whose claim does not exist would wait without end and without a word."""
    step, result = _where(ctx)
    if not isinstance(result, NotStarted):
        return None
    needed = claims(ctx.spec) if ctx.status.start_time is None else step.claims(ctx.spec)
    for field, claim in needed:
        found = ctx.seen.get("PersistentVolumeClaim", claim)
        if found is not None and (found.get("status") or {}).get("phase") != "Lost":
            continue
        named = f"PersistentVolumeClaim '{claim}', which {field} names,"
        reason, said = (
            (Reason.CLAIM_NOT_FOUND, f"{named} does not exist in namespace '{ctx.seen.namespace}'; create it")
            if found is None
            else (Reason.CLAIM_LOST, f"{named} has lost its volume; restore the volume or create the claim again")
        )
        return Plan(
            status=status(ctx.seen, ctx.status, Verdict("Pending", reason, said), **{step.condition: no(reason, said)}),
            requeue_after=_soonest(CLAIM_RETRY_SECONDS, ctx.deadline_in),
        )
    return None


def starts(ctx: Context) -> Plan | None:
    """The start is recorded before anything is made: from then on the API server keeps the spec as it is."""
    if ctx.status.active_since is not None:
        return None
    step, _ = _where(ctx)
    now = timestamp(ctx.now)
    first = ctx.status.start_time is None
    reason, said = (
        (Reason.STARTING, f"{step.what} is next") if first else (Reason.RESUMING, f"going on with {step.what}")
    )
    recorded = ctx.status.model_copy(update={"start_time": ctx.status.start_time or now, "active_since": now})
    return Plan(status=status(ctx.seen, recorded, Verdict("Pending" if first else step.phase, reason, said)))


def a_step_runs(ctx: Context) -> Plan | None:
    """The step at hand gets what it needs, and status tells why it does not run, if it does not."""
    step, result = _where(ctx)
    run = result if isinstance(result, Running) else Running("Pending")
    recorded = _with_progress(ctx, step)
    reason, said = _why_running(step, run)
    if step is FIT and run.phase == "Running" and recorded.progress is not None:
        said = remarked(said, recorded.progress.remarks)
    mark = (yes if step is FIT and run.phase == "Running" else no)(reason, said)
    return Plan(
        apply=children.of_step(ctx, step),
        status=status(ctx.seen, recorded, Verdict(step.phase, reason, said), **{step.condition: mark}),
        requeue_after=_soonest(run.recheck_after, ctx.deadline_in),
    )


#: The life of a FineTuneJob. The first rule that gives a plan decides.
RULES: tuple[Rule, ...] = (
    is_being_deleted,
    # Complete or Failed: only clean up.
    is_over,
    spec_is_invalid,
    # What has ended is recorded, whatever is wanted by now.
    is_complete,
    a_step_has_failed,
    a_step_has_succeeded,
    # May it go on?
    does_not_fit,
    is_suspended,
    deadline_has_passed,
    waits_for_claims,
    # prepare, fit, publish: the first that is not recorded.
    starts,
    a_step_runs,
)


def plan(seen: Seen, now: datetime) -> Plan:
    """What should be, and what its status says of it."""
    ctx = Context(seen, now)
    return next(decided for rule in RULES if (decided := rule(ctx)) is not None)


def references(obj: Object, found: Found) -> frozenset[Wanted]:
    """The claims that the spec names, while they matter."""
    del found
    if is_true(obj, "Complete") or is_true(obj, "Failed") or problem(obj) is not None:
        return frozenset()
    spec = FineTuneJobSpec.model_validate(obj["spec"])
    return frozenset(Reference("PersistentVolumeClaim", claim) for _, claim in claims(spec))


def _where(ctx: Context) -> tuple[Step, StepResult]:
    """The step at hand, and how its run went so far."""
    step = next_step(ctx.status) or PUBLISH
    return step, read(ctx.seen, children.step_name(ctx.seen, step), ctx.now, step.memory_advice)


def _with_progress(ctx: Context, step: Step) -> FineTuneJobStatus:
    """What is recorded, with what a training that is not over tells of itself."""
    return reported(ctx, ctx.seen.one("Job", children.step_name(ctx.seen, step))) if step is FIT else ctx.status


def _failed(ctx: Context, step: Step, reason: str, message: str) -> Plan:
    """The end, in `step`. Children stay until their time is over, for whoever reads their logs."""
    recorded = _with_progress(ctx, step).model_copy(update={"completion_time": timestamp(ctx.now)})
    return Plan(
        status=status(
            ctx.seen,
            recorded,
            Verdict("Failed", reason, message, Health.STUCK),
            **{"Failed": yes(reason, message), step.condition: no(reason, message)},
        )
    )


def _why_running(step: Step, run: Running) -> tuple[str, str]:
    """Reason and message of a step that is at work, or would be if its pod ran."""
    if run.waiting is not None:
        return run.waiting.reason, run.waiting.message
    before = f": {run.failed.message}" if run.failed is not None else ""
    if run.phase != "Pending":
        return step.doing, step.what + (f"; tried again after a failed pod{before}" if before else "")
    if before:
        return Reason.RETRYING, f"the {step.role} pod failed and is tried again{before}"
    return Reason.POD_STARTING, f"the pod for {step.what} is starting"


def _why_suspended(recorded: FineTuneJobStatus, step: Step) -> str:
    if recorded.start_time is None:
        said = "suspended before it started"
    elif step is not FIT:
        said = f"suspended; {step.what} will begin again"
    elif recorded.checkpoint is None:
        said = "suspended before the first checkpoint; training will begin again"
    else:
        said = f"preempted at step {recorded.checkpoint.step}"
    return f"{said}; set spec.suspend to false to go on"


def _soonest(*seconds: float | None) -> float | None:
    return min((s for s in seconds if s is not None), default=None)


KIND_ROW = Kind(info=KIND, owns=(*children.OWNED, ("v1", "Pod")), references=references, plan=plan)
