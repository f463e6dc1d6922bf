"""What the rules look at: the observation and the moment, read into the terms of a rollout once.

Traffic is where the stable Service points, and that is *seen*, never remembered: `serving` is what its selector says.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from functools import cached_property

from pydantic import ValidationError

from anneal.api.modeldeployment import ModelDeploymentSpec, ModelDeploymentStatus, Revision
from anneal.api.runtimes import RuntimeName
from anneal.kinds import pods
from anneal.kinds.contract import Object, Seen
from anneal.kinds.modeldeployment.children import REVISION, object_name, revision_name, stable_name
from anneal.kinds.modeldeployment.promotion import (
    Contender,
    Promotion,
    Proof,
    contender_of,
    let_in,
    promote,
    skipped,
)
from anneal.kinds.modeldeployment.serving import chosen
from anneal.kinds.times import seconds_since

#: How long the revision that traffic left keeps its pods, in seconds: rules of every node follow the Service by then.
DRAIN_SECONDS = 30.0
#: A container that was started again this often will most likely fail again.
CRASH_LOOP = 3
MEMORY_ADVICE = "raise spec.resources.memory"


@dataclass(frozen=True)
class Counts:
    """The pods of one revision, by its Deployment."""

    wanted: int
    """What the Deployment is asked for."""
    replicas: int = 0
    ready: int = 0
    updated: int = 0
    is_current: bool = False
    """Whether the Deployment's controller has seen its newest spec."""


def status_in(obj: Object) -> ModelDeploymentStatus:
    """The status of a raw object; empty when there is none that can be read."""
    try:
        return ModelDeploymentStatus.model_validate(obj.get("status") or {})
    except ValidationError:
        return ModelDeploymentStatus()


