"""What is known of a training before it takes an accelerator: what the model is made of, and what it will need.

`Sizes` is what prepare reports of the base model and the rows; `Estimate` is what the operator works out from it
(`anneal.estimate`) and keeps in status.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from anneal.api.model import ApiModel, Sentence

Count = Annotated[int, Field(ge=0)]
Positive = Annotated[int, Field(ge=1)]
#: (suffix of the name, inputs, outputs, copies) of linear layers that an adapter can stand beside.
Linear = tuple[Annotated[str, Field(max_length=64)], Count, Count, Count]

#: How a training is spread. DDP: every process has the whole model. HSDP: the processes of a pod share one copy of the
#: weights. FSDP: all processes share one.
Strategy = Literal["DDP", "HSDP", "FSDP"]


class ModelShape(ApiModel):
    """What a causal language model is made of, in counts and widths. Exact: nothing in it is rounded."""

    family: str = Field(max_length=64, description="model_type of config.json.")
    parameters: Positive = Field(description="Parameters of the model as it is loaded.")
    embedding_parameters: Count = Field(description="Of them the input embedding, which is looked up, not multiplied.")
    head_parameters: Count = Field(description="Of them the head; 0 when it is tied to the embedding.")
    expert_parameters: Count = Field(default=0, description="Of them routed experts.")
    vision_parameters: Count = Field(default=0, description="Of them a vision tower, which text does not pass.")
    vocabulary: Positive = Field(description="Tokens of the vocabulary.")
    hidden: Positive = Field(description="Width of the hidden state.")
    layers: Positive = Field(description="Decoder layers.")
    heads: Positive = Field(description="Query heads of a layer.")
    query_width: Count = Field(description="Width of the queries of a layer.")
    key_width: Count = Field(description="Width of the keys of a layer.")
    value_width: Count = Field(description="Width of the values of a layer.")
    output_width: Count = Field(description="Width of what attention gives to its output projection.")
    normalised_width: Count = Field(default=0, description="Width of all that is normalised inside attention.")
    intermediate: Count = Field(description="Inner width of a dense layer.")
    moe_layers: Count = Field(default=0, description="Layers with experts.")
    experts: Count = Field(default=0, description="Routed experts of such a layer.")
    experts_per_token: Count = Field(default=0, description="Of them those that a token passes.")
    expert_intermediate: Count = Field(default=0, description="Inner width of an expert.")
    shared_intermediate: Count = Field(default=0, description="Inner width of the expert that all tokens pass.")
    linears: list[Linear] = Field(max_length=64, description="Linear layers but the head, by name and shape.")


class RowShape(ApiModel):
    """What the training rows are like, beyond their number."""

    tokens: Positive = Field(description="Tokens of all rows, one pass.")
    answer_tokens: Count = Field(description="Of them those that are learned.")
    longest: Positive = Field(description="Tokens of the longest row.")
    squares: Count = Field(description="Sum of the squared lengths of all rows, which attention grows with.")


class Sizes(ApiModel):
    """All that an estimate is made from, as prepare found it."""

    model: ModelShape = Field(description="The base model.")
    rows: RowShape = Field(description="The training rows.")


class MemoryEstimate(ApiModel):
    """Memory of one accelerator, or of the pod on CPU, at the largest moment of a step."""

    weights_bytes: int = Field(ge=0, description="Weights of the base model, in bytes.")
    trainable_bytes: int = Field(ge=0, description="Trained weights, their gradients and optimizer state, in bytes.")
    activations_bytes: int = Field(ge=0, description="What the forward pass keeps for the backward pass, in bytes.")
    loss_bytes: int = Field(ge=0, description="Logits and their gradient, in bytes.")
    gathered_bytes: int | None = Field(
        default=None,
        ge=0,
        description="Weights of other processes while they are used, and gradients before they are dealt out, in bytes;"
        " absent when every process has the whole model.",
    )
    overhead_bytes: int = Field(
        ge=0, description="The program, the accelerator's context and fragmentation of memory, in bytes."
    )
    total_bytes: int = Field(ge=0, description="The sum, in bytes.")
    available_bytes: int | None = Field(
        default=None, ge=0, description="What there is, in bytes; absent when the spec does not say."
    )


class Estimate(ApiModel):
    """What training will need, worked out from the base model's shape before its pod is asked for."""

    fit: Literal["Fits", "DoesNotFit", "Unknown"] = Field(
        description="Whether it fits the memory that is asked for; Unknown when the spec does not say how much that is."
    )
    parameters: int = Field(ge=0, description="Parameters of the base model.")
    trainable_parameters: int = Field(ge=0, description="Parameters that are trained.")
    memory: MemoryEstimate = Field(description="Memory of one accelerator, or of the pod on CPU.")
    strategy: Strategy | None = Field(
        default=None,
        description="How training is spread over its processes. DDP: each has the whole model; HSDP: those of a pod"
        " share one copy of the weights; FSDP: all share one. Absent for a single process, and where the memory is not"
        " known and training chooses.",
    )
    pass_tokens: int = Field(ge=1, description="Tokens that go through the model at once, in tokens.")
    recompute: Literal["None", "Some", "All"] = Field(
        description="Layers whose activations are computed again in the backward pass to save memory."
    )
    tokens_per_second: int | None = Field(
        default=None, ge=0, description="Expected throughput, in tokens/s; absent when the accelerator is not known."
    )
    seconds: int | None = Field(default=None, ge=0, description="Expected time of training, in seconds.")
    accelerator_hours: str | None = Field(
        default=None, max_length=32, description="Accelerators times expected time, in hours."
    )
    cost: str | None = Field(
        default=None,
        max_length=64,
        description="Accelerator hours times the price that the operator is told, with its currency.",
    )
    message: Sentence = Field(description="The arithmetic in a sentence.")
