"""How a step is run in the memory that the pod really has: tokens of a pass, and layers that are computed twice.

The formulas are those of the operator's estimate (`anneal.estimate`), asked again with what is known only here: the
loaded model, all rows, and the memory itself. What they answer depends on nothing that changes between two starts of a
pod, so that a resumed run goes on to the same bit.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from anneal.api.estimate import ModelShape, Strategy
from anneal.api.methods import Method
from anneal.estimate.memory import GIB, MOST_PASS_TOKENS, Device, PassPlan, Work, choose, smallest
from anneal.estimate.methods import adapter_of, optimizer_of, strategies, work_of
from anneal.estimate.shape import shape_of
from anneal.estimate.spread import spread
from anneal_trainer.fit import prefix
from anneal_trainer.fit.sharding import ranks_here
from anneal_trainer.rows import TrainingRows

_CGROUP_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")
_JUDGED_ROWS = 512
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Place:
    """Where a rank runs: `available` bytes are its own, and `shards` ranks share one copy of the weights."""

    device: torch.device
    available: int
    shards: int = 1


def available_bytes(device: torch.device) -> int:
    """Bytes that a rank may use: of an accelerator all that is free, of a pod's memory an equal share."""
    usable = usable_bytes(device)
    return usable if device.type == "cuda" else usable // ranks_here().per_pod


def strategy(
    shape: ModelShape | None, method: Method, rows: TrainingRows, tokens_per_step: int, place: Place, value_bytes: int
) -> Strategy:
    """The least sharding with which a training fits. DDP where the shape of the model cannot be told."""
    if shape is None:
        return "DDP"
    on: Device = "CPU" if place.device.type == "cpu" else "Accelerator"
    asked = work_of(method, shape, rows.shape(), value_bytes, on)
    longest, most = int(rows.lengths.max()), _most_tokens(tokens_per_step)
    return spread(asked, place.available, longest, most, ranks_here(), strategies(method)).strategy


def pass_plan(
    model: Any, method: Method, rows: TrainingRows, tokens_per_step: int, place: Place, arithmetic: torch.dtype
) -> PassPlan:
    """The quickest way for a rank to run its part of a step; the one with the least memory when none seems to fit."""
    available, longest = place.available, int(rows.lengths.max())
    dealt = replace(work(model, method, rows, place.device, arithmetic), shards=place.shards)
    plan = choose(dealt, available, longest, _most_tokens(tokens_per_step))
    if plan is None:
        _LOG.warning("%.1f GiB are less than one row of %d tokens seems to need", available / GIB, longest)
    return plan or smallest(longest)


def _most_tokens(tokens_per_step: int) -> int:
    """Tokens that a pass has at most: a rank's share of a step."""
    return min(MOST_PASS_TOKENS, -(-tokens_per_step // ranks_here().count))


def recompute(model: Any, plan: PassPlan) -> None:
    """Lets the model compute activations again in backward where the plan says so."""
    if plan.recompute_every:
        model.activation_checkpointing_enable(
            activation_checkpointing_kwargs={"use_reentrant": False}, every_n_layers=plan.recompute_every
        )


def work(model: Any, method: Method, rows: TrainingRows, device: torch.device, arithmetic: torch.dtype) -> Work:
    """What is trained, by the model as it was loaded."""
    adapter, kind, size = adapter_of(method), rows.shape(), arithmetic.itemsize
    base = {n: p for n, p in model.named_parameters() if adapter is None or not p.requires_grad}
    frozen = [p for p in base.values() if not p.requires_grad]
    shape = shape_of(model.config.to_dict(), {n.replace(".base_layer.", "."): _whole(p) for n, p in base.items()})
    on: Device = "CPU" if device.type == "cpu" else "Accelerator"
    return Work(
        shape=shape,
        adapter=adapter,
        weight_bytes=sum(p.nbytes for p in frozen) / (shape.parameters if adapter else max(1, shape.vision_parameters)),
        value_bytes=size,
        labelled=kind.answer_tokens / kind.tokens,
        device=on,
        keys_per_token=1.0 if adapter and adapter.drops else keys_per_token(rows),
        optimizer=optimizer_of(method),
    )


def keys_per_token(rows: TrainingRows) -> float:
    """Keys that attention holds for a token that is computed, where that is most, judged by the first rows.

    Rows that share a beginning get its keys copied in front of their own, each of them, beside the keys of the line.
    """
    lengths = rows.lengths
    found = [1.0]
    for group in prefix.groups(rows, np.arange(min(len(rows), _JUDGED_ROWS))):
        whole = int(lengths[list(group.rows)].sum())
        if group.shared:
            found.append(1 + whole / (whole - group.shared * (len(group.rows) - 1)))
    return max(found)


def _whole(parameter: torch.nn.Parameter) -> tuple[int, ...]:
    """The shape of a parameter, also where it is packed into 4 bits."""
    packed = getattr(parameter, "quant_state", None)
    return tuple(packed.shape if packed is not None else parameter.shape)


def usable_bytes(device: torch.device) -> int:
    """Bytes that the process may use: what nobody else holds of the accelerator, or the pod's or machine's memory.

    Whole GiB of an accelerator, so that a little more or less of what others hold changes nothing.
    """
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return (free + torch.cuda.memory_reserved(device)) // GIB * GIB
    total = _machine_bytes("MemTotal")
    limits = [
        int(text)
        for path in map(Path, _CGROUP_LIMITS)
        if path.exists() and (text := path.read_text().strip()).isdigit()
    ]
    return min([total, *limits])


def free_bytes() -> int:
    """Bytes of main memory that the process could take now: what the pod's limit and the machine leave."""
    free = [_machine_bytes("MemAvailable")]
    for path in map(Path, _CGROUP_LIMITS):
        if path.exists() and (text := path.read_text().strip()).isdigit():
            held = dict(line.split() for line in path.with_name("memory.stat").read_text().splitlines())
            # Cached files count against the limit as well, but give way to what a process asks for.
            free.append(int(text) - int(held.get("anon") or held["total_rss"]))
    return max(0, min(free))


def _machine_bytes(name: str) -> int:
    lines = Path("/proc/meminfo").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{name}:")) * 1024
