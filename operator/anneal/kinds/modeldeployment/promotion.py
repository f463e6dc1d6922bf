"""Which artifact may be served: the one that the spec names or selects, on the proof that the spec demands.

A verdict is about a digest. What counts is therefore never the name of an Evaluation but the digest that it judged.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from anneal.api.conditions import is_true
from anneal.api.modeldeployment import ModelDeploymentSpec, PromotionGate, Revision
from anneal.kinds.contract import Found, Listing, Object, Reference, Wanted
from anneal.kinds.modeldeployment.reasons import Reason
from anneal.kinds.times import seconds_since
from anneal.kinds.upstream import approval_of, artifact_of, claims_of, failure_of, waits_for_approval

ALL_EVALUATIONS = Listing("Evaluation")


@dataclass(frozen=True)
class Contender:
    """An artifact that could be served."""

    fine_tune_job: str
    artifact_uri: str
    digest: str
    base_uri: str
    base_digest: str

    @property
    def claims(self) -> tuple[str, ...]:
        """Claims that its pods mount."""
        return claims_of(self.artifact_uri, self.base_uri)


#: Name of the revision that serves an artifact with today's settings.
NameFor = Callable[[Contender], str]


@dataclass(frozen=True)
class Proof:
    """Whether an artifact may be served, and why."""

    gate: Literal["Passed", "Skipped", "Waiting", "Refused"]
    reason: Reason
    message: str
    evaluation: str | None = None
    approved_by: str | None = None

    @property
    def is_open(self) -> bool:
        return self.gate in ("Passed", "Skipped")


@dataclass(frozen=True)
class Promotion:
    """The artifact to serve and its proof; or none, and a proof that says what is missing."""

    contender: Contender | None
    proof: Proof


def wanted(spec: ModelDeploymentSpec) -> frozenset[Wanted]:
    """The objects that decide it."""
    jobs = (
        Reference("FineTuneJob", spec.model.fine_tune_job_ref.name)
        if spec.model.fine_tune_job_ref is not None
        else _selected(spec)
    )
    if spec.gate.skip:
        return frozenset({jobs})
    ref = spec.gate.evaluation_ref
    return frozenset({jobs, ALL_EVALUATIONS if ref is None else Reference("Evaluation", ref.name)})


def contenders(spec: ModelDeploymentSpec, revisions: Iterable[Revision], found: Found) -> tuple[Contender, ...] | Proof:
    """Artifacts that the spec names or selects, the one to prefer first; or what is missing."""
    ref = spec.model.fine_tune_job_ref
    return _selection(spec, found) if ref is None else _named(ref.name, revisions, found)


def promote(
    spec: ModelDeploymentSpec, revisions: tuple[Revision, ...], found: Found, now: datetime, name_for: NameFor
) -> Promotion:
    """The first contender with a proof; without any, the first and why it has none."""
    candidates = contenders(spec, revisions, found)
    if isinstance(candidates, Proof):
        return Promotion(None, candidates)
    tried = []
    for contender in candidates:
        recorded = _recorded(spec.gate, contender.digest, revisions, name_for(contender))
        tried.append(Promotion(contender, _prove(spec.gate, contender.digest, recorded, found, now)))
    return next((p for p in tried if p.proof.is_open), tried[0])


def _prove(gate: PromotionGate, digest: str, recorded: Proof | None, found: Found, now: datetime) -> Proof:
    if gate.skip:
        return skipped()
    if recorded is not None:
        return recorded
    ref = gate.evaluation_ref
    if ref is not None:
        evaluation = found.get(Reference("Evaluation", ref.name))
        if not isinstance(evaluation, Mapping):
            said = f"There is no Evaluation '{ref.name}' (spec.gate.evaluationRef) in this namespace"
            return Proof("Waiting", Reason.EVALUATION_NOT_FOUND, f"{said}; the artifact is served when it has passed.")
        return _judged(evaluation, digest, gate, now)
    listed = found.get(ALL_EVALUATIONS)
    evaluations = listed if isinstance(listed, tuple) else ()
    about = [_judged(e, digest, gate, now) for e in evaluations if _digest(e) == digest]
    if about:
        return min(about, key=lambda proof: _TELLING.index(proof.reason))
    said = f"No Evaluation in this namespace has judged artifact {short(digest)}; create one, or set spec.gate.skip"
    return Proof("Waiting", Reason.EVALUATION_NOT_FOUND, said)


def let_in(revision: Revision) -> Proof | None:
    """The proof that was recorded with a revision; None when it was served without."""
    return None if revision.evaluation is None else _open(revision.evaluation, revision.digest, revision.approved_by)


def _open(evaluation: str, digest: str, approved_by: str | None) -> Proof:
    said = f"Evaluation '{evaluation}' passed artifact {short(digest)}."
    if approved_by is not None:
        said = f"Evaluation '{evaluation}', approved by {approved_by}, lets artifact {short(digest)} be served."
    return Proof("Passed", Reason.EVALUATION_PASSED, said, evaluation, approved_by)


def skipped() -> Proof:
    return Proof("Skipped", Reason.GATE_SKIPPED, "Served without proof, as spec.gate.skip demands.")


def short(digest: str) -> str:
    """A digest as people compare it: sha256 and the first 12 hex digits."""
    return digest[: len("sha256:") + 12]


#: Of several evaluations of one digest, the one that tells most: a pass, then what may still become one.
_TELLING = (
    Reason.EVALUATION_PASSED,
    Reason.AWAITING_APPROVAL,
    Reason.EVALUATION_NOT_FINISHED,
    Reason.EVALUATION_TOO_OLD,
    Reason.VERDICT_INCONCLUSIVE,
    Reason.VERDICT_FAILED,
    Reason.EVALUATION_FAILED,
)


def _recorded(gate: PromotionGate, digest: str, revisions: Iterable[Revision], name: str) -> Proof | None:
    """The proof that let that digest in before, if that still counts for the revision of that name.

    The age of a proof is a question when a revision is first served: a further revision of the same digest is asked
    again under maxAgeSeconds, a revision that is recorded never is.
    """
    for revision in revisions:
        is_asked_for = gate.evaluation_ref is None or gate.evaluation_ref.name == revision.evaluation
        is_fresh = gate.max_age_seconds is None or revision.name == name
        if revision.digest == digest and is_asked_for and is_fresh and (proof := let_in(revision)) is not None:
            return proof
    return None


def _judged(evaluation: Object, digest: str, gate: PromotionGate, now: datetime) -> Proof:
    """What one Evaluation says of that digest."""
    name, status = evaluation["metadata"]["name"], _status(evaluation)
    subject = _digest(evaluation)
    if subject is not None and subject != digest:
        said = f"Evaluation '{name}' judged artifact {short(subject)}, but the one to serve is {short(digest)}"
        return Proof("Refused", Reason.DIGEST_MISMATCH, f"{said}; evaluate that one.")
    if (why := failure_of(evaluation)) is not None:
        return Proof("Refused", Reason.EVALUATION_FAILED, f"Evaluation '{name}' reached no verdict: {why}")
    if subject is None or not is_true(evaluation, "Complete"):
        said = f"Evaluation '{name}' is not finished (phase {status.get('phase', 'Pending')})."
        return Proof("Waiting", Reason.EVALUATION_NOT_FINISHED, said)
    approval = approval_of(evaluation)
    if waits_for_approval(evaluation) and approval is None:
        said = f"Evaluation '{name}' of artifact {short(digest)} ended {status.get('verdict')} and waits for a person's"
        return Proof("Waiting", Reason.AWAITING_APPROVAL, f"{said} approval; its condition Approved says how.")
    if status.get("verdict") != "Passed" and not waits_for_approval(evaluation):
        reason = Reason.VERDICT_FAILED if status.get("verdict") == "Failed" else Reason.VERDICT_INCONCLUSIVE
        said = f"Evaluation '{name}' did not pass artifact {short(digest)}: {status.get('message', '')}"
        return Proof("Refused", reason, said)
    age = seconds_since(status.get("completionTime"), now)
    valid_for = ((evaluation.get("spec") or {}).get("policy") or {}).get("validForSeconds")
    for limit, field in ((gate.max_age_seconds, "spec.gate.maxAgeSeconds"), (valid_for, "its policy.validForSeconds")):
        if limit is not None and age > limit:
            said = (
                f"Evaluation '{name}' passed artifact {short(digest)} at {status.get('completionTime')}, which is"
                f" longer ago than {limit} s ({field}); evaluate it again."
            )
            return Proof("Refused", Reason.EVALUATION_TOO_OLD, said)
    return _open(name, digest, approval.by if approval is not None else None)


def _named(name: str, revisions: Iterable[Revision], found: Found) -> tuple[Contender, ...] | Proof:
    """The job's artifact; of a job that was deleted, what was recorded of it."""
    job = found.get(Reference("FineTuneJob", name))
    if not isinstance(job, Mapping):
        recorded = next((r for r in revisions if r.fine_tune_job == name), None)
        if recorded is not None:
            return (contender_of(recorded),)
        said = f"There is no FineTuneJob '{name}' in this namespace; its artifact is served when it is there."
        return Proof("Waiting", Reason.FINE_TUNE_JOB_NOT_FOUND, said)
    if (why := failure_of(job)) is not None:
        return Proof("Refused", Reason.FINE_TUNE_JOB_FAILED, f"FineTuneJob '{name}' failed: {why}")
    contender = _contender(job)
    if contender is None:
        said = f"FineTuneJob '{name}' has no artifact yet (phase {_status(job).get('phase', 'Pending')})."
        return Proof("Waiting", Reason.FINE_TUNE_JOB_NOT_FINISHED, said)
    return (contender,)


