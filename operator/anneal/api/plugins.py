"""A metric that the user's own program computes: a container that reads stored answers and writes scores.

It runs in the evaluation's pod after the last answer and before anything is scored. What it may see, where it writes
and what is demanded of its scores is in docs/evaluating-and-gating.md; why it is an init container, in ADR 19.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from anneal.api.model import ApiModel, Decimal, Quantity, Rule

_SCALE_IS_EMPTY = "highest must be greater than lowest"

Word = Annotated[str, Field(max_length=1024)]


class Plugin(ApiModel):
    """What a container of yours gives: it reads /answers/answers.jsonl and writes /scores/scores.jsonl."""

    RULES = (
        Rule(
            "double(has(self.highest) ? self.highest : '1') > double(has(self.lowest) ? self.lowest : '0')",
            # As floats, like the server: two implementations must not differ in the seventeenth digit.
            lambda plugin: float(plugin.highest) > float(plugin.lowest),
            _SCALE_IS_EMPTY,
        ),
    )

    image: str = Field(
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._:/@-]*$",
        max_length=512,
        description="Container image; with a digest, the scores stay comparable. It runs as user 65532 on a read-only"
        " root, with a writable /tmp of 256Mi, without credentials.",
    )
    command: list[Word] = Field(
        default_factory=list,
        max_length=16,
        json_schema_extra={"x-kubernetes-list-type": "atomic"},
        description="Entry point. Default: the image's.",
    )
    args: list[Word] = Field(
        default_factory=list,
        max_length=32,
        json_schema_extra={"x-kubernetes-list-type": "atomic"},
        description="Arguments. Default: the image's.",
    )
    values: Literal["Graded", "Binary"] = Field(
        default="Graded",
        description="Graded: any score from lowest to highest. Binary: those two alone, for which exact intervals and"
        " tests exist. Default: Graded.",
    )
    lowest: Decimal = Field(default="0", description="The worst score that it writes; counted as 0. Default: 0.")
    highest: Decimal = Field(default="1", description="The best score that it writes; counted as 1. Default: 1.")
    cpu: Quantity = Field(default="100m", description="CPU request, in cores. Default: 100m.")
    memory: Quantity = Field(default="1Gi", description="Memory request and limit, in bytes. Default: 1Gi.")
    timeout_seconds: int = Field(
        default=600,
        ge=1,
        le=86_400,
        description="The evaluation fails when the plugin runs longer than this, in seconds. Default: 600.",
    )
