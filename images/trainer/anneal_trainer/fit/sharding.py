"""Weights that are dealt out over ranks, each layer put together where and while it runs (FSDP2 of torch).

Only for a model that does not fit otherwise. Two things follow for everybody else in this package. A pass is a
conversation of all ranks, so all run the same number of passes in a step: a rank with less to do runs a short row whose
loss counts nothing. And a weight that learns is a DTensor: whoever wants its numbers asks for the `whole` of it, on all
ranks at once.

Adapters stay whole on every rank. They and their moments are some hundred megabytes where the base has dozens of
gigabytes, so dealing them out would gain little, and each checkpoint would have to be put together first. What is dealt
out with them is frozen and has no gradient, so that the only gradients on the network are those of the adapters, once a
step, as without sharding.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import torch
import torch.distributed as dist
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor, Shard

from anneal.api.estimate import Strategy
from anneal.estimate.spread import Ranks, shards_of


class Placement(Protocol):
    """Where the weights of the model are."""

    @property
    def shards(self) -> int:
        """Ranks that share one copy of the weights."""

    def place(self, model: Any, arithmetic: torch.dtype, device: torch.device) -> None:
        """Brings a model to where it is trained."""

    def passes(self, own: int) -> int:
        """The passes that this rank runs in a step in which its own rows need `own`."""

    def asked(self, model: Any) -> None:
        """Ends forward passes that no backward pass follows."""


@dataclass(frozen=True)
class Whole:
    """Every rank has all weights."""

    shards: int = 1

    def place(self, model: Any, arithmetic: torch.dtype, device: torch.device) -> None:
        del model, arithmetic, device

    def passes(self, own: int) -> int:
        return own

    def asked(self, model: Any) -> None:
        del model


@dataclass(frozen=True)
class DealtOut:
    """Ranks along the last dimension of `mesh` share one copy of the weights."""

    mesh: DeviceMesh

    @property
    def shards(self) -> int:
        return int(self.mesh.size(self.mesh.ndim - 1))

    def place(self, model: Any, arithmetic: torch.dtype, device: torch.device) -> None:
        """Deals the weights out, layer by layer, so that of a large model never more than a layer is on the device.

        Weights that learn are float32 and the arithmetic of the layers is `arithmetic`; embedding and head are gathered
        in float32, so that what passes between the layers is what it is without sharding.
        """
        learns_all = not hasattr(model, "peft_config")
        adapters = set() if learns_all else {p for p in model.parameters() if p.requires_grad}
        shorter = learns_all and arithmetic != torch.float32
        policy = (
            MixedPrecisionPolicy(param_dtype=arithmetic, reduce_dtype=torch.float32, cast_forward_inputs=False)
            if shorter
            else MixedPrecisionPolicy()
        )
        for layer in layers(model):
            fully_shard(layer, mesh=self.mesh, ignored_params=adapters, mp_policy=policy)
        fully_shard(model, mesh=self.mesh, ignored_params=adapters)
        for part in model.modules():
            if isinstance(part, FSDPModule):
                # A step is a mean over tokens and divided already: gradients are to be summed, not averaged.
                part.set_gradient_divide_factor(1.0)
                part.set_force_sum_reduction_for_comms(enable=True)
        for adapter in adapters:
            adapter.data = adapter.data.to(device)

    def passes(self, own: int) -> int:
        most = torch.tensor(own, device=self.mesh.device_type)
        dist.all_reduce(most, dist.ReduceOp.MAX)
        return int(most.item())

    def asked(self, model: Any) -> None:
        model.reshard()


def placement(strategy: Strategy, device: torch.device) -> Placement:
    """The placement of a strategy over all ranks that torchrun started."""
    if strategy == "DDP":
        return Whole()
    ranks = ranks_here()
    shards = shards_of(strategy, ranks)
    if shards == ranks.count:
        return DealtOut(init_device_mesh(device.type, (shards,)))
    return DealtOut(init_device_mesh(device.type, (ranks.count // shards, shards), mesh_dim_names=("copy", "part")))


def ranks_here() -> Ranks:
    """The ranks that torchrun started, or the one that there is."""
    count, per_pod = (int(os.environ.get(name, "1")) for name in ("WORLD_SIZE", "LOCAL_WORLD_SIZE"))
    return Ranks(count // per_pod, per_pod)


def layers(model: Any) -> list[torch.nn.Module]:
    """The layers that are put together one at a time: those that can be recomputed one at a time, of all towers."""
    from transformers.modeling_layers import GradientCheckpointingLayer

    return [m for m in model.modules() if isinstance(m, GradientCheckpointingLayer)]


def first_with_experts(model: Any) -> torch.nn.Module | None:
    """The first layer that is a mixture of experts, if there is one."""
    return next((layer for layer in layers(model) if any(hasattr(m, "experts") for m in layer.modules())), None)


@contextmanager
def put_together(layer: torch.nn.Module | None) -> Iterator[None]:
    """A layer with all its weights, where it is dealt out. All ranks do this at once."""
    if not isinstance(layer, FSDPModule):
        yield
        return
    layer.unshard()
    try:
        yield
    finally:
        layer.reshard()


def whole(tensor: torch.Tensor) -> torch.Tensor:
    """All of a tensor; of one that is dealt out, put together on every rank, which all have to ask for."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def like(full: torch.Tensor, pattern: torch.Tensor) -> torch.Tensor:
    """The part of `full` that this rank has of a tensor like `pattern`, on its device.

    Of a file that is mapped into memory only that part is read: what is cut off is never touched.
    """
    if not isinstance(pattern, DTensor):
        return full.to(pattern.device)
    mesh, part = pattern.device_mesh, full
    for along, placed in enumerate(pattern.placements):
        if isinstance(placed, Shard):
            pieces, mine = part.chunk(mesh.size(along), placed.dim), mesh.get_local_rank(along)
            part = pieces[mine] if mine < len(pieces) else part.narrow(placed.dim, 0, 0)
    return DTensor.from_local(part.to(pattern.device), mesh, pattern.placements, shape=full.shape, stride=full.stride())
