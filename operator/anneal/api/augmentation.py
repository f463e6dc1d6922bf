"""More rows to train on, written by a hosted model after the seeds of the training side and checked by another."""

from __future__ import annotations

from pydantic import Field

from anneal.api.model import ApiModel, Decimal, Rule
from anneal.api.subjects import Hosted


class Augmentation(ApiModel):
    """Rows that a hosted model writes after training rows. No held-out row is ever sent to it."""

    RULES = (
        Rule(
            cel="has(self.generator.price) && has(self.validator.price)",
            holds=lambda wanted: wanted.generator.price is not None and wanted.validator.price is not None,
            message="generator and validator both need their price: maxCost is counted by it",
        ),
    )

    generator: Hosted = Field(
        description="The model that writes rows, such as GPT-5. Training rows are sent to it as examples. Its maxTokens"
        " is 4096 by default."
    )
    validator: Hosted = Field(
        description="The model that checks every row that was written, of another family than the generator. Rows and"
        " the training rows that they were written after are sent to it. Its maxTokens is 1024 by default."
    )
    rows: int = Field(ge=1, le=100_000, description="Rows that are wanted, in rows; fewer where maxShare ends it.")
    per_seed: int = Field(
        default=3,
        ge=1,
        le=10,
        description="Rows written after one training row; none is used twice. Default: 3.",
    )
    max_share: Decimal = Field(
        default="0.5",
        description="Largest share of written rows among the training rows, more than 0 and at most 0.9. Default: 0.5.",
    )
    max_cost: Decimal = Field(
        description="Most that generator and validator may cost together, in the currency of their prices. What could"
        " exceed it is not asked; the rows so far are used."
    )
    instructions: str | None = Field(
        default=None,
        max_length=4096,
        description="What the generator and the validator should know of the task, such as what makes an answer right."
        " Default: nothing but the rows.",
    )
    concurrency: int = Field(
        default=8, ge=1, le=64, description="Requests under way at once to each model. Default: 8."
    )
    timeout_seconds: int = Field(
        default=300, ge=1, le=3600, description="Longest wait for one reply, in seconds. Default: 300."
    )
