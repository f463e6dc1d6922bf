"""Memory of a training step, by part, and the quickest way to run it that fits.

What autograd keeps is counted value by value from the operations of a decoder layer, as the saved-tensor hooks of torch
show them: the inputs of normalisations (in float32 whatever the arithmetic is), of adapted linear layers, queries,
keys, values and output of attention, and three inner values of a gated feed-forward block.
`tests/performance/test_estimator.py` holds it to 8 % of what is measured.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Set
from dataclasses import dataclass
from typing import Literal

from anneal.api.estimate import Linear, ModelShape
from anneal.api.methods import NOT_BY_DEFAULT, Optimizer

GIB = 1024**3
#: What a parameter that is trained takes: its value or its gradient in float32, the two moments of Adam in float32, or
#: in 8 bits with a float32 scale for each block of 256 (bitsandbytes).
VALUE_BYTES = 4
MOMENTS_BYTES = 8
SHORT_MOMENTS_BYTES = 2 * (1 + 4 / 256)
#: What bitsandbytes makes of a tensor on CPU while it updates it, in float32: gradient and two terms of a quotient, and
#: of 8-bit moments both. On accelerators updates are made in place.
UPDATE_BYTES = 12
SHORT_UPDATE_BYTES = 20
#: The most bytes of a checkpoint that are gathered from all ranks and not written yet: a file and its copy.
GATHERED_PIECES = 4 * GIB
#: A logit at the largest moment of cross-entropy, by the bytes of a value: its score in float32, which becomes its
#: gradient in place; in shorter arithmetic the logit and its gradient as such, too.
LOGIT_BYTES = {4: 4, 2: 8}
#: Logits that exist at once; in float32 they are 128 MiB.
PIECE_LOGITS = 2**25
#: The CUDA context with its libraries; Python with torch and transformers (measured: 0.5 GiB, and 0.3 of libraries).
ACCELERATOR_PROGRAM = 2 * GIB
CPU_PROGRAM = 3 * GIB // 4
#: What an allocator cannot use of what it holds, and what is left free on purpose.
FRAGMENTATION = 0.06
USABLE = 0.95
#: Passes of more tokens are not quicker; on CPU their activations leave its caches.
MOST_PASS_TOKENS = 16_384
CPU_PASS_TOKENS = 2048
#: How much of the layers to recompute, what costs least time first: none, every fourth, every second, all.
RECOMPUTE_EVERY = (0, 4, 2, 1)

#: Linear layers that share an input, by what that input is.
ATTENTION_INPUTS = frozenset(
    {"q_proj", "k_proj", "v_proj", "q_a_proj", "kv_a_proj_with_mqa", "qkv_proj", "query_key_value"}
)
LATENT_INPUTS = frozenset({"q_b_proj", "kv_b_proj"})
BLOCK_INPUTS = frozenset({"gate_proj", "up_proj", "gate_up_proj"})

_EVERY = ATTENTION_INPUTS | LATENT_INPUTS | BLOCK_INPUTS | {"o_proj", "down_proj"}

Device = Literal["CPU", "Accelerator"]
Layer = Literal["Dense", "Experts"]


@dataclass(frozen=True)
class Adapter:
    """Low-rank matrices beside linear layers.

    Attributes:
        targets: names of the layers, the last words of which count; none are all but `NOT_BY_DEFAULT`.
        drops: whether inputs are dropped at random.
        decomposes: whether the norm of each output row learns apart (DoRA).
        stacks: names of stacked experts that are adapted, the last words of which count.
    """

    rank: int
    targets: tuple[str, ...] = ()
    drops: bool = False
    decomposes: bool = False
    stacks: tuple[str, ...] = ()


@dataclass(frozen=True)
class Work:
    """What is trained, how.

    Attributes:
        adapter: None when every weight of the language model learns.
        weight_bytes: of one frozen parameter.
        value_bytes: of one value of the arithmetic: 4 in float32, 2 in bfloat16.
        labelled: share of the tokens that are learned, 0 to 1.
        keys_per_token: copies of keys and values for one token that is computed; more than 1 where rows share
            beginnings, whose keys each of them has.
        optimizer: which tells how long the moments of a weight are.
        shards: ranks that the weights of the base, and all that goes with a weight that learns, are dealt out to;
            adapters are whole on each.
    """

    shape: ModelShape
    adapter: Adapter | None
    weight_bytes: float
    value_bytes: int
    labelled: float
    device: Device
    keys_per_token: float = 1.0
    shards: int = 1
    optimizer: Optimizer = "AdamW"


@dataclass(frozen=True)
class Memory:
    """Bytes at the largest moment of a step, by part. `gathered`: weights of other ranks while they are used here."""

    weights: int
    trainable: int
    activations: int
    loss: int
    overhead: int
    gathered: int = 0

    @property
    def total(self) -> int:
        return self.weights + self.trainable + self.activations + self.loss + self.overhead + self.gathered


@dataclass(frozen=True)
class PassPlan:
    """How a step is run.

    Attributes:
        tokens: of one pass through the model, padding included.
        recompute_every: every so manieth layer computes its activations again in backward; 0 is none.
    """

    tokens: int
    recompute_every: int


def adapted(shape: ModelShape, adapter: Adapter) -> list[Linear]:
    """The linear layers that get an adapter: those that are named, or all that get one by default."""
    wanted = {_last(name) for name in adapter.targets}
    return [row for row in shape.linears if (row[0] in wanted if wanted else row[0] not in NOT_BY_DEFAULT)]


def trainable_parameters(shape: ModelShape, adapter: Adapter | None) -> int:
    """Sum of rank x (inputs + outputs) over what is adapted, or all parameters that text passes."""
    if adapter is None:
        return shape.parameters - shape.vision_parameters
    matrices = sum(adapter.rank * (i + o) * copies for _, i, o, copies in adapted(shape, adapter))
    norms = sum(o * copies for _, _, o, copies in adapted(shape, adapter)) if adapter.decomposes else 0
    stacks = sum(adapter.rank * (i + o) for i, o in _stacks(shape, adapter)) * shape.experts * shape.moe_layers
    return matrices + norms + stacks


def _stacks(shape: ModelShape, adapter: Adapter) -> list[tuple[int, int]]:
    """(inputs, outputs) of the weights of one expert that are adapted."""
    both = {"gate_up_proj": (shape.hidden, 2 * shape.expert_intermediate)}
    both["down_proj"] = (shape.expert_intermediate, shape.hidden)
    return [both[_last(name)] for name in adapter.stacks if _last(name) in both]


def _last(name: str) -> str:
    return name.rpartition(".")[2]


def kept_bytes(work: Work, plan: PassPlan) -> int:
    """What the forward pass keeps for the backward pass, the loss left out."""
    shape, layers = work.shape, _layers(work)
    whole = sum(size * number for size, number in layers)
    share = recomputed_share(shape, plan)
    # Of a recomputed layer its input is kept, and with the last layer the input of the final norm.
    inputs = share * shape.layers * shape.hidden * work.value_bytes + 4 * shape.hidden * (share > 0)
    return round((whole * (1 - share) + inputs) * plan.tokens + _cast_bytes(work))


def _cast_bytes(work: Work) -> int:
    """Copies of what learns in the precision of the arithmetic, which autocast keeps."""
    if work.value_bytes == 4:
        return 0
    if work.adapter is None and work.shards > 1:
        # Layers arrive in that precision and go again; only the head stays.
        return work.value_bytes * work.shape.vocabulary * work.shape.hidden
    looked_up = work.shape.embedding_parameters if work.adapter is None and work.shape.head_parameters else 0
    return work.value_bytes * (trainable_parameters(work.shape, work.adapter) - looked_up)


def loss_bytes(work: Work, plan: PassPlan) -> int:
    """A piece of logits with its gradient, and the labelled states with theirs, when all that is kept is there too."""
    labels = plan.tokens * work.labelled
    piece = min(labels, max(1, PIECE_LOGITS // work.shape.vocabulary))
    return round(piece * work.shape.vocabulary * LOGIT_BYTES[work.value_bytes]) + 2 * kept_by_loss(work, plan)


def kept_by_loss(work: Work, plan: PassPlan) -> int:
    """The gradients of labelled states, and of a head that learns, which are made together with the loss."""
    states = plan.tokens * work.labelled * work.shape.hidden * work.value_bytes
    head = 4 * work.shape.vocabulary * work.shape.hidden if work.adapter is None else 0
    return round(states + head)


def working_bytes(work: Work, plan: PassPlan) -> int:
    """What the backward pass of the last layer needs on top of what is kept, when the loss is done with."""
    shape = work.shape
    inner = shape.intermediate if shape.layers > shape.moe_layers else shape.shared_intermediate
    gradients = (inner + 2 * shape.hidden) * work.value_bytes
    again = bool(plan.recompute_every) and (shape.layers - 1) % plan.recompute_every == 0
    largest = max(size for size, number in _layers(work) if number)
    return round((gradients + largest * again) * plan.tokens)


def memory(work: Work, plan: PassPlan) -> Memory:
    """Memory of one accelerator, or of the pod on CPU, for steps that are run so."""
    loss = loss_bytes(work, plan)
    frozen = work.shape.parameters if work.adapter else work.shape.vision_parameters
    parts = (
        round(frozen * work.weight_bytes / work.shards),
        _trainable_bytes(work),
        # The loss, the last layer's backward pass and the update are three moments; only the largest needs room.
        max(kept_bytes(work, plan) + max(0, working_bytes(work, plan) - loss), update_bytes(work) - loss),
        loss,
    )
    gathered = gathered_bytes(work)
    program = ACCELERATOR_PROGRAM if work.device == "Accelerator" else CPU_PROGRAM
    return Memory(*parts, overhead=program + round((sum(parts) + gathered) * FRAGMENTATION), gathered=gathered)


def _trainable_bytes(work: Work) -> int:
    """What learns, with gradients and moments; on CPU also as the bytes of the checkpoint that is being written."""
    values, moments = VALUE_BYTES * trainable_parameters(work.shape, work.adapter), moments_bytes(work)
    dealt = work.shards if work.adapter is None else 1
    staged = 0 if work.device == "Accelerator" else values + moments
    # What is dealt out is gathered and written in pieces.
    return (2 * values + moments) // dealt + (staged if dealt == 1 else min(staged, GATHERED_PIECES))


def moments_bytes(work: Work) -> int:
    """Both moments of all that learns. With AdamW8bit those of the embedding stay in float32 (Dettmers et al. 2022)."""
    trained = trainable_parameters(work.shape, work.adapter)
    if work.optimizer == "AdamW":
        return MOMENTS_BYTES * trained
    long = work.shape.embedding_parameters
    return MOMENTS_BYTES * long + round(SHORT_MOMENTS_BYTES * (trained - long))


def update_bytes(work: Work) -> int:
    """What AdamW8bit makes beside weights, gradients and moments, a tensor at a time. AdamW works in place."""
    if work.optimizer == "AdamW" or work.device == "Accelerator":
        return 0
    stacks = work.shape.expert_parameters // max(1, work.shape.moe_layers)
    largest = max(work.shape.head_parameters, stacks, *(i * o for _, i, o, _ in work.shape.linears))
    return max(SHORT_UPDATE_BYTES * largest, UPDATE_BYTES * work.shape.embedding_parameters)


def gathered_bytes(work: Work) -> int:
    """Weights of other ranks while they are used here, and gradients before they are added up and dealt out.

    Embedding and head stay for the whole step; of the layers there are two at once: one at work, the next on its way.
    """
    if work.shards == 1:
        return 0
    ends = work.shape.embedding_parameters + work.shape.head_parameters
    if work.adapter is not None:
        return round((ends + 2 * layer_parameters(work.shape)) * work.weight_bytes)
    # The ends are gathered in float32; layers in the precision of the arithmetic, their gradients summed in float32.
    return ends * 8 + round(layer_parameters(work.shape) * (3 * work.value_bytes + 4))


def layer_parameters(shape: ModelShape) -> float:
    """Parameters of the largest layer, taking all for alike but for their experts."""
    ends = shape.embedding_parameters + shape.head_parameters
    body = shape.parameters - ends - shape.vision_parameters - shape.expert_parameters
    return body / shape.layers + shape.expert_parameters / max(1, shape.moe_layers)


def recomputed_share(shape: ModelShape, plan: PassPlan) -> float:
    """Share of the layers whose forward pass is run twice."""
    return -(-shape.layers // plan.recompute_every) / shape.layers if plan.recompute_every else 0.0


def choose(work: Work, available: int, longest: int, most: int) -> PassPlan | None:
    """The quickest way to run a step within `available` bytes in passes of `longest` to `most` tokens, if there is one.

    Recomputing costs time in proportion, smaller passes cost little, so the first way with room for a row wins.
    """
    for every in RECOMPUTE_EVERY:
        tokens = _most_tokens(work, available, every, max(longest, most))
        if tokens >= longest:
            return PassPlan(tokens, every)
    return None


def smallest(longest: int) -> PassPlan:
    """The way with the least memory that there is: one row at a time, every layer recomputed."""
    return PassPlan(longest, 1)


def _most_tokens(work: Work, available: int, every: int, most: int) -> int:
    """Tokens of the largest pass, up to `most`, that is within what is usable; 0 when none is."""
    return bisect_right(
        range(1, most + 1), available * USABLE, key=lambda tokens: memory(work, PassPlan(tokens, every)).total
    )


def _layers(work: Work) -> tuple[tuple[float, int], tuple[float, int]]:
    """(bytes that autograd keeps for one token, number) of layers without and with experts."""
    dense = work.shape.layers - work.shape.moe_layers
    return (_layer_bytes(work, "Dense"), dense), (_layer_bytes(work, "Experts"), work.shape.moe_layers)


def _layer_bytes(work: Work, layer: Layer) -> float:
    """What autograd keeps for one token of one layer, in bytes."""
    shape, size = work.shape, work.value_bytes
    # The statistics of a normalisation, and its input, are float32 whatever the arithmetic is.
    norms = 4 * (2 * shape.hidden + 2 + shape.normalised_width + shape.heads)
    attention = shape.query_width + (shape.key_width + shape.value_width) * work.keys_per_token + shape.output_width
    inner = shape.intermediate if layer == "Dense" else shape.shared_intermediate
    block = 3 * inner + _routed_values(work) * (layer == "Experts")
    return norms + size * (attention + block + _learning_values(work, inner))


def _routed_values(work: Work) -> int:
    """Values that experts keep for one token; those that learn keep the input of their second matrix, too."""
    shape, learn = work.shape, work.adapter is None or bool(work.adapter.stacks)
    return shape.experts_per_token * (2 * shape.hidden + (4 + learn) * shape.expert_intermediate)


def _learning_values(work: Work, inner: int) -> float:
    """Values that what learns keeps for one token of one layer: its inputs, and what is between two matrices."""
    if work.adapter is None:
        return _values_of_weights(work, inner)
    per_layer = 1 / work.shape.layers
    rows = [(i, o, copies * per_layer) for _, i, o, copies in adapted(work.shape, work.adapter)]
    between = sum(work.adapter.rank * share for *_, share in rows)
    if work.adapter.decomposes:
        between += sum(2 * outputs * share for _, outputs, share in rows)
    if work.adapter.drops:
        # Each adapter has an input of its own then, and the mask that made it.
        return between + sum(2 * inputs * share for inputs, _, share in rows)
    return between + _input_values(work, inner, {row[0] for row in adapted(work.shape, work.adapter)})


def _values_of_weights(work: Work, inner: int) -> float:
    """Values that weights keep for one token of one layer, where all of them learn."""
    shape = work.shape
    # The gradient of a norm's weight needs what was normalised, in float32.
    normalised = (2 * shape.hidden + shape.normalised_width) * 4 / work.value_bytes
    inputs = _input_values(work, inner, _EVERY)
    if work.value_bytes == 4:
        return normalised + inputs
    # Weights are float32, and with them all between the layers: each linear layer makes a copy of its input.
    return normalised + inputs + 3 * shape.hidden


def _input_values(work: Work, inner: int, names: Set[str]) -> int:
    """Inputs of the named linear layers, each once, as far as nothing else keeps them."""
    shape = work.shape
    attention = shape.hidden * bool(names & ATTENTION_INPUTS)
    latent = sum({name: inputs for name, inputs, *_ in shape.linears if name in names & LATENT_INPUTS}.values())
    block = shape.hidden * bool(names & BLOCK_INPUTS) + inner * ("down_proj" in names)
    # On CPU attention is run row by row, so that what it keeps is not the whole that goes on to o_proj.
    output = shape.output_width * (work.device == "CPU" and "o_proj" in names)
    return attention + latent + block + output
