"""A rank that has a part of the weights reads that part of a checkpoint, and not the rest."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from safetensors.torch import save_file
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import Placement, Replicate, Shard, distribute_tensor
from torch.testing._internal.distributed.fake_pg import FakeStore

from anneal_trainer.fit import tensors
from anneal_trainer.fit.sharding import like

MIB = 2**20
#: The rank that this process is, of four that share a copy of the weights: only what all do together needs the others.
RANK, RANKS = 2, 4


@pytest.fixture
def _one_rank_of_four() -> Iterator[None]:
    dist.init_process_group("fake", store=FakeStore(), rank=RANK, world_size=RANKS)
    yield
    dist.destroy_process_group()


def mapped(path: Path) -> int:
    """Bytes of a file that are in this process's memory now."""
    found, inside = 0, False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        if line[0] in "0123456789abcdef":
            inside = line.endswith(str(path))
        elif inside and line.startswith("Rss:"):
            found += int(line.split()[1]) * 1024
    return found


@pytest.mark.usefixtures("_one_rank_of_four")
def test_only_its_own_part_comes_into_memory(tmp_path: Path) -> None:
    rows = 64 * MIB // 4096
    path = tmp_path / "masters.safetensors"
    save_file({"weight": torch.arange(rows, dtype=torch.float32)[:, None].repeat(1, 1024)}, path)
    saved = tensors.read(tmp_path, "masters")
    mesh = init_device_mesh("cpu", (RANKS,))
    dealt = distribute_tensor(torch.zeros(rows, 1024), mesh, [Shard(0)], src_data_rank=None)
    before = mapped(path)
    dealt.copy_(like(saved["weight"], dealt))
    assert 16 * MIB <= mapped(path) - before <= 20 * MIB
    assert dealt.to_local()[:, 0].tolist() == list(range(rows // 2, 3 * rows // 4))


@pytest.mark.usefixtures("_one_rank_of_four")
@pytest.mark.parametrize("rows", [1, 3, 4, 5, 7, 10])
@pytest.mark.parametrize("placements", [[Shard(0)], [Replicate()]], ids=["dealt out", "whole"])
def test_parts_are_those_of_torch(rows: int, placements: list[Placement]) -> None:
    mesh, full = init_device_mesh("cpu", (RANKS,)), torch.randn(rows, 3)
    expected = distribute_tensor(full, mesh, placements, src_data_rank=None)
    found = like(full, expected)
    assert torch.equal(found.to_local(), expected.to_local())  # type: ignore[attr-defined]
    assert found.shape == full.shape
