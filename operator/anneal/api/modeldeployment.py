"""ModelDeployment: serves an artifact that an Evaluation passed, revision after revision, without a failed request."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import Field, model_validator

from anneal.api.conditions import Conditions
from anneal.api.kind import Column, KindInfo, Scale
from anneal.api.model import (
    SERVER_DEFAULT,
    ApiModel,
    Digest,
    ObjectName,
    Sentence,
    Timestamp,
    cel,
)
from anneal.api.references import LocalReference, PvcUri
from anneal.api.runtimes import RUNTIMES, VLLM, RuntimeName
from anneal.api.workloads import LabelKey, LabelValue, Resources, Scheduling

RevisionName = Annotated[str, Field(pattern=r"^[a-f0-9]{8,16}$", max_length=16)]


class LabelSelector(ApiModel):
    """Objects by their labels."""

    match_labels: dict[LabelKey, LabelValue] = Field(
        min_length=1, max_length=16, description="Labels that must all be there, with these values."
    )


class ModelSource(ApiModel):
    """The artifact to serve. Exactly one member is set."""

    ONE_OF = ("fineTuneJobRef", "selector")

    fine_tune_job_ref: LocalReference | None = Field(default=None, description="FineTuneJob whose artifact is served.")
    selector: LabelSelector | None = Field(
        default=None,
        description="Serve the newest artifact among these FineTuneJobs that an Evaluation passed: promotion without"
        " anyone editing YAML.",
    )


class PromotionGate(ApiModel):
    """What must be proven before an artifact is served."""

    evaluation_ref: LocalReference | None = Field(
        default=None,
        description="Evaluation whose verdict counts. Default: any Evaluation of this namespace for the same digest.",
    )
    max_age_seconds: int | None = Field(
        default=None,
        ge=1,
        le=315_360_000,
        description="Oldest verdict that counts when a revision is first served, in seconds. Default: any age.",
    )
    skip: bool = Field(
        default=False,
        description="True: serve without proof; shown in the Gate column and in status. Default: false.",
    )


class Triton(ApiModel):
    """NVIDIA Triton Inference Server; clients speak the KServe v2 protocol and Triton's generate endpoint."""

    max_batch_size: int = Field(
        default=8, ge=1, le=1024, description="Most requests answered in one batch. Default: 8."
    )


class ModelDeploymentSpec(ApiModel):
    """What to serve, on what proof, with what. Exactly one runtime is set."""

    ONE_OF = RUNTIMES

    model: ModelSource = Field(description="The artifact to serve.")
    gate: PromotionGate = Field(default_factory=PromotionGate, description="What must be proven first.")
    triton: Triton | None = Field(default=None, description="Runtime: NVIDIA Triton Inference Server.")
    vllm: VLLM | None = Field(default=None, description="Runtime: vLLM.")
    replicas: int = Field(
        default=1, ge=0, le=1000, json_schema_extra=SERVER_DEFAULT, description="Serving pods. Default: 1."
    )
    resources: Resources = Field(default_factory=Resources, description="What each serving pod asks for.")
    scheduling: Scheduling = Field(default_factory=Scheduling, description="Where the pods may run.")
    revision: RevisionName | None = Field(
        default=None,
        description="Serve this revision of status.revisions instead of the newest: rollback, until it is removed.",
    )
    revision_history_limit: int = Field(
        default=3, ge=0, le=20, description="Old revisions kept for rollback, without pods. Default: 3."
    )
    progress_deadline_seconds: int = Field(
        default=600,
        ge=1,
        le=86_400,
        description="A revision that is not ready after this long is given up; the one before it keeps serving, in"
        " seconds. Default: 600.",
    )


