"""FineTuneJob: data and a base model in, an artifact with a digest out."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from anneal.api.conditions import Conditions
from anneal.api.dataset import Dataset, DatasetStatus
from anneal.api.estimate import Estimate
from anneal.api.kind import Column, KindInfo
from anneal.api.methods import METHODS, Contents, Full, Lora, Method, QLora
from anneal.api.model import (
    ApiModel,
    Digest,
    Quantity,
    Rule,
    Sentence,
    Timestamp,
    immutable_after_start,
)
from anneal.api.references import CopyUri, PvcUri
from anneal.api.sources import BaseModelSource, Mirror, Resolved
from anneal.api.tracking import Tracking, TrackingStatus
from anneal.api.training import CheckpointStatus, Progress, Training, TrainingStatus
from anneal.api.workloads import Resources, Scheduling


class TrainingResources(Resources):
    """What the training pods ask for."""

    RULES = (
        Rule(
            cel="!has(self.processesPerNode) || !has(self.accelerator) ||"
            " self.processesPerNode == (has(self.accelerator.perNode) ? self.accelerator.perNode : 1)",
            holds=lambda resources: (
                resources.accelerator is None or resources.processes == resources.accelerator.per_node
            ),
            message="resources.processesPerNode must be resources.accelerator.perNode:"
            " one process for each accelerator",
        ),
    )

    nodes: int = Field(
        default=1,
        ge=1,
        le=64,
        description="Training pods that work on each step together. Needs workspace.accessMode ReadWriteMany when more"
        " than 1. Default: 1.",
    )
    processes_per_node: int | None = Field(
        default=None,
        ge=1,
        le=64,
        description="Training processes in each pod; with accelerators exactly one for each, which is also the"
        " default. Default: 1 without accelerators.",
    )

    @property
    def processes(self) -> int:
        """Training processes in each pod."""
        return self.processes_per_node or (self.accelerator.per_node if self.accelerator is not None else 1)


class Workspace(ApiModel):
    """Scratch space of the job: prepared data and checkpoints. Deleted with the object."""

    storage_class_name: str | None = Field(
        default=None,
        max_length=253,
        description="StorageClass of the claim. Default: the cluster's default class.",
    )
    size: Quantity = Field(default="10Gi", description="Size of the claim, in bytes. Default: 10Gi.")
    access_mode: Literal["ReadWriteOnce", "ReadWriteMany", "ReadWriteOncePod"] = Field(
        default="ReadWriteOnce", description="Access mode of the claim. Default: ReadWriteOnce."
    )


class Planner(ApiModel):
    """What is done with the estimate of memory that is made before training takes its pod, and what it may choose."""

    policy: Literal["Enforce", "Warn"] = Field(
        default="Enforce",
        description="Enforce: a training that is known not to fit fails before its pod is asked for; Warn: it is tried,"
        " and status.estimate says so. Default: Enforce.",
    )
    strategy: Literal["Auto", "DDP", "HSDP", "FSDP"] = Field(
        default="Auto",
        description="How training is spread over its processes. DDP: each has the whole model; HSDP: those of a pod"
        " share one copy of the weights; FSDP: all share one. Auto: the first of them that fits. Default: Auto.",
    )


class Output(ApiModel):
    """Where the artifact is published."""

    uri: PvcUri = Field(
        description="Directory, pvc://claim/path. Each artifact gets a folder of its own below it, named by its"
        " digest; status.artifact.uri has the whole name. What is there already is never overwritten."
    )
    merge: bool = Field(
        default=False,
        description="True: the adapter is added to the base's weights and a whole model is published, in the base's own"
        " precision, never in 4 bits. Publishing then needs the memory that training asks for. Default: false, the"
        " adapter alone.",
    )
    mirror: Mirror | None = Field(
        default=None, description="Where the artifact is copied to after that. Default: none, there is no copy."
    )


#: Parts of rules, in CEL: the strategy asked for, the pods of training, and the processes of each.
_STRATEGY = "(has(self.planner) && has(self.planner.strategy) ? self.planner.strategy : 'Auto')"
_NODES = "(has(self.resources) && has(self.resources.nodes) ? self.resources.nodes : 1)"
_PROCESSES = (
    "(!has(self.resources) ? 1 : has(self.resources.processesPerNode) ? self.resources.processesPerNode :"
    " has(self.resources.accelerator) && has(self.resources.accelerator.perNode) ?"
    " self.resources.accelerator.perNode : 1)"
)


class FineTuneJobSpec(ApiModel):
    """What to train, on what, how, and where to put it. Exactly one method is set."""

    ONE_OF = METHODS
    RULES = (
        Rule(
            cel="!has(self.resources) || !has(self.resources.nodes) || self.resources.nodes == 1 ||"
            " (has(self.workspace) && has(self.workspace.accessMode) && self.workspace.accessMode == 'ReadWriteMany')",
            holds=lambda spec: spec.resources.nodes == 1 or spec.workspace.access_mode == "ReadWriteMany",
            message="resources.nodes above 1 needs workspace.accessMode ReadWriteMany: all pods read and write there",
        ),
        Rule(
            f"!({_STRATEGY} in ['HSDP', 'FSDP'] && has(self.qlora))",
            lambda spec: spec.planner.strategy not in ("HSDP", "FSDP") or spec.qlora is None,
            "planner.strategy must be DDP or Auto with qlora: 4-bit weights cannot be dealt out over processes, since"
            " their scales lie apart from them; use lora",
        ),
        Rule(
            f"!({_STRATEGY} in ['HSDP', 'FSDP'] && has(self.full) && has(self.full.optimizer) &&"
            " self.full.optimizer == 'AdamW8bit')",
            lambda spec: (
                spec.planner.strategy not in ("HSDP", "FSDP") or spec.full is None or spec.full.optimizer != "AdamW8bit"
            ),
            "planner.strategy must be DDP or Auto with full.optimizer AdamW8bit: its moments share scales in blocks of"
            " 256, which weights that are dealt out over processes cut through; use AdamW",
        ),
        Rule(
            f"{_STRATEGY} != 'FSDP' || {_NODES} > 1 || {_PROCESSES} > 1",
            lambda spec: spec.planner.strategy != "FSDP" or spec.resources.nodes * spec.resources.processes > 1,
            "planner.strategy FSDP needs several processes: raise resources.nodes or resources.accelerator.perNode",
        ),
        Rule(
            f"{_STRATEGY} != 'HSDP' || ({_NODES} > 1 && {_PROCESSES} > 1)",
            lambda spec: spec.planner.strategy != "HSDP" or (spec.resources.nodes > 1 and spec.resources.processes > 1),
            "planner.strategy HSDP needs several pods of several processes each: use FSDP",
        ),
        Rule(
            "!(has(self.full) && has(self.output.merge) && self.output.merge)",
            lambda spec: not (spec.full is not None and spec.output.merge),
            "output.merge is for adapters: full fine-tuning publishes a whole model anyway, remove it",
        ),
    )

    model: BaseModelSource = Field(description="The base model.")
    dataset: Dataset = Field(description="The examples.")
    lora: Lora | None = Field(default=None, description="Method: train a low-rank adapter.")
    qlora: QLora | None = Field(default=None, description="Method: train a low-rank adapter on a 4-bit base.")
    full: Full | None = Field(default=None, description="Method: train every weight.")
    training: Training = Field(default_factory=Training, description="Hyperparameters that all methods share.")
    resources: TrainingResources = Field(
        default_factory=TrainingResources, description="What the training pods ask for."
    )
    planner: Planner = Field(
        default_factory=Planner, description="What is done with the estimate of memory, and how training is spread."
    )
    scheduling: Scheduling = Field(default_factory=Scheduling, description="Where pods may run.")
    workspace: Workspace = Field(default_factory=Workspace, description="Scratch space of the job.")
    output: Output = Field(description="Where the artifact goes.")
    tracking: Tracking = Field(
        default_factory=Tracking, description="Who else is told of the training once it has ended."
    )
    suspend: bool = Field(
        default=False,
        description="True: training saves a checkpoint and gives its pods back; false: it goes on. Default: false.",
    )
    active_deadline_seconds: int | None = Field(
        default=None,
        ge=1,
        le=31_536_000,
        description="The job fails when it has run this long, in seconds. Default: none.",
    )
    backoff_limit: int = Field(
        default=3,
        ge=0,
        le=100,
        description="Failed pods of one step before the job fails; preemptions do not count. Default: 3.",
    )
    ttl_seconds_after_finished: int | None = Field(
        default=None,
        ge=0,
        le=31_536_000,
        description="Children (pods, workspace) are deleted this long after the end, in seconds; the object and the"
        " artifact stay. Default: children stay with the object.",
    )

    @property
    def method(self) -> Method:
        return Method(lora=self.lora, qlora=self.qlora, full=self.full)

    @property
    def contents(self) -> Contents:
        """What is published."""
        return "Model" if self.full is not None or self.output.merge else "Adapter"


class BaseModelStatus(ApiModel):
    """The base model as it was found."""

    uri: PvcUri | None = Field(
        default=None, description="Directory that it was fetched to; absent when spec.model.uri is a directory itself."
    )
    digest: Digest = Field(description="Digest over the files of the base model.")
    chat_template_hash: Digest = Field(description="Digest of the chat template that rows are written with.")


class Artifact(ApiModel):
    """A trained model, where it is and what it is made of. Immutable: another model has another digest."""

    uri: PvcUri = Field(description="Directory of the artifact.")
    mirror_uri: CopyUri | None = Field(
        default=None,
        description="The copy, where spec.output.mirror asks for one: its folder of objects, or its image by digest.",
    )
    digest: Digest = Field(description="Digest over the manifest of its files, its base and its chat template.")
    contents: Contents = Field(
        default="Adapter", description="Adapter: it needs its base beside it. Model: it stands alone."
    )
    base_uri: PvcUri = Field(description="Directory of the base model that it was tuned from.")
    base_digest: Digest = Field(description="Digest of that base model.")
    chat_template_hash: Digest = Field(description="Digest of the chat template that it was trained with.")
    size_bytes: int = Field(ge=0, description="Size of the files, in bytes.")
    held_out_uri: PvcUri = Field(description="JSON Lines file of the held-out rows, published beside the model.")
    held_out_digest: Digest = Field(description="Digest of that file.")
    held_out_count: int = Field(ge=0, description="Rows in that file.")


class Usage(ApiModel):
    """What the job has cost so far."""

    preemptions: int = Field(default=0, ge=0, description="Times that training was interrupted and went on.")
    accelerator_seconds: int = Field(
        default=0, ge=0, description="Accelerators times seconds in training steps; 0 on CPU."
    )
    cost: str | None = Field(
        default=None,
        max_length=64,
        description="Accelerator time times the price that the operator is told, with its currency.",
    )


class FineTuneJobStatus(ApiModel):
    """What the operator has seen."""

    observed_generation: int = Field(default=0, ge=0, description="metadata.generation that this status speaks of.")
    phase: str | None = Field(
        default=None,
        max_length=32,
        description="For printing only: Pending, Preparing, Training, Publishing, Suspended, Complete or Failed.",
    )
    reason: str | None = Field(default=None, max_length=64, description="Why the object is in this phase, in a word.")
    message: Sentence | None = Field(default=None, description="Why the object is in this phase, in a sentence.")
    conditions: Conditions = Field(default_factory=list)
    start_time: Timestamp | None = Field(default=None, description="When the first pod was asked for, RFC 3339.")
    active_since: Timestamp | None = Field(
        default=None,
        description="Since when activeDeadlineSeconds counts: the start or the last resume, RFC 3339.",
    )
    completion_time: Timestamp | None = Field(default=None, description="When the job ended, RFC 3339.")
    progress: Progress | None = Field(default=None, description="How far training is.")
    resolved: Resolved | None = Field(
        default=None, description="What the changeable names in spec stood for when they were first looked up."
    )
    model: BaseModelStatus | None = Field(default=None, description="The base model as found.")
    dataset: DatasetStatus | None = Field(default=None, description="The data as prepared.")
    estimate: Estimate | None = Field(default=None, description="What training was expected to need.")
    training: TrainingStatus | None = Field(default=None, description="Training as it ended.")
    checkpoint: CheckpointStatus | None = Field(default=None, description="The newest checkpoint.")
    artifact: Artifact | None = Field(default=None, description="The published model.")
    tracking: TrackingStatus | None = Field(default=None, description="Whether spec.tracking could be followed.")
    usage: Usage | None = Field(default=None, description="What the job has cost so far.")


class FineTuneJob(ApiModel):
    """Fine-tunes a base model on examples and publishes the result as an artifact with a digest."""

    spec: FineTuneJobSpec = Field(description="What is wanted.")
    status: FineTuneJobStatus | None = Field(default=None, description="What is. Written by the operator.")


KIND = KindInfo(
    kind="FineTuneJob",
    plural="finetunejobs",
    singular="finetunejob",
    short_names=("ftj",),
    model=FineTuneJob,
    rules=(
        *immutable_after_start(
            "model",
            "dataset",
            *METHODS,
            "training",
            "resources",
            "planner",
            "scheduling",
            "workspace",
            "output",
            "tracking",
        ),
    ),
    columns=(
        Column("Phase", ".status.phase"),
        Column("Progress", ".status.progress.percent", "integer", description="Percent of training steps done."),
        Column("ETA", ".status.progress.etaSeconds", "integer", description="Seconds to the end of training."),
        Column("Loss", ".status.progress.loss"),
        Column("Reason", ".status.reason"),
        Column("Base", ".spec.model.uri", priority=1),
        Column(
            "GPU-h", ".status.estimate.acceleratorHours", priority=1, description="Accelerator hours, as estimated."
        ),
        Column("Cost", ".status.estimate.cost", priority=1, description="Cost of them, as estimated."),
        Column("Artifact", ".status.artifact.uri", priority=1),
        Column("Message", ".status.message", priority=1),
        Column("Age", ".metadata.creationTimestamp", "date"),
    ),
    selectable_fields=(".spec.model.uri", ".spec.suspend", ".status.phase"),
)