def _selection(spec: ModelDeploymentSpec, found: Found) -> tuple[Contender, ...] | Proof:
    listed = found.get(_selected(spec))
    jobs = listed if isinstance(listed, tuple) else ()
    newest = sorted(jobs, key=lambda j: (_status(j).get("completionTime") or "", j["metadata"]["name"]), reverse=True)
    complete = tuple(c for j in newest if (c := _contender(j)) is not None)
    if complete:
        return complete
    labels = ", ".join(f"{k}={v}" for k, v in _selected(spec).labels)
    said = f"No FineTuneJob with labels {labels} is complete ({len(jobs)} have them)."
    return Proof("Waiting", Reason.NOTHING_SELECTED, said)


def _selected(spec: ModelDeploymentSpec) -> Listing:
    labels = spec.model.selector.match_labels if spec.model.selector is not None else {}
    return Listing("FineTuneJob", tuple(sorted(labels.items())))


def _contender(job: Object) -> Contender | None:
    if (artifact := artifact_of(job)) is None:
        return None
    return Contender(job["metadata"]["name"], artifact.uri, artifact.digest, artifact.base_uri, artifact.base_digest)


def contender_of(revision: Revision) -> Contender:
    """The artifact of a revision, whatever became of the job that made it."""
    return Contender(
        revision.fine_tune_job, revision.artifact_uri, revision.digest, revision.base_uri, revision.base_digest
    )


def _digest(evaluation: Object) -> str | None:
    digest = _status(evaluation).get("subjectDigest")
    return str(digest) if digest else None


def _status(obj: Object) -> Mapping[str, Any]:
    status: Mapping[str, Any] = obj.get("status") or {}
    return status
