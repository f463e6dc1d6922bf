"""What should be of an Evaluation: a chain of rules, read from the top; the first that fires says why.

The candidate's artifact is recorded in status before anything is made. From then on the Evaluation is about that
digest, whatever becomes of the FineTuneJob.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from anneal.api.conditions import is_true
from anneal.api.evaluation import KIND, Evaluation, EvaluationSpec
from anneal.kinds import pods, results
from anneal.kinds.conditions import Health, Verdict, condition_of, status_of
from anneal.kinds.contract import Delete, Found, Kind, Object, Plan, Reference, Seen, Wanted
from anneal.kinds.evaluation import approval, custody
from anneal.kinds.evaluation.children import claims_needed, desired, subject_of
from anneal.kinds.evaluation.context import MEMORY_ADVICE, Context
from anneal.kinds.evaluation.incumbents import deployments_of, incumbent_of
from anneal.kinds.evaluation.judgement import judge
from anneal.kinds.evaluation.marks import APPROVED, COMPLETE, FAILED, marks
from anneal.kinds.evaluation.plugins import RESPOND
from anneal.kinds.evaluation.reasons import Reason
from anneal.kinds.evaluation.schemas import unusable_schema
from anneal.kinds.modeldeployment.serving.runtime import SERVER
from anneal.kinds.times import seconds_since, timestamp
from anneal.kinds.upstream import artifact_of, failure_of, training_cost
from anneal.kinds.validation import problem
from anneal.kinds.vendors import kin_of, vendor_of

#: Claims are not watched, so they are looked for again after this long, in seconds.
CLAIM_RETRY = 15.0
#: How often the server may be started again before the Evaluation gives up.
SERVER_RESTARTS = 3

OWNS = (("v1", "ConfigMap"), ("batch/v1", "Job"), ("v1", "Pod"))
_VERDICTS = {
    "Passed": Reason.GATES_PASSED,
    "Failed": Reason.GATES_FAILED,
    "Inconclusive": Reason.GATES_INCONCLUSIVE,
}


@dataclass(frozen=True)
class Decision:
    """What a rule says: the verdict, what to record with it, and what to make."""

    verdict: Verdict
    updates: Mapping[str, Any] = field(default_factory=dict)
    apply: tuple[Object, ...] = ()
    requeue_after: float | None = None


Rule = Callable[[Context], Decision | None]


def references(obj: Object, found: Found) -> frozenset[Wanted]:
    """The candidate until it is recorded, then its claims until the end; and who else judges by the same rows."""
    if is_finished(obj) or problem(obj, Evaluation) is not None:
        return frozenset()
    subject, spec = subject_of(obj.get("status") or {}), EvaluationSpec.model_validate(obj["spec"])
    if subject is None:
        deployments = {Reference("ModelDeployment", name) for name in deployments_of(spec.baselines).values()}
        job = Reference("FineTuneJob", spec.candidate.fine_tune_job_ref.name)
        return frozenset({job, *deployments, custody.EVALUATIONS})
    claims = {Reference("PersistentVolumeClaim", claim) for claim in claims_needed(spec, subject)}
    return frozenset({*claims, *([custody.EVALUATIONS] if spec.sealed else [])})


def plan(seen: Seen, now: datetime) -> Plan:
    """The whole plan for one Evaluation. Finished is final: then only children are cleaned up."""
    if is_finished(seen.obj):
        return _finished(seen, now)
    ctx = Context(seen, now)
    decision = next(d for rule in RULES if (d := rule(ctx)) is not None)
    ended = decision.verdict.phase in (COMPLETE, FAILED)
    recorded = {**ctx.recorded, **decision.updates, **({"completionTime": timestamp(now)} if ended else {})}
    waits = [s for s in (decision.requeue_after, None if ended else _deadline_in(ctx)) if s is not None]
    return Plan(
        apply=decision.apply,
        status=status_of(seen, decision.verdict, marks(ctx, decision.verdict, recorded), recorded),
        requeue_after=min(waits, default=None),
    )


def is_finished(obj: Object) -> bool:
    """Whether the Evaluation has ended, with a verdict or without."""
    return is_true(obj, COMPLETE) or is_true(obj, FAILED)


# The rules, in order. Each returns None when it has nothing to say.


def spec_is_invalid(ctx: Context) -> Decision | None:
    if (wrong := problem(ctx.seen.obj, Evaluation) or unusable_schema(ctx.spec)) is None:
        return None
    return Decision(Verdict("Pending", Reason.INVALID_SPEC, f"{wrong}; correct it and apply again", Health.STUCK))


def candidate_is_missing(ctx: Context) -> Decision | None:
    if ctx.subject is not None or ctx.candidate is not None:
        return None
    said = f"There is no FineTuneJob '{ctx.candidate_name}' in this namespace; the evaluation starts when it is there."
    return Decision(Verdict("Pending", Reason.CANDIDATE_NOT_FOUND, said))


def candidate_has_failed(ctx: Context) -> Decision | None:
    if ctx.subject is not None or ctx.candidate is None or (why := failure_of(ctx.candidate)) is None:
        return None
    said = f"FineTuneJob '{ctx.candidate_name}' failed, so there is nothing to judge: {why}"
    return Decision(_failed(Reason.CANDIDATE_FAILED, said))


def candidate_is_not_finished(ctx: Context) -> Decision | None:
    if ctx.subject is not None or ctx.candidate is None or artifact_of(ctx.candidate) is not None:
        return None
    phase = (ctx.candidate.get("status") or {}).get("phase", "Pending")
    said = f"FineTuneJob '{ctx.candidate_name}' has no artifact yet (phase {phase}); the evaluation starts when it has."
    return Decision(Verdict("Pending", Reason.CANDIDATE_NOT_FINISHED, said))


def held_out_is_empty(ctx: Context) -> Decision | None:
    if ctx.newcomer is None or ctx.newcomer.held_out_count > 0 or ctx.spec.sealed is not None:
        return None
    said = (
        f"FineTuneJob '{ctx.candidate_name}' kept no rows from training, so there is nothing to judge with;"
        " set spec.dataset.split.heldOut of a new FineTuneJob (150 or more) and train again"
    )
    return Decision(_failed(Reason.HELD_OUT_EMPTY, said))


def incumbent_is_missing(ctx: Context) -> Decision | None:
    if ctx.newcomer is None:
        return None
    for name, deployment in deployments_of(ctx.spec.baselines).items():
        where = f"ModelDeployment '{deployment}' (baseline '{name}')"
        if (seen := ctx.seen.get("ModelDeployment", deployment)) is None:
            said = f"There is no {where} in this namespace; the evaluation starts when it is there."
            return Decision(Verdict("Pending", Reason.INCUMBENT_NOT_FOUND, said))
        try:
            incumbent_of(name, seen, ctx.newcomer)
        except ValueError as error:
            said = f"What {where} serves cannot be told: {error}; the evaluation starts when it can."
            return Decision(Verdict("Pending", Reason.INCUMBENT_NOT_FOUND, said))
    return None


def judge_is_contestant(ctx: Context) -> Decision | None:
    """Said before the start, while the spec can still be corrected."""
    if ctx.newcomer is None or ctx.candidate is None or ctx.spec.judge is None:
        return None
    contestants = {b.name: b.hosted.model for b in ctx.spec.baselines if b.hosted is not None}
    contestants["candidate"] = str(ctx.candidate["spec"]["model"]["uri"])
    contestants |= {i.name: i.base_uri for i in ctx.subject_from(ctx.newcomer).incumbents or ()}
    if (kin := kin_of(ctx.spec.judge.model, contestants)) is None:
        return None
    said = (
        f"The judge {ctx.spec.judge.model} and {kin} ({contestants[kin]}) are of one family,"
        f" {vendor_of(contestants[kin])}, and judges prefer their own; choose a judge of another family and apply again"
    )
    return Decision(Verdict("Pending", Reason.JUDGE_IS_CONTESTANT, said, Health.STUCK))


def sealed_rows_are_used(ctx: Context) -> Decision | None:
    """Before the start, and once more when it is recorded: two Evaluations may have started at once."""
    order: tuple[str, str] | None = None
    if ctx.spec.sealed is None:
        return None
    if ctx.newcomer is not None:
        subject = ctx.subject_from(ctx.newcomer)
    elif ctx.subject is not None and isinstance(ctx.run, results.NotStarted):
        subject, order = ctx.subject, (ctx.status.start_time or "", ctx.seen.uid)
    else:
        return None
    if (first := custody.earlier(ctx.others, subject.dataset_digest, subject.subject_digest, order)) is None:
        return None
    said = (
        f"Evaluation '{first['metadata']['name']}' judges this candidate by the sealed rows {subject.held_out_uri}"
        " already, and they judge a candidate once: go by its verdict, or judge by other rows (spec.sealed)."
    )
    return Decision(_failed(Reason.SEALED_ROWS_USED, said))


def rows_are_too_few(ctx: Context) -> Decision | None:
    """Before anything is made, and before the candidate is trained if its data is known by then."""
    if ctx.subject is not None or ctx.spec.policy.on_under_powered == "Warn" or ctx.shortage is None:
        return None
    advice = (
        "Hold out more rows in a new FineTuneJob (spec.dataset.split), demand less, or set policy.onUnderPowered: Warn"
    )
    return Decision(_failed(Reason.UNDER_POWERED, f"{ctx.shortage} {advice}"))


def candidate_is_new(ctx: Context) -> Decision | None:
    """Recorded, with what the incumbents are now, before anything is made; with startTime, which freezes the spec."""
    if ctx.newcomer is None:
        return None
    subject = ctx.subject_from(ctx.newcomer)
    updates = {
        **subject.to_json(),
        **(
            {"heldOutCount": ctx.newcomer.held_out_count}
            if ctx.spec.sealed is None
            else {"heldOutCompared": custody.is_compared(ctx.candidate, subject.dataset_digest)}
        ),
        **({"heldOutCategories": [c.to_json() for c in counted]} if (counted := ctx.held_out_categories) else {}),
        **({"trainingCost": paid} if (paid := training_cost(ctx.candidate)) is not None else {}),
        "datasetUses": custody.uses(ctx.others, subject.dataset_digest),
        "startTime": timestamp(ctx.now),
    }
    said = f"The artifact of FineTuneJob '{ctx.candidate_name}' is recorded and will be judged."
    return Decision(Verdict("Pending", Reason.CANDIDATE_RECORDED, said), updates, requeue_after=1.0)


def run_has_failed(ctx: Context) -> Decision | None:
    if not isinstance(ctx.run, results.Failed):
        return None
    return Decision(_failed(ctx.run.reason, ctx.run.message))


def run_has_succeeded(ctx: Context) -> Decision | None:
    if not isinstance(ctx.run, results.Succeeded):
        return None
    if ctx.run.result.evaluate is None:
        said = f"The evaluator ended well but judged nothing: {ctx.run.result.message or 'it says no more'}"
        return Decision(_failed(Reason.NOT_JUDGED, said))
    try:
        judgement = judge(ctx.spec, ctx.judged, ctx.run.result.evaluate, ctx.status.training_cost)
    except ValueError as error:
        return Decision(_failed(Reason.RESULT_UNREADABLE, f"The evaluator's result does not fit this object: {error}"))
    verdict = Verdict(COMPLETE, _VERDICTS[judgement.verdict], judgement.message, Health.SETTLED)
    return Decision(verdict, {**judgement.fields, "percent": 100})


def deadline_has_passed(ctx: Context) -> Decision | None:
    left = ctx.deadline_in
    if left is None or left > 0:
        return None
    limit = ctx.spec.active_deadline_seconds
    said = f"Not done {limit} s after the start (spec.activeDeadlineSeconds); {_where(ctx)}"
    return Decision(_failed(Reason.DEADLINE_EXCEEDED, said))


def plugin_is_late(ctx: Context) -> Decision | None:
    if ctx.plugin is None or ctx.plugin.seconds_left > 0:
        return None
    said = (
        f"The plugin of metric {ctx.plugin.metric} was not done after {ctx.plugin.plugin.timeout_seconds} s, so nothing"
        " is judged; allow more (timeoutSeconds of the plugin) in a new Evaluation. Answers are kept."
    )
    return Decision(_failed(Reason.PLUGIN_TIMED_OUT, said))


def claim_is_missing(ctx: Context) -> Decision | None:
    if not isinstance(ctx.run, results.NotStarted):
        return None
    for claim in claims_needed(ctx.spec, ctx.judged):
        if ctx.seen.get("PersistentVolumeClaim", claim) is None:
            said = f"PersistentVolumeClaim '{claim}' does not exist in this namespace; create it with the files in it"
            return Decision(Verdict("Pending", Reason.CLAIM_NOT_FOUND, said), requeue_after=CLAIM_RETRY)
    return None


def server_keeps_failing(ctx: Context) -> Decision | None:
    crash = _server_crash(ctx)
    if crash is None or crash.restarts < SERVER_RESTARTS:
        return None
    said = f"The server did not stay up and was started again {crash.restarts} times: {crash.message}"
    return Decision(_failed(Reason.SERVER_FAILED, said))


def is_starting(ctx: Context) -> Decision | None:
    if not isinstance(ctx.run, results.NotStarted):
        return None
    return _at_work(ctx, Verdict("Pending", Reason.STARTING, "The evaluation's pod is being created."))


def server_has_failed(ctx: Context) -> Decision | None:
    if (crash := _server_crash(ctx)) is None:
        return None
    said = f"The server failed and is started again: {crash.message}"
    return _at_work(ctx, Verdict("Evaluating", Reason.RETRYING, said))


def pod_waits(ctx: Context) -> Decision | None:
    run = ctx.run
    if not isinstance(run, results.Running) or run.waiting is None:
        return None
    return _at_work(ctx, Verdict("Pending", run.waiting.reason, run.waiting.message))


def rows_are_asked(ctx: Context) -> Decision | None:
    """By an init container, where plugins score what it has asked: the pod does not count as running yet."""
    return is_evaluating(ctx) if ctx.pod is not None and pods.running_since(ctx.pod, RESPOND) is not None else None


def plugin_is_scoring(ctx: Context) -> Decision | None:
    if ctx.plugin is None:
        return None
    said = f"All rows are asked; the plugin of metric {ctx.plugin.metric} scores the answers."
    return _at_work(ctx, Verdict("Evaluating", Reason.SCORING, said))


def pod_has_failed(ctx: Context) -> Decision | None:
    run = ctx.run
    if not isinstance(run, results.Running) or run.failed is None or run.phase == "Running":
        return None
    # After a mistake of the user the Job makes no other pod: it is over as soon as its controller has seen this one.
    last = run.failed.result is not None and not run.failed.result.retryable
    said = f"The last try failed{'' if last else ' and the next one begins'}: {run.failed.message}"
    return _at_work(ctx, Verdict("Pending", Reason.RETRYING, said))


def server_is_starting(ctx: Context) -> Decision | None:
    if not isinstance(ctx.run, results.Running) or ctx.run.phase == "Running":
        return None
    said = "The server verifies digests and loads the models; questions are asked when every model answers."
    return _at_work(ctx, Verdict("Pending", Reason.SERVER_STARTING, said))


def is_evaluating(ctx: Context) -> Decision:
    models = ["the candidate", *(f"baseline '{b.name}'" for b in ctx.spec.baselines)]
    said = f"The held-out rows are asked of {' and '.join(models)}."
    return _at_work(ctx, Verdict("Evaluating", Reason.EVALUATING, said))


RULES: tuple[Rule, ...] = (
    spec_is_invalid,
    candidate_is_missing,
    candidate_has_failed,
    rows_are_too_few,
    candidate_is_not_finished,
    held_out_is_empty,
    incumbent_is_missing,
    judge_is_contestant,
    sealed_rows_are_used,
    candidate_is_new,
    run_has_failed,
    run_has_succeeded,
    deadline_has_passed,
    plugin_is_late,
    claim_is_missing,
    server_keeps_failing,
    is_starting,
    server_has_failed,
    pod_waits,
    rows_are_asked,
    plugin_is_scoring,
    pod_has_failed,
    server_is_starting,
    is_evaluating,
)


def _failed(reason: str, message: str) -> Verdict:
    return Verdict(FAILED, reason, message, Health.STUCK)


def _at_work(ctx: Context, verdict: Verdict) -> Decision:
    """The children as they should be, and how far the answers are."""
    percent = ctx.seen.progress.percent if ctx.seen.progress else ctx.status.percent
    rechecks = [ctx.run.recheck_after if isinstance(ctx.run, results.Running) else None]
    rechecks += [ctx.plugin.seconds_left] if ctx.plugin is not None else []
    return Decision(
        verdict,
        {} if percent is None else {"percent": percent},
        desired(ctx.seen, ctx.spec, ctx.judged),
        min((s for s in rechecks if s is not None), default=None),
    )


def _deadline_in(ctx: Context) -> float | None:
    """Seconds to a deadline that is still to come; one that passed while the candidate was away waits for it."""
    left = ctx.deadline_in if problem(ctx.seen.obj, Evaluation) is None else None
    return left if left is not None and left > 0 else None


def _server_crash(ctx: Context) -> pods.Crash | None:
    """How the server of the newest pod failed, if it did while its pod goes on."""
    crashes = pods.crashes(ctx.pod, MEMORY_ADVICE) if ctx.pod is not None else ()
    return next((c for c in crashes if c.container == SERVER), None)


def _where(ctx: Context) -> str:
    """How far a run was that did not end in time, and what may help."""
    if isinstance(ctx.run, results.Running) and ctx.run.waiting is not None:
        return ctx.run.waiting.message
    return f"{ctx.status.percent or 0} % of the answers were there; allow more time or ask for more resources"


def _finished(seen: Seen, now: datetime) -> Plan:
    """Status as it is, but for a person's approval; what still runs is ended, and in time the rest is deleted."""
    status = {**seen.status, **approval.recorded(seen.obj, now)}
    approved = condition_of(seen, APPROVED, approval.mark({**seen.obj, "status": status})).to_json()
    by_type = {c["type"]: c for c in (*status["conditions"], approved)}
    conditions = [{**c, "observedGeneration": seen.generation} for c in by_type.values()]
    unfinished = [j for j in seen.of_kind("Job") if not results.is_finished(j)]
    ttl = (seen.obj.get("spec") or {}).get("ttlSecondsAfterFinished")
    left = None if ttl is None else ttl - seconds_since(status.get("completionTime"), now)
    is_due = left is not None and left <= 0
    going = [*seen.of_kind("Job"), *seen.of_kind("ConfigMap")] if is_due else unfinished
    return Plan(
        delete=tuple(_delete(child) for child in going),
        status={**status, "observedGeneration": seen.generation, "conditions": conditions},
        requeue_after=None if is_due else left,
    )


def _delete(child: Object) -> Delete:
    api_version = next(version for version, kind in OWNS if kind == child["kind"])
    return Delete(api_version, child["kind"], child["metadata"]["name"], child["metadata"]["uid"])


KIND_ROW = Kind(info=KIND, owns=OWNS, references=references, plan=plan)