class Revision(ApiModel):
    """One artifact with the settings that it is served with."""

    name: RevisionName = Field(description="Hash of artifact, runtime, resources and scheduling; not of replicas.")
    runtime: RuntimeName = Field(default="triton", description="Runtime that it is served with.")
    fine_tune_job: ObjectName = Field(description="FineTuneJob that made the artifact.")
    artifact_uri: PvcUri = Field(description="Directory of the artifact.")
    digest: Digest = Field(description="Digest of the artifact.")
    base_uri: PvcUri = Field(description="Directory of the base model.")
    base_digest: Digest = Field(description="Digest of the base model.")
    evaluation: ObjectName | None = Field(default=None, description="Evaluation that passed it; absent if skipped.")
    approved_by: str | None = Field(
        default=None, max_length=128, description="Who approved that Evaluation, where its policy asks for it."
    )
    created_time: Timestamp = Field(description="When the revision was first planned, RFC 3339.")
    started_time: Timestamp | None = Field(
        default=None,
        description="When its pods were seen to be asked for, in the rollout at hand; progressDeadlineSeconds counts"
        " from here, RFC 3339.",
    )
    ready_time: Timestamp | None = Field(default=None, description="When it first answered, RFC 3339.")
    failed: bool = Field(default=False, description="Whether it was given up as never ready.")
    message: Sentence | None = Field(default=None, description="Why it was given up, in a sentence.")


class ModelDeploymentStatus(ApiModel):
    """What the operator has seen."""

    observed_generation: int = Field(default=0, ge=0, description="metadata.generation that this status speaks of.")
    phase: str | None = Field(
        default=None,
        max_length=32,
        description="For printing only: Pending, Progressing, Ready, Degraded or Failed.",
    )
    reason: str | None = Field(default=None, max_length=64, description="Why the object is in this phase, in a word.")
    message: Sentence | None = Field(default=None, description="Why the object is in this phase, in a sentence.")
    conditions: Conditions = Field(default_factory=list)
    gate: str | None = Field(
        default=None, max_length=32, description="For printing only: Passed, Skipped, Waiting or Refused."
    )
    url: str | None = Field(default=None, max_length=512, description="Where clients in the cluster ask the model.")
    digest: Digest | None = Field(default=None, description="Digest of the artifact that serves now.")
    serving_revision: RevisionName | None = Field(default=None, description="Revision that traffic goes to now.")
    target_revision: RevisionName | None = Field(default=None, description="Revision that is wanted.")
    replicas: int = Field(default=0, ge=0, description="Pods of the serving revision.")
    ready_replicas: int = Field(default=0, ge=0, description="Pods of it that answer.")
    selector: str | None = Field(
        default=None, max_length=512, description="Label selector of its pods, for autoscalers."
    )
    switched_time: Timestamp | None = Field(
        default=None, description="When traffic last moved to another revision, RFC 3339."
    )
    revisions: list[Revision] = Field(
        default_factory=list,
        max_length=24,
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]},
        description="Revisions, newest first.",
    )


ONE_EVALUATION_OR_MANY_JOBS = (
    "spec.gate.evaluationRef names one Evaluation and spec.model.selector follows many jobs; set only one"
)


class ModelDeployment(ApiModel):
    """Serves an artifact that an Evaluation passed, and rolls over to the next without a failed request."""

    spec: ModelDeploymentSpec = Field(description="What is wanted.")
    status: ModelDeploymentStatus | None = Field(default=None, description="What is. Written by the operator.")

    @model_validator(mode="after")
    def _one_evaluation_or_many_jobs(self) -> Self:
        if self.spec.model.selector is not None and self.spec.gate.evaluation_ref is not None:
            raise ValueError(ONE_EVALUATION_OR_MANY_JOBS)
        return self


KIND = KindInfo(
    kind="ModelDeployment",
    plural="modeldeployments",
    singular="modeldeployment",
    short_names=("mdep",),
    model=ModelDeployment,
    rules=(
        cel(
            "!(has(self.spec.model.selector) && has(self.spec.gate) && has(self.spec.gate.evaluationRef))",
            ONE_EVALUATION_OR_MANY_JOBS,
        ),
    ),
    columns=(
        Column("Phase", ".status.phase"),
        Column("Ready", ".status.readyReplicas", "integer"),
        Column("Wanted", ".spec.replicas", "integer"),
        Column("Gate", ".status.gate"),
        Column("Revision", ".status.servingRevision"),
        Column("Reason", ".status.reason"),
        Column("URL", ".status.url", priority=1),
        Column("Digest", ".status.digest", priority=1),
        Column("Message", ".status.message", priority=1),
        Column("Age", ".metadata.creationTimestamp", "date"),
    ),
    selectable_fields=(".status.phase", ".status.servingRevision"),
    scale=Scale(".spec.replicas", ".status.replicas", ".status.selector"),
)
