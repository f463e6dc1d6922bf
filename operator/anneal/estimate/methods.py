"""The fine-tuning methods as the formulas see them: what learns, and how many bytes the rest has."""

from __future__ import annotations

from anneal.api.estimate import ModelShape, RowShape, Strategy
from anneal.api.methods import Method, Optimizer
from anneal.estimate.memory import Adapter, Device, Work

#: A weight of 4-bit NormalFloat: half a byte and the scale of its block of 64, in float32 or quantised again.
NF4_BYTES = 0.5 + 4 / 64
NF4_DOUBLE_BYTES = 0.5 + 1 / 64 + 4 / (64 * 256)
FLOAT32_BYTES = 4


def adapter_of(method: Method) -> Adapter | None:
    """The adapter that a method trains, None for full fine-tuning."""
    tuned = method.adapter
    if tuned is None:
        return None
    stacks = tuple(method.lora.target_parameters) if method.lora is not None else ()
    return Adapter(tuned.rank, tuple(tuned.target_modules), float(tuned.dropout) > 0, tuned.dora, stacks)


def optimizer_of(method: Method) -> Optimizer:
    """What makes updates from gradients. Adapters are small: their moments are always in float32."""
    return method.full.optimizer if method.full is not None else "AdamW"


def frozen_bytes(method: Method, shape: ModelShape, value_bytes: int) -> float:
    """Bytes of a parameter that does not learn, on average."""
    if method.qlora is None:
        return FLOAT32_BYTES if method.full is not None else value_bytes
    quantised = sum(inputs * outputs * copies for _, inputs, outputs, copies in shape.linears)
    each = NF4_DOUBLE_BYTES if method.qlora.double_quantisation else NF4_BYTES
    return value_bytes + (each - value_bytes) * quantised / shape.parameters


def work_of(method: Method, shape: ModelShape, rows: RowShape, value_bytes: int, device: Device) -> Work:
    """The work of training a model of that shape on those rows, computing in values of so many bytes."""
    return Work(
        shape=shape,
        adapter=adapter_of(method),
        weight_bytes=frozen_bytes(method, shape, value_bytes),
        value_bytes=value_bytes,
        labelled=min(1.0, rows.answer_tokens / rows.tokens),
        device=device,
        optimizer=optimizer_of(method),
    )


def strategies(method: Method) -> frozenset[Strategy]:
    """How a method can be spread. Scales of 4-bit weights and of 8-bit moments lie apart and are not dealt out."""
    whole = method.qlora is not None or optimizer_of(method) == "AdamW8bit"
    return frozenset(("DDP",)) if whole else frozenset(("DDP", "HSDP", "FSDP"))


def loaded_bytes(work: Work) -> int:
    """The whole base as it is loaded into a pod's memory before it is dealt out."""
    return round(work.shape.parameters * work.weight_bytes)
