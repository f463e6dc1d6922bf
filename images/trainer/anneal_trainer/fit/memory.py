"""How a step is run in the memory that the pod really has: tokens of a pass, and layers that are computed twice.

The formulas are those of the operator's estimate (`anneal.estimate`), asked again with what is known only here: the
loaded model, all rows, and the memory itself. What they answer depends on nothing that changes between two starts of a
pod, so that a resumed run goes on to the same bit.
"""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Any

import torch

from anneal.api.estimate import RowShape
from anneal.api.methods import Method
from anneal.estimate.memory import (
    GIB,
    MOST_PASS_TOKENS,
    TRAINED_BYTES,
    Adapter,
    Device,
    PassPlan,
    Work,
    choose,
    smallest,
)
from anneal.estimate.shape import shape_of

_CGROUP_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")
_LOG = logging.getLogger(__name__)


def pass_plan(
    model: Any, method: Method, rows: RowShape, tokens_per_step: int, device: torch.device, arithmetic: torch.dtype
) -> PassPlan:
    """The quickest way for a rank to run its part of a step; the one with the least memory when none seems to fit."""
    available = usable_bytes(device)
    if device.type == "cpu":
        available //= int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    most = min(MOST_PASS_TOKENS, -(-tokens_per_step // int(os.environ.get("WORLD_SIZE", "1"))))
    plan = choose(_work(model, method, rows, device, arithmetic), available, rows.longest, most)
    if plan is None:
        _LOG.warning("%.1f GiB are less than one row of %d tokens seems to need", available / GIB, rows.longest)
    return plan or smallest(rows.longest)


def recompute(model: Any, plan: PassPlan) -> None:
    """Lets the model compute activations again in backward where the plan says so."""
    if plan.recompute_every:
        model.activation_checkpointing_enable(
            activation_checkpointing_kwargs={"use_reentrant": False}, every_n_layers=plan.recompute_every
        )


def _work(model: Any, method: Method, rows: RowShape, device: torch.device, arithmetic: torch.dtype) -> Work:
    """A training of every weight is counted as one of heavy frozen weights, which leaves the same activations."""
    base = {n: p for n, p in model.named_parameters() if not (method.adapter and p.requires_grad)}
    adapter = method.adapter
    kind: Device = "CPU" if device.type == "cpu" else "Accelerator"
    shape = shape_of(model.config.to_dict(), {n.replace(".base_layer.", "."): _whole(p) for n, p in base.items()})
    return Work(
        shape=shape,
        adapter=Adapter(adapter.rank, tuple(adapter.target_modules), float(adapter.dropout) > 0)
        if adapter
        else Adapter(0),
        weight_bytes=sum(_bytes(p, arithmetic) for p in base.values()) / shape.parameters,
        value_bytes=arithmetic.itemsize,
        labelled=rows.answer_tokens / rows.tokens,
        device=kind,
    )


def _whole(parameter: torch.nn.Parameter) -> tuple[int, ...]:
    """The shape of a parameter, also where it is packed into 4 bits."""
    packed = getattr(parameter, "quant_state", None)
    return tuple(packed.shape if packed is not None else parameter.shape)


def _bytes(parameter: torch.nn.Parameter, arithmetic: torch.dtype) -> int:
    """What a parameter of the base takes; one that learns has a gradient, two moments and a copy for autocast."""
    copy = arithmetic.itemsize if arithmetic != parameter.dtype else 0
    return parameter.numel() * (TRAINED_BYTES + copy) if parameter.requires_grad else parameter.nbytes


def usable_bytes(device: torch.device) -> int:
    """Bytes that the process may use: what nobody else holds of the accelerator, or the pod's or machine's memory.

    Whole GiB of an accelerator, so that a little more or less of what others hold changes nothing.
    """
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return (free + torch.cuda.memory_reserved(device)) // GIB * GIB
    total = _machine_bytes()
    limits = [
        int(text)
        for path in map(Path, _CGROUP_LIMITS)
        if path.exists() and (text := path.read_text().strip()).isdigit()
    ]
    return min([total, *limits])


def _machine_bytes() -> int:
    first = Path("/proc/meminfo").read_text().splitlines()[0]
    return int(first.split()[1]) * 1024
