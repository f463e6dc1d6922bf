"""The fine-tuning methods: what of the base model learns, and how it is represented."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from anneal.api.model import ApiModel, Decimal

#: The fine-tuning methods, each an optional member of the spec. A further method is a further name here.
METHODS = ("lora",)


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
