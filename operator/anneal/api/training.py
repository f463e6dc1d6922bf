"""Training: the hyperparameters that all methods share, and how far it is."""

from __future__ import annotations

from decimal import Decimal as Number
from typing import Annotated, Literal

from pydantic import Field

from anneal.api.methods import Method
from anneal.api.model import ApiModel, Decimal, Rule, Timestamp


class CheckpointPolicy(ApiModel):
    """When training saves what it needs to go on after an interruption."""

    every_steps: int = Field(
        default=100,
        ge=1,
        le=1_000_000,
        description="Steps between two checkpoints, in optimizer steps. Default: 100.",
    )
    keep: int = Field(default=2, ge=1, le=100, description="Newest complete checkpoints to keep. Default: 2.")


class Validation(ApiModel):
    """Training rows that are set aside to see how well others are learned; the best step by them is published.

    They are taken from the training side: the held-out rows, which judge the artifact, are never used.
    """

    ONE_OF = ("rows", "fraction")
    RULES = (
        Rule(
            "!has(self.fraction) || (double(self.fraction) > 0.0 && double(self.fraction) <= 0.5)",
            lambda validation: validation.fraction is None or 0 < Number(validation.fraction) <= Number("0.5"),
            'fraction must be more than 0 and at most 0.5, such as "0.1"',
        ),
    )

    rows: int | None = Field(default=None, ge=1, le=1_000_000, description="How many; instead of fraction.")
    fraction: Decimal | None = Field(
        default=None, description="Share of the training rows, more than 0 and at most 0.5; instead of rows."
    )
    every_steps: int = Field(
        default=50,
        ge=1,
        le=1_000_000,
        description="Steps between two validations, in optimizer steps; the last step is always followed by one."
        " Default: 50.",
    )


class EarlyStopping(ApiModel):
    """When training ends because it gains nothing any more."""

    patience: int = Field(
        default=3, ge=1, le=1000, description="Validations in a row without a gain, after which it ends. Default: 3."
    )
    min_delta: Decimal = Field(
        default="0", description="What the validation loss must fall by to be a gain. Default: 0."
    )


