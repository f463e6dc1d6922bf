"""The fine-tuning methods: what of the base model learns, and how it is represented."""

from __future__ import annotations

from decimal import Decimal as Number
from typing import Annotated, Literal

from pydantic import Field

from anneal.api.model import ApiModel, Decimal, Rule

#: The fine-tuning methods, each an optional member of the spec. A further method is a further name here.
METHODS = ("lora", "qlora", "full")

#: What a job publishes: an adapter that needs its base, or a model that stands alone.
Contents = Literal["Adapter", "Model"]

Rank = Annotated[int, Field(ge=1, le=512, description="Rank of the adapter matrices. Default: 16.")]
Alpha = Annotated[
    int,
    Field(ge=1, le=4096, description="Scale: updates are multiplied by alpha / rank. Default: 32."),
]
Dropout = Annotated[
    Decimal, Field(description="Probability of dropping an adapter input, at least 0 and less than 1. Default: 0.")
]
RsLora = Annotated[
    bool,
    Field(
        description="Rank-stabilised scale (Kalajdzievski 2023): updates are multiplied by alpha / sqrt(rank), so that"
        " a high rank learns as fast as a low one. Default: false."
    ),
]
Dora = Annotated[
    bool,
    Field(
        description="Weight decomposition (Liu et al. 2024): the norm of each output row learns apart from its"
        " direction. Slower; not every serving runtime loads such adapters, so set output.merge for those."
        " Default: false."
    ),
]
Names = Annotated[
    list[Annotated[str, Field(min_length=1, max_length=256)]],
    Field(max_length=64, json_schema_extra={"x-kubernetes-list-type": "atomic"}),
]
TargetModules = Annotated[
    Names,
    Field(
        description="Names (suffixes) of the linear layers to adapt. Default: every linear layer but the head, and but"
        " kv_b_proj (latent attention), where vLLM does not apply adapters."
    ),
]
#: Last words of the names of linear layers that are adapted only where they are named.
NOT_BY_DEFAULT = frozenset({"kv_b_proj"})

#: Initialisations that take a part of the base's own weights into the adapter.
_FROM_WEIGHTS = ("PiSSA", "OLoRA")
_STARTS_FROM_WEIGHTS = "has(self.initialisation) && self.initialisation in ['PiSSA', 'OLoRA']"
_TARGETS_PARAMETERS = "has(self.targetParameters) && self.targetParameters.size() > 0"
_IS_DORA = "has(self.dora) && self.dora"
_IS_PROBABILITY = Rule(
    "!has(self.dropout) || double(self.dropout) < 1.0",
    lambda adapter: Number(adapter.dropout) < 1,
    'dropout must be at least 0 and less than 1, such as "0.05"',
)


class Lora(ApiModel):
    """Low-rank adaptation (Hu et al. 2021): the base stays frozen, small matrices beside its layers learn."""

    RULES = (
        _IS_PROBABILITY,
        Rule(
            f"!({_TARGETS_PARAMETERS} && has(self.dropout) && double(self.dropout) > 0.0)",
            lambda lora: not (lora.target_parameters and Number(lora.dropout) > 0),
            "targetParameters and dropout contradict each other: an adapted parameter has no input of its own to drop",
        ),
        Rule(
            f"!({_TARGETS_PARAMETERS} && {_IS_DORA})",
            lambda lora: not (lora.target_parameters and lora.dora),
            "targetParameters and dora contradict each other: rows of stacked experts have no norm that could learn",
        ),
        Rule(
            f"!({_TARGETS_PARAMETERS} && {_STARTS_FROM_WEIGHTS})",
            lambda lora: not (lora.target_parameters and lora.initialisation in _FROM_WEIGHTS),
            "targetParameters and initialisation PiSSA or OLoRA contradict each other: stacks have no factors",
        ),
        Rule(
            f"!({_IS_DORA} && {_STARTS_FROM_WEIGHTS})",
            lambda lora: not (lora.dora and lora.initialisation in _FROM_WEIGHTS),
            "dora and initialisation PiSSA or OLoRA contradict each other: their adapter could not be applied to the"
            " base as it was published",
        ),
    )

    rank: Rank = 16
    alpha: Alpha = 32
    dropout: Dropout = "0"
    target_modules: TargetModules = Field(default_factory=list)
    target_parameters: Names = Field(
        default_factory=list,
        description="Names (suffixes) of parameters to adapt that are no linear layers, such as stacked experts:"
        " mlp.experts.gate_up_proj. Default: none.",
    )
    rs_lora: RsLora = False
    dora: Dora = False
    initialisation: Literal["Default", "Gaussian", "PiSSA", "OLoRA"] = Field(
        default="Default",
        description="Where the matrices start. Default and Gaussian: one random, one zero. PiSSA (Meng et al. 2024) and"
        " OLoRA (Büyükakyüz 2024): from the base's own weights, which often learns faster; the published adapter has"
        " twice the rank, so that it fits the base as it is. Default: Default.",
    )


class QLora(ApiModel):
    """LoRA on a base in 4-bit NormalFloat (Dettmers et al. 2023): a quarter of the memory of BF16, some quality.

    Only linear layers are quantised; what stays as it was (embeddings, head, stacked experts) is told in status.
    """

    RULES = (_IS_PROBABILITY,)

    rank: Rank = 16
    alpha: Alpha = 32
    dropout: Dropout = "0"
    target_modules: TargetModules = Field(default_factory=list)
    rs_lora: RsLora = False
    dora: Dora = False
    initialisation: Literal["Default", "Gaussian"] = Field(
        default="Default",
        description="Where the matrices start: one random, one zero. Others would change weights that are quantised"
        " already. Default: Default.",
    )
    double_quantisation: bool = Field(
        default=True,
        description="The scales of the 4-bit blocks are quantised too, which saves 0.37 bit a weight. Default: true.",
    )


#: How updates are made from gradients, by how the moments of Adam are kept.
Optimizer = Literal["AdamW", "AdamW8bit"]


class Full(ApiModel):
    """Full fine-tuning: every weight learns, in FP32."""

    optimizer: Optimizer = Field(
        default="AdamW",
        description="AdamW: both moments of a weight in FP32, with weight and gradient 16 bytes a parameter."
        " AdamW8bit (Dettmers et al. 2022): moments as 8-bit numbers in blocks of 256 with a scale each, 10 bytes a"
        " parameter; those of the embedding stay in FP32. Default: AdamW.",
    )


class Method(ApiModel):
    """The one method of a job."""

    ONE_OF = METHODS

    lora: Lora | None = Field(default=None, description="Method: train a low-rank adapter.")
    qlora: QLora | None = Field(default=None, description="Method: train a low-rank adapter on a 4-bit base.")
    full: Full | None = Field(default=None, description="Method: train every weight.")

    @property
    def adapter(self) -> Lora | QLora | None:
        """The adapter that is trained, if one is."""
        return self.lora or self.qlora

    @property
    def title(self) -> str:
        """The method's name as people write it."""
        return "LoRA" if self.lora else "QLoRA" if self.qlora else "Full fine-tuning"
