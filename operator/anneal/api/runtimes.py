"""The servers that answer: production runs one, and an Evaluation judges by the same."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from anneal.api.model import ApiModel, Quantity

RuntimeName = Literal["triton", "vllm"]
#: Members of every one-of that names a runtime.
RUNTIMES: tuple[RuntimeName, ...] = ("triton", "vllm")


class VLLM(ApiModel):
    """vLLM; clients speak OpenAI's chat completions and name the model, since without a name the bare base answers.

    It holds one base model, with any number of adapters on it.
    """

    max_model_length: int | None = Field(
        default=None,
        ge=1,
        le=10_485_760,
        description="Most tokens of a question and its answer together. Default: as many as the model can read and"
        " cacheMemory can hold.",
    )
    cache_memory: Quantity | None = Field(
        default=None,
        description="Memory for what requests under way have read so far (the KV cache), in bytes, of each accelerator;"
        " on CPU it is part of spec.resources.memory. Default: what the model leaves free of an accelerator; on CPU"
        " 1Gi.",
    )
