"""Passes fit into what the pod may use, and less memory costs time, never the result."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tests.unit.trainer.job import Job
from tests.unit.trainer.test_chain import outcome

from anneal_trainer.fit import memory

GIB = 1024**3


def test_the_pods_limit_counts_where_it_is_below_the_machines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    limit = tmp_path / "memory.max"
    monkeypatch.setattr(memory, "_CGROUP_LIMITS", (str(limit), str(tmp_path / "absent")))
    machine = memory.usable_bytes(torch.device("cpu"))
    assert machine > GIB
    limit.write_text("max\n")
    assert memory.usable_bytes(torch.device("cpu")) == machine
    limit.write_text(f"{GIB // 2}\n")
    assert memory.usable_bytes(torch.device("cpu")) == GIB // 2


def test_less_memory_means_smaller_passes_and_then_recomputing(monkeypatch: pytest.MonkeyPatch, base: Path) -> None:
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(base)

    def limit_with(usable: int) -> memory.PassLimit:
        monkeypatch.setattr(memory, "usable_bytes", lambda _device: usable)
        return memory.pass_limit(model, torch.device("cpu"), longest_row=100)

    large, small, tiny = limit_with(8 * GIB), limit_with(GIB + 3 * 1024**2), limit_with(GIB + 1024**2)
    assert large.tokens > small.tokens >= 100
    assert not large.recompute
    assert not small.recompute
    assert tiny.recompute
    assert tiny.tokens >= 100


def test_recomputing_learns_the_same(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    run = job.fit_run(job.prepared())
    assert job.do(run).outcome == "Succeeded"
    roomy = outcome(job)
    job.training = run.training.model_copy(update={"max_steps": 6})
    monkeypatch.setattr(memory, "usable_bytes", lambda _device: GIB)
    job.root = job.root / "small"
    job.root.mkdir()
    assert job.fitted().outcome == "Succeeded"
    for expected, found in zip(roomy["losses"], outcome(job)["losses"], strict=True):
        assert found["loss_sum"] == pytest.approx(expected["loss_sum"], rel=1e-4)