@dataclass(frozen=True)
class Context:
    """One pass over one ModelDeployment."""

    seen: Seen
    now: datetime

    @cached_property
    def spec(self) -> ModelDeploymentSpec:
        """What is wanted. Only for rules after `spec_is_invalid`: raises ValidationError for a bad spec."""
        return ModelDeploymentSpec.model_validate(self.seen.obj["spec"])

    @cached_property
    def status(self) -> ModelDeploymentStatus:
        """What was recorded so far."""
        return status_in(self.seen.obj)

    @property
    def revisions(self) -> tuple[Revision, ...]:
        """As recorded, newest first."""
        return tuple(self.status.revisions)

    def recorded(self, name: str | None) -> Revision | None:
        return next((r for r in self.revisions if r.name == name), None)

    def runtime_of(self, revision: str) -> RuntimeName:
        """What serves a revision; of one that is forgotten, what serves today."""
        recorded = self.recorded(revision)
        return recorded.runtime if recorded is not None else chosen(self.spec).name

    # What serves.

    @property
    def service(self) -> Object | None:
        """The stable Service, if it is ours."""
        return self.seen.one("Service", stable_name(self.seen.name))

    @property
    def name_is_taken(self) -> bool:
        """Whether somebody else has a Service of that name."""
        found = self.seen.get("Service", stable_name(self.seen.name))
        owners = found["metadata"].get("ownerReferences", ()) if found is not None else ()
        return found is not None and not any(o.get("controller") and o["uid"] == self.seen.uid for o in owners)

    @cached_property
    def serving(self) -> str | None:
        """The revision that traffic goes to."""
        selector = (self.service or {}).get("spec", {}).get("selector") or {}
        return selector.get(REVISION) or self.status.serving_revision

    @property
    def has_just_switched(self) -> bool:
        """Whether that is not recorded yet."""
        return self.serving is not None and self.serving != self.status.serving_revision

    @property
    def drain_left(self) -> float:
        """Seconds that the revision which traffic left must keep its pods; 0 when it need not."""
        if self.has_just_switched:
            return DRAIN_SECONDS
        if self.status.switched_time is None:
            return 0.0
        return max(0.0, DRAIN_SECONDS - seconds_since(self.status.switched_time, self.now))

    # What is wanted.

    @cached_property
    def promotion(self) -> Promotion:
        """The artifact that should serve, and whether it may."""
        return promote(self.spec, self.revisions, self.seen.found, self.now, self.name_for)

    @cached_property
    def proof(self) -> Proof:
        """Why the wanted revision may be served or not; a pinned one brings its own."""
        if (pinned := self.recorded(self.spec.revision)) is not None:
            return let_in(pinned) or skipped()
        return self.promotion.proof

    @cached_property
    def newcomer(self) -> Contender | None:
        """An artifact that may be served, with settings that it was not recorded with yet."""
        contender = self.promotion.contender
        if self.spec.revision is not None or contender is None or not self.promotion.proof.is_open:
            return None
        return contender if self.recorded(self.name_for(contender)) is None else None

    @cached_property
    def target(self) -> Revision | None:
        """The recorded revision that traffic should go to, or that it stays with while nothing newer may be served."""
        if self.spec.revision is not None:
            pinned = self.recorded(self.spec.revision)
            return pinned if pinned is not None and self.can_run(pinned) else self.recorded(self.serving)
        contender = self.promotion.contender
        if contender is not None and self.promotion.proof.is_open:
            return self.recorded(self.name_for(contender)) or self._underway
        return self._underway

    @property
    def pin_is_unknown(self) -> bool:
        pinned = self.recorded(self.spec.revision)
        return self.spec.revision is not None and (pinned is None or not self.can_run(pinned))

    @property
    def is_retried(self) -> bool:
        """Whether a revision that was given up has just been pinned: its user wants another try."""
        is_new_spec = self.status.observed_generation != self.seen.generation
        return self.target is not None and self.target.failed and self.target.name == self.spec.revision and is_new_spec

    def name_for(self, contender: Contender) -> str:
        """Name of the revision that serves it with today's settings."""
        return revision_name(self.seen, self.spec, contender)

    def is_today(self, revision: Revision) -> bool:
        """Whether today's settings are those of the revision, so that its children can be made anew."""
        return self.name_for(contender_of(revision)) == revision.name

    def can_run(self, revision: Revision) -> bool:
        """Whether its Deployment is there or can be made."""
        return self.deployment(revision.name) is not None or self.is_today(revision)

    @property
    def _underway(self) -> Revision | None:
        """What was wanted last, as long as it is proven; else what serves."""
        last = self.recorded(self.status.target_revision)
        if last is not None and self.can_run(last) and (last.evaluation is not None or self.spec.gate.skip):
            return last
        return self.recorded(self.serving)

    # How far it is.

    def deployment(self, revision: str) -> Object | None:
        """The Deployment of a revision, unless it is going."""
        found = self.seen.one("Deployment", object_name(self.seen, revision))
        return found if found is not None and "deletionTimestamp" not in found["metadata"] else None

    def counts(self, revision: str) -> Counts:
        """How many pods of a revision there are."""
        deployment = self.deployment(revision)
        if deployment is None:
            return Counts(0)
        status = deployment.get("status") or {}
        return Counts(
            wanted=int(deployment["spec"].get("replicas", 1)),
            replicas=int(status.get("replicas", 0)),
            ready=int(status.get("readyReplicas", 0)),
            updated=int(status.get("updatedReplicas", 0)),
            is_current=int(status.get("observedGeneration", 0)) >= int(deployment["metadata"].get("generation", 1)),
        )

    def is_available(self, revision: str) -> bool:
        """Whether all pods that the spec wants are there, of its newest template, and answer."""
        seen, wanted = self.counts(revision), self.spec.replicas
        return seen.is_current and seen.wanted == wanted and seen.updated >= wanted and seen.ready >= wanted

    def trouble(self, revision: str) -> str | None:
        """Why pods of a revision do not answer, in their own words."""
        crash = self.crash(revision)
        if crash is not None:
            return crash.message + (" (it keeps failing)" if crash.restarts >= CRASH_LOOP else "")
        waiting = next((w for p in self._unready(revision) if (w := pods.waiting(p, self.now)) is not None), None)
        if waiting is not None:
            return waiting.message
        conditions = ((self.deployment(revision) or {}).get("status") or {}).get("conditions", ())
        refused = (c for c in conditions if c.get("type") == "ReplicaFailure" and c.get("status") == "True")
        return next((f"its pods are refused: {c.get('message')}" for c in refused), None)

    def crash(self, revision: str) -> pods.Crash | None:
        """The container that failed most often in a pod of a revision that is not ready."""
        crashes = [c for p in self._unready(revision) for c in pods.crashes(p, MEMORY_ADVICE)]
        return max(crashes, key=lambda c: (not c.retryable, c.restarts), default=None)

    @cached_property
    def given_up(self) -> str | None:
        """Why the target is not waited for any more, if it is not; None for one that serves."""
        target = self.target
        if target is None or target.name == self.serving or self.is_retried:
            return None
        if target.failed:
            return target.message or "its pods did not answer in time"
        if self.is_available(target.name):
            return None
        crash, trouble = self.crash(target.name), self.trouble(target.name)
        if crash is not None and not crash.retryable:
            return crash.message
        if self.progress_left(target) > 0:
            return None
        limit = self.spec.progress_deadline_seconds
        late = f"its pods did not answer within {limit} s (spec.progressDeadlineSeconds)"
        return f"{late}: {trouble}" if trouble else late

    def progress_left(self, revision: Revision) -> float:
        """Seconds until a revision that is not ready is given up.

        Neither a time without an operator nor the age of a revision that is rolled back to uses them up.
        """
        return self.spec.progress_deadline_seconds - seconds_since(revision.started_time, self.now)

    def is_started(self, revision: str) -> bool:
        """Whether its Deployment is asked for all pods that the spec wants."""
        return self.deployment(revision) is not None and self.counts(revision).wanted == self.spec.replicas

    def _unready(self, revision: str) -> list[Object]:
        """Pods of a revision that do not answer, newest first, without those that are going."""
        mine = [p for p in self.seen.of_kind("Pod") if p["metadata"].get("labels", {}).get(REVISION) == revision]
        unready = [p for p in mine if not _is_ready(p) and "deletionTimestamp" not in p["metadata"]]
        return sorted(unready, key=lambda p: p["metadata"].get("creationTimestamp") or "", reverse=True)


def _is_ready(pod: Object) -> bool:
    conditions = (pod.get("status") or {}).get("conditions", ())
    return any(c.get("type") == "Ready" and c.get("status") == "True" for c in conditions)
