"""What a spec's accelerator is at least."""

from __future__ import annotations

import pytest

from anneal.api.quantities import bytes_of
from anneal.api.workloads import Accelerator
from anneal.estimate.accelerators import KNOWN, MIB, Target, smallest_that_holds, target

H100 = "NVIDIA-H100-80GB-HBM3"
L4 = "NVIDIA-L4"


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        (Accelerator(), Target("nvidia.com/gpu", None, None)),
        (Accelerator(products=[H100]), Target(H100, 81_559 * MIB, 989e12)),
        (Accelerator(products=[H100, L4]), Target(L4, 23_034 * MIB, 121e12)),
        (Accelerator(min_memory="40G"), Target("nvidia.com/gpu", 40 * 10**9, None)),
        (Accelerator(products=["NVIDIA-X"]), Target("NVIDIA-X", None, None)),
        (Accelerator(products=["NVIDIA-X", H100], min_memory="40G"), Target("NVIDIA-X", 40 * 10**9, None)),
        (
            Accelerator(resource_name="nvidia.com/mig-3g.40gb"),
            Target("nvidia.com/mig-3g.40gb", 40 * 10**9, None),
        ),
        (
            Accelerator(resource_name="deviceclass.resource.kubernetes.io/mig-1g.10gb", products=[H100]),
            Target("deviceclass.resource.kubernetes.io/mig-1g.10gb", 10 * 10**9, 989e12 / 7),
        ),
        (
            Accelerator(products=["NVIDIA-A100-SXM4-80GB-MIG-3g.40gb"]),
            Target("NVIDIA-A100-SXM4-80GB-MIG-3g.40gb", 40 * 10**9 // MIB * MIB, pytest.approx(312e12 * 3 / 7)),
        ),
        (Accelerator(products=["NVIDIA-X-MIG-3g.40gb"]), Target("NVIDIA-X-MIG-3g.40gb", None, None)),
        (Accelerator(resource_claim_template_name="two-h100"), Target("two-h100", None, None)),
        (
            Accelerator(resource_claim_template_name="two-h100", products=[H100], min_memory="10G"),
            Target(H100, 81_559 * MIB, 989e12),
        ),
        (
            Accelerator(resource_claim_template_name="large", min_memory="40G"),
            Target("large", 40 * 10**9, None),
        ),
    ],
    ids=[
        "nothing said",
        "one",
        "the smaller of two",
        "memory",
        "unknown",
        "one unknown",
        "slice",
        "slice of a known card",
        "cards cut into equal slices",
        "slices of an unknown card",
        "claimed",
        "claimed, and said what it is",
        "claimed, and said how large it is",
    ],
)
def test_target(wanted: Accelerator, expected: Target) -> None:
    assert target(wanted, KNOWN) == expected


def test_the_smallest_that_holds() -> None:
    found = smallest_that_holds(30 * 1024**3, KNOWN)
    assert found is not None
    assert found.product == "NVIDIA-A100-PCIE-40GB"
    assert smallest_that_holds(10**15, KNOWN) is None


@pytest.mark.parametrize(
    ("quantity", "size"),
    [("6Gi", 6 * 2**30), ("80G", 80 * 10**9), ("1.5Ki", 1536), ("500m", 1), ("7", 7), ("0.5k", 500)],
)
def test_quantities(quantity: str, size: int) -> None:
    assert bytes_of(quantity) == size
