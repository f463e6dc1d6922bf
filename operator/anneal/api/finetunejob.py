"""FineTuneJob: data and a base model in, an artifact with a digest out."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from anneal.api.conditions import Conditions
from anneal.api.kind import Column, KindInfo
from anneal.api.model import (
    ApiModel,
    Decimal,
    Digest,
    Quantity,
    Sentence,
    Timestamp,
    immutable_after_start,
)
from anneal.api.references import PvcUri, SourceUri
from anneal.api.workloads import Resources, Scheduling

#: The fine-tuning methods, each an optional member of the spec. A further method is a further name here.
METHODS = ("lora",)

DataFormat = Literal["Auto", "Messages", "PromptCompletion", "Alpaca"]


class BaseModelSource(ApiModel):
    """The model to start from."""

    uri: PvcUri = Field(
        description="Directory of a Hugging Face model (config.json, *.safetensors, tokenizer): pvc://claim/path."
    )


class DatasetSource(ApiModel):
    """One JSONL file of examples."""

    uri: SourceUri = Field(description="JSON Lines file: pvc://claim/path or https://host/path.")
    format: DataFormat = Field(
        default="Auto",
        description="Messages ({messages:[{role,content}]}), PromptCompletion ({prompt, completion} or {prompt,"
        " response}), Alpaca ({instruction, input, output}), or Auto: detected row by row. Default: Auto.",
    )


class DatasetExpectations(ApiModel):
    """What the data must be like for the job to go on."""

    min_examples: int = Field(
        default=10, ge=1, le=1_000_000, description="Fewest valid training rows, in rows. Default: 10."
    )
    max_invalid_rows: int = Field(
        default=0,
        ge=0,
        le=1_000_000,
        description="Rows that may be invalid before the job fails, in rows; invalid rows are left out and"
        " reported with their line. Default: 0.",
    )


class DatasetSplit(ApiModel):
    """The rows that are kept from training, for the Evaluation to judge with."""

    held_out: int = Field(
        default=150,
        ge=0,
        le=100_000,
        description="Held-out rows, drawn at random by seed, in rows. Default: 150.",
    )
    seed: int = Field(default=42, ge=0, le=2_147_483_647, description="Seed of the draw. Default: 42.")


class Dataset(ApiModel):
    """The examples to learn from."""

    sources: list[DatasetSource] = Field(
        min_length=1,
        max_length=16,
        json_schema_extra={"x-kubernetes-list-type": "atomic"},
        description="Files to read, in order; together they are one dataset.",
    )
    expect: DatasetExpectations = Field(
        default_factory=DatasetExpectations,
        description="Limits after which the job fails instead of going on.",
    )
    split: DatasetSplit = Field(default_factory=DatasetSplit, description="The held-out split.")
    system_prompt: str | None = Field(
        default=None,
        max_length=8192,
        description="System message put before rows that have none, in training and in evaluation. Default: none.",
    )


class Lora(ApiModel):
    """Low-rank adaptation (Hu et al. 2021): the base stays frozen, small matrices beside its layers learn."""

    rank: int = Field(default=16, ge=1, le=512, description="Rank of the adapter matrices. Default: 16.")
    alpha: int = Field(
        default=32, ge=1, le=4096, description="Scale: updates are multiplied by alpha / rank. Default: 32."
    )
    dropout: Decimal = Field(default="0", description="Probability of dropping an adapter input, 0 to 1. Default: 0.")
    target_modules: list[Annotated[str, Field(min_length=1, max_length=256)]] = Field(
        default_factory=list,
        max_length=64,
        json_schema_extra={"x-kubernetes-list-type": "atomic"},
        description="Names (suffixes) of the linear layers to adapt. Default: every linear layer but the head.",
    )


class CheckpointPolicy(ApiModel):
    """When training saves what it needs to go on after an interruption."""

    every_steps: int = Field(
        default=100,
        ge=1,
        le=1_000_000,
        description="Steps between two checkpoints, in optimizer steps. Default: 100.",
    )
    keep: int = Field(default=2, ge=1, le=100, description="Newest complete checkpoints to keep. Default: 2.")


class Training(ApiModel):
    """How to learn."""

    epochs: int | None = Field(
        default=None,
        ge=1,
        le=1000,
        description="Passes over the training rows. Default: 1 unless maxSteps is set.",
    )
    max_steps: int | None = Field(
        default=None, ge=1, le=10_000_000, description="Optimizer steps to do; instead of epochs."
    )
    learning_rate: Decimal = Field(default="2e-4", description='Peak learning rate, such as "2e-4". Default: 2e-4.')
    schedule: Literal["Constant", "Linear", "Cosine"] = Field(
        default="Cosine", description="How the learning rate falls after warm-up. Default: Cosine."
    )
    warmup_steps: int = Field(
        default=10,
        ge=0,
        le=1_000_000,
        description="Steps over which the learning rate rises, in steps. Default: 10.",
    )
    weight_decay: Decimal = Field(default="0", description="AdamW weight decay. Default: 0.")
    max_grad_norm: Decimal = Field(default="1.0", description="Gradient norm is clipped to this. Default: 1.0.")
    tokens_per_step: int = Field(
        default=8192,
        ge=1,
        le=67_108_864,
        description="Tokens of each optimizer step, over all ranks; what others call batch size. Default: 8192.",
    )
    max_length: int = Field(
        default=2048,
        ge=8,
        le=1_048_576,
        description="Longest row, in tokens; longer rows count as invalid and are reported. Default: 2048.",
    )
    precision: Literal["Auto", "BF16", "FP32"] = Field(
        default="Auto",
        description="Arithmetic: Auto is BF16 on accelerators that have it, else FP32. Default: Auto.",
    )
    seed: int = Field(
        default=42,
        ge=0,
        le=2_147_483_647,
        description="Seed of row order, dropout and initialisation. Default: 42.",
    )
    checkpoint: CheckpointPolicy = Field(default_factory=CheckpointPolicy, description="When and what to save.")


class TrainingResources(Resources):
    """What the training pods ask for."""

    nodes: int = Field(default=1, ge=1, le=1, description="Training pods; one is supported. Default: 1.")


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


class Output(ApiModel):
    """Where the artifact is published."""

    uri: PvcUri = Field(
        description="Directory, pvc://claim/path. Each artifact gets a folder of its own below it, named by its"
        " digest; status.artifact.uri has the whole name. What is there already is never overwritten."
    )


class FineTuneJobSpec(ApiModel):
    """What to train, on what, how, and where to put it. Exactly one method is set."""

    ONE_OF = METHODS

    model: BaseModelSource = Field(description="The base model.")
    dataset: Dataset = Field(description="The examples.")
    lora: Lora | None = Field(default=None, description="Method: train a low-rank adapter.")
    training: Training = Field(default_factory=Training, description="Hyperparameters that all methods share.")
    resources: TrainingResources = Field(
        default_factory=TrainingResources, description="What the training pods ask for."
    )
    scheduling: Scheduling = Field(default_factory=Scheduling, description="Where pods may run.")
    workspace: Workspace = Field(default_factory=Workspace, description="Scratch space of the job.")
    output: Output = Field(description="Where the artifact goes.")
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


class Progress(ApiModel):
    """How far training is. Lossy: a gap loses nothing but this view."""

    percent: int = Field(default=0, ge=0, le=100, description="Steps done, in percent.")
    eta_seconds: int | None = Field(default=None, ge=0, description="Expected time to the end, in seconds.")
    step: int = Field(default=0, ge=0, description="Optimizer steps done.")
    total_steps: int = Field(default=0, ge=0, description="Optimizer steps in all.")
    loss: str | None = Field(default=None, max_length=32, description="Mean loss per answer token of late steps.")
    tokens_per_second: int | None = Field(default=None, ge=0, description="Training throughput, in tokens/s.")


class DatasetCounts(ApiModel):
    """Where the rows went."""

    read: int = Field(default=0, ge=0, description="Rows read from all sources.")
    invalid: int = Field(default=0, ge=0, description="Rows left out as invalid.")
    train: int = Field(default=0, ge=0, description="Rows to train on.")
    held_out: int = Field(default=0, ge=0, description="Rows kept for evaluation.")
    train_tokens: int = Field(default=0, ge=0, description="Tokens of the training rows, one pass.")


class DatasetStatus(ApiModel):
    """The data as it was prepared."""

    digest: Digest = Field(description="Digest of the prepared training rows.")
    test_digest: Digest = Field(description="Digest of the held-out rows.")
    counts: DatasetCounts = Field(description="Where the rows went.")


class BaseModelStatus(ApiModel):
    """The base model as it was found."""

    digest: Digest = Field(description="Digest over the files of the base model.")
    chat_template_hash: Digest = Field(description="Digest of the chat template that rows are written with.")


class TrainingStatus(ApiModel):
    """Training as it ended."""

    steps: int = Field(ge=0, description="Optimizer steps done.")
    loss: str = Field(max_length=32, description="Mean loss per answer token over the last steps.")
    tokens: int = Field(ge=0, description="Tokens trained on, all epochs.")
    seconds: int = Field(ge=0, description="Time spent in training steps, in seconds, over all attempts.")


class CheckpointStatus(ApiModel):
    """The newest checkpoint that training spoke of."""

    step: int = Field(ge=0, description="Optimizer step that training goes on from.")
    time: Timestamp | None = Field(default=None, description="When it was saved, RFC 3339.")


class Artifact(ApiModel):
    """A trained model, where it is and what it is made of. Immutable: another model has another digest."""

    uri: PvcUri = Field(description="Directory of the artifact.")
    digest: Digest = Field(description="Digest over the manifest of its files, its base and its chat template.")
    base_uri: PvcUri = Field(description="Directory of the base model that it needs.")
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
    model: BaseModelStatus | None = Field(default=None, description="The base model as found.")
    dataset: DatasetStatus | None = Field(default=None, description="The data as prepared.")
    training: TrainingStatus | None = Field(default=None, description="Training as it ended.")
    checkpoint: CheckpointStatus | None = Field(default=None, description="The newest checkpoint.")
    artifact: Artifact | None = Field(default=None, description="The published model.")
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
    rules=tuple(
        immutable_after_start(
            "model", "dataset", *METHODS, "training", "resources", "scheduling", "workspace", "output"
        )
    ),
    columns=(
        Column("Phase", ".status.phase"),
        Column("Progress", ".status.progress.percent", "integer", description="Percent of training steps done."),
        Column("ETA", ".status.progress.etaSeconds", "integer", description="Seconds to the end of training."),
        Column("Loss", ".status.progress.loss"),
        Column("Reason", ".status.reason"),
        Column("Base", ".spec.model.uri", priority=1),
        Column("Artifact", ".status.artifact.uri", priority=1),
        Column("Message", ".status.message", priority=1),
        Column("Age", ".metadata.creationTimestamp", "date"),
    ),
    selectable_fields=(".spec.model.uri", ".spec.suspend", ".status.phase"),
)
