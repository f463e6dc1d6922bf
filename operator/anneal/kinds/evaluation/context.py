"""What the rules look at: the observation and the moment, read into the terms of the API once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import Any

from pydantic import ValidationError

from anneal.api.evaluation import CategoryRows, EvaluationSpec, EvaluationStatus
from anneal.api.finetunejob import Artifact
from anneal.kinds import pods, results
from anneal.kinds.contract import Object, Seen
from anneal.kinds.evaluation.children import Subject, name_of_job, subject_of
from anneal.kinds.evaluation.foresight import held_out_categories, held_out_rows, is_told, shortage
from anneal.kinds.evaluation.incumbents import deployments_of, incumbent_of
from anneal.kinds.evaluation.plugins import AtWork, at_work
from anneal.kinds.results import StepResult
from anneal.kinds.times import seconds_since
from anneal.kinds.upstream import artifact_of

MEMORY_ADVICE = "raise spec.resources.memory in a new Evaluation"
#: Fields of status that stay once they are there; the others are said anew in every pass.
RECORDED = (
    "startTime",
    "completionTime",
    "subjectUri",
    "subjectDigest",
    "baseUri",
    "baseDigest",
    "heldOutUri",
    "datasetDigest",
    "heldOutCount",
    "heldOutCategories",
    "heldOutCompared",
    "datasetUses",
    "trainingCost",
    "incumbents",
    "percent",
)


@dataclass(frozen=True)
class Context:
    """One pass over one Evaluation."""

    seen: Seen
    now: datetime

    @cached_property
    def spec(self) -> EvaluationSpec:
        """What is wanted. Only for rules after `spec_is_invalid`: raises ValidationError for a bad spec."""
        return EvaluationSpec.model_validate(self.seen.obj["spec"])

    @cached_property
    def status(self) -> EvaluationStatus:
        """What was recorded so far; empty when there is nothing that can be read."""
        try:
            return EvaluationStatus.model_validate(self.seen.status)
        except ValidationError:
            return EvaluationStatus()

    @property
    def recorded(self) -> Mapping[str, Any]:
        """The lasting fields of status as they are."""
        return {f: self.seen.status[f] for f in RECORDED if f in self.seen.status}

    @cached_property
    def subject(self) -> Subject | None:
        """What is judged, once that is recorded."""
        return subject_of(self.seen.status)

    @property
    def judged(self) -> Subject:
        """The same. Only for rules after `candidate_is_new`: raises ValidationError before that."""
        return Subject.model_validate(self.seen.status)

    @property
    def candidate_name(self) -> str:
        """The FineTuneJob whose artifact is judged."""
        return self.spec.candidate.fine_tune_job_ref.name

    @property
    def candidate(self) -> Object | None:
        """That FineTuneJob, if it exists."""
        return self.seen.get("FineTuneJob", self.candidate_name)

    @cached_property
    def newcomer(self) -> Artifact | None:
        """The candidate's artifact, until it is recorded as the subject."""
        return None if self.subject is not None or self.candidate is None else artifact_of(self.candidate)

    def subject_from(self, artifact: Artifact) -> Subject:
        """What is to be judged, by which rows, against what the incumbents are now. Raises ValueError: see there."""
        deployments = deployments_of(self.spec.baselines)
        incumbents = [
            incumbent_of(name, self.seen.get("ModelDeployment", deployment) or {}, artifact)
            for name, deployment in deployments.items()
        ]
        sealed = self.spec.sealed
        return Subject(
            subject_uri=artifact.uri,
            subject_digest=artifact.digest,
            base_uri=artifact.base_uri,
            base_digest=artifact.base_digest,
            held_out_uri=artifact.held_out_uri if sealed is None else sealed.uri,
            dataset_digest=artifact.held_out_digest if sealed is None else sealed.digest,
            incumbents=incumbents or None,
        )

    @property
    def others(self) -> tuple[Object, ...]:
        """The other Evaluations of the namespace, where they matter."""
        return tuple(e for e in self.seen.all("Evaluation") if e["metadata"]["uid"] != self.seen.uid)

    @property
    def held_out_rows(self) -> int | None:
        """Rows to judge with, as far as they are known: recorded, or those of the FineTuneJob; sealed ones are not."""
        if self.status.held_out_count is not None or self.candidate is None or self.spec.sealed is not None:
            return self.status.held_out_count
        return held_out_rows(self.candidate)

    @property
    def held_out_categories(self) -> list[CategoryRows]:
        """Of them those of categories that metrics are about, as far as they are known."""
        if self.status.held_out_categories is not None or self.candidate is None or self.spec.sealed is not None:
            return self.status.held_out_categories or []
        return held_out_categories(self.spec, self.candidate)

    @property
    def shortage(self) -> str | None:
        """Why these rows are too few, in a sentence; None when they are not or nobody knows how many they are."""
        return None if self.held_out_rows is None else shortage(self.spec, self.held_out_rows, self._rows_by_category)

    @property
    def is_power_known(self) -> bool:
        """Whether it is known of every gate how many rows it has."""
        return self.held_out_rows is not None and is_told(self.spec, self._rows_by_category)

    @property
    def _rows_by_category(self) -> dict[str, int]:
        return {category.name: category.rows for category in self.held_out_categories}

    @cached_property
    def run(self) -> StepResult:
        """How the pod's run went so far."""
        return results.read(self.seen, name_of_job(self.seen), self.now, MEMORY_ADVICE)

    @cached_property
    def pod(self) -> Object | None:
        """The newest pod that is not over."""
        job = self.seen.one("Job", name_of_job(self.seen))
        running = [p for p in results.pods_of(self.seen, job) if not pods.is_over(p)] if job is not None else []
        return running[-1] if running else None

    @cached_property
    def plugin(self) -> AtWork | None:
        """The plugin that scores right now, while its Job is not over."""
        return at_work(self.pod, self.spec.metrics, self.now) if isinstance(self.run, results.Running) else None

    @property
    def deadline_in(self) -> float | None:
        """Seconds until activeDeadlineSeconds is over; None without one or before the start."""
        limit, since = self.spec.active_deadline_seconds, self.status.start_time
        return None if limit is None or since is None else limit - seconds_since(since, self.now)