class Training(ApiModel):
    """How to learn."""

    RULES = (
        Rule(
            "!(has(self.epochs) && has(self.maxSteps))",
            lambda training: training.epochs is None or training.max_steps is None,
            "epochs and maxSteps contradict each other: set only one of them",
        ),
        Rule(
            "!(has(self.warmupSteps) && has(self.warmupRatio))",
            lambda training: training.warmup_steps is None or training.warmup_ratio is None,
            "warmupSteps and warmupRatio contradict each other: set only one of them",
        ),
        Rule(
            "!has(self.warmupRatio) || double(self.warmupRatio) <= 1.0",
            lambda training: training.warmup_ratio is None or Number(training.warmup_ratio) <= 1,
            'warmupRatio must be from 0 to 1, such as "0.03"',
        ),
        Rule(
            "!has(self.earlyStopping) || has(self.validation)",
            lambda training: training.early_stopping is None or training.validation is not None,
            "earlyStopping needs validation: without it there is no loss to tell when nothing is gained",
        ),
    )

    epochs: int | None = Field(
        default=None,
        ge=1,
        le=1000,
        description="Passes over the training rows. Default: 1 unless maxSteps is set.",
    )
    max_steps: int | None = Field(
        default=None, ge=1, le=10_000_000, description="Optimizer steps to do; instead of epochs."
    )
    learning_rate: Decimal | None = Field(
        default=None,
        description='Peak learning rate, such as "2e-4". Default: 2e-4 with lora and qlora, 2e-5 with full.',
    )
    schedule: Literal["Constant", "Linear", "Cosine"] = Field(
        default="Cosine", description="How the learning rate falls after warm-up. Default: Cosine."
    )
    warmup_steps: int | None = Field(
        default=None,
        ge=0,
        le=1_000_000,
        description="Steps over which the learning rate rises, in steps. Default: 10 unless warmupRatio is set.",
    )
    warmup_ratio: Decimal | None = Field(
        default=None,
        description="Share of all steps over which the learning rate rises, 0 to 1; instead of warmupSteps.",
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
    validation: Validation | None = Field(
        default=None, description="Rows set aside to choose the best step by. Default: none, the last is published."
    )
    early_stopping: EarlyStopping | None = Field(
        default=None, description="When to end before the last step. Default: never."
    )
    checkpoint: CheckpointPolicy = Field(default_factory=CheckpointPolicy, description="When and what to save.")

    def settled(self, method: Method) -> Training:
        """The same with the learning rate that `method` has by default, where none is set."""
        if self.learning_rate is not None:
            return self
        return self.model_copy(update={"learning_rate": "2e-5" if method.full is not None else "2e-4"})


#: What should be known of a training: what fell back, what could not be done as asked, what was passed over.
Remarks = Annotated[
    list[Annotated[str, Field(max_length=256)]],
    Field(max_length=8, json_schema_extra={"x-kubernetes-list-type": "atomic"}),
]


Mfu = Annotated[str, Field(max_length=32)]
_MFU = (
    "Model FLOP utilisation, 0 to 1: operations that the model asks for in that time, over those that the accelerators"
    " can do; absent where their peak is not known."
)
PeakBytes = Annotated[
    int,
    Field(
        ge=0,
        description="Memory at the largest moment, in bytes: tensors on the first accelerator, or on CPU all of the"
        " first process.",
    ),
]


class Progress(ApiModel):
    """How far training is. Lossy: a gap loses nothing but this view."""

    percent: int = Field(default=0, ge=0, le=100, description="Steps done, in percent.")
    eta_seconds: int | None = Field(default=None, ge=0, description="Expected time to the end, in seconds.")
    step: int = Field(default=0, ge=0, description="Optimizer steps done.")
    total_steps: int = Field(default=0, ge=0, description="Optimizer steps in all.")
    loss: str | None = Field(default=None, max_length=32, description="Mean loss per answer token of late steps.")
    tokens_per_second: int | None = Field(
        default=None, ge=0, description="Tokens of rows trained on per second, in tokens/s; padding does not count."
    )
    step_seconds: str | None = Field(
        default=None,
        max_length=32,
        description="Mean time of late steps, in seconds, without saving and validating.",
    )
    mfu: Mfu | None = Field(default=None, description=f"{_MFU} Of late steps.")
    peak_memory_bytes: PeakBytes | None = None
    validation_loss: str | None = Field(
        default=None, max_length=32, description="Mean loss per answer token of the rows set aside."
    )
    remarks: Remarks | None = Field(default=None, description="What should be known of it, in sentences.")


class TrainingStatus(ApiModel):
    """Training as it ended."""

    steps: int = Field(ge=0, description="Optimizer steps done.")
    loss: str = Field(max_length=32, description="Mean loss per answer token over the last steps.")
    tokens: int = Field(ge=0, description="Tokens trained on, all epochs.")
    computed_tokens: int | None = Field(
        default=None,
        ge=0,
        description="Tokens that went through the model: padding counts, beginnings that rows share count once a pass.",
    )
    seconds: int = Field(ge=0, description="Time spent in training steps, in seconds, over all attempts.")
    mfu: Mfu | None = Field(default=None, description=f"{_MFU} Of all steps.")
    peak_memory_bytes: PeakBytes | None = None
    validation_loss: str | None = Field(
        default=None, max_length=32, description="Mean loss per answer token of the rows set aside, at its best."
    )
    best_step: int | None = Field(
        default=None, ge=0, description="Step with that loss, which is published; absent without validation."
    )
    remarks: Remarks | None = Field(default=None, description="What should be known of it, in sentences.")


class CheckpointStatus(ApiModel):
    """The newest checkpoint that training spoke of."""

    step: int = Field(ge=0, description="Optimizer step that training goes on from.")
    time: Timestamp | None = Field(default=None, description="When it was saved, RFC 3339.")
