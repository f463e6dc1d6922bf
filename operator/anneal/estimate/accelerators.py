"""What accelerators have and do, and which of them a spec asks for.

Names are those of the node label `nvidia.com/gpu.product`, which GPU feature discovery sets. Memory is what its label
`nvidia.com/gpu.memory` shows for that product, in MiB; speed is bfloat16 without sparsity, by the maker's data.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict, Field

from anneal.api.quantities import bytes_of
from anneal.api.workloads import Accelerator

MIB = 1024**2
PRODUCT_LABEL = "nvidia.com/gpu.product"
MEMORY_LABEL = "nvidia.com/gpu.memory"
#: Resource names of slices: `nvidia.com/mig-3g.40gb` has 3 of the 7 slices of a card, and 40 GB.
_SLICE = re.compile(r"(?:^|[/-])mig-(\d+)g\.(\d+)gb$", re.IGNORECASE)
_SLICES = 7
#: What a driver adds to the name of a card for a slice of it.
_SLICE_OF = re.compile(r"-MIG-(\d+)g\.(\d+)gb$", re.IGNORECASE)


class AcceleratorType(BaseModel):
    """One product."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    product: str = Field(min_length=1, max_length=63, description="Value of the node label nvidia.com/gpu.product.")
    memory_mib: int = Field(ge=1, description="Memory, in MiB.")
    teraflops: float = Field(gt=0, description="Dense bfloat16 arithmetic, in TFLOP/s.")


@dataclass(frozen=True)
class Target:
    """The accelerator that a job will run on, as far as its spec tells.

    Attributes:
        name: for people and for the price table.
        memory: bytes of one, None when nothing tells.
        flops: per second at most, None when the product is not known.
    """

    name: str
    memory: int | None
    flops: float | None


def _type(product: str, memory_mib: int, teraflops: float) -> AcceleratorType:
    return AcceleratorType(product=product, memory_mib=memory_mib, teraflops=teraflops)


KNOWN = (
    _type("NVIDIA-A10", 23_028, 125),
    _type("NVIDIA-A10G", 23_028, 70),
    _type("NVIDIA-A100-SXM4-40GB", 40_960, 312),
    _type("NVIDIA-A100-PCIE-40GB", 40_960, 312),
    _type("NVIDIA-A100-SXM4-80GB", 81_920, 312),
    _type("NVIDIA-A100-80GB-PCIe", 81_920, 312),
    _type("NVIDIA-L4", 23_034, 121),
    _type("NVIDIA-L40S", 46_068, 362),
    _type("NVIDIA-H100-PCIe", 81_559, 756),
    _type("NVIDIA-H100-80GB-HBM3", 81_559, 989),
    _type("NVIDIA-H100-NVL", 95_830, 835),
    _type("NVIDIA-H200", 143_771, 989),
    _type("NVIDIA-B200", 183_359, 2_250),
)


def target(wanted: Accelerator, known: Sequence[AcceleratorType]) -> Target:
    """What the spec's accelerator is at least: of several products the one with the least memory.

    `minMemory` is a promise of the scheduler (a node label), so it counts where no product is named.
    """
    types = [found for product in wanted.products if (found := type_of(product, known)) is not None]
    least = min(types, key=lambda t: t.memory_mib, default=None)
    slice_ = _SLICE.search(wanted.asked_for)
    if slice_:
        slices, gigabytes = int(slice_[1]), int(slice_[2])
        flops = least.teraflops * 1e12 * slices / _SLICES if least else None
        return Target(wanted.asked_for, gigabytes * 10**9, flops)
    if least is not None and len(types) == len(wanted.products):
        return Target(least.product, least.memory_mib * MIB, least.teraflops * 1e12)
    memory = bytes_of(wanted.min_memory) if wanted.min_memory is not None else None
    return Target(next(iter(wanted.products), wanted.asked_for), memory, None)


def type_of(product: str, known: Sequence[AcceleratorType]) -> AcceleratorType | None:
    """The product of that name, or the slice of one: where cards are cut into equal slices (`mig.strategy=single`),
    GPU feature discovery names nodes by card and slice. None when it is not known.
    """
    part = _SLICE_OF.search(product)
    whole = next((t for t in known if t.product == _SLICE_OF.sub("", product)), None)
    if whole is None or part is None:
        return whole
    return AcceleratorType(
        product=product,
        memory_mib=int(part[2]) * 10**9 // MIB,
        teraflops=whole.teraflops * int(part[1]) / _SLICES,
    )


def peak_of(driver_name: str, teraflops: Mapping[str, float]) -> float | None:
    """FLOP/s at most of the card, or slice of a card, that its driver calls so; None when it is not in the table.

    GPU feature discovery makes its label of that name, with dashes for blanks.
    """
    name = "-".join(driver_name.split())
    part = _SLICE_OF.search(name)
    whole = teraflops.get(_SLICE_OF.sub("", name))
    if whole is None:
        return None
    return whole * 1e12 * (int(part[1]) / _SLICES if part else 1)


def smallest_that_holds(needed: int, known: Sequence[AcceleratorType]) -> AcceleratorType | None:
    """The product with the least memory that has so many bytes."""
    enough = (t for t in known if t.memory_mib * MIB >= needed)
    return min(enough, key=lambda t: (t.memory_mib, t.product), default=None)
