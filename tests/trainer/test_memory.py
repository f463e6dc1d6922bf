"""Passes fit into what the pod may use, and less memory costs time, never the result."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tests.trainer.job import Job
from tests.trainer.test_chain import outcome
from transformers import AutoModelForCausalLM

from anneal.api.methods import Lora, Method
from anneal.estimate.memory import GIB, PassPlan
from anneal_trainer.fit import memory
from anneal_trainer.fit.methods.lora import adapt
from anneal_trainer.prepare.template import Rendered
from anneal_trainer.rows import flatten

ROWS = flatten([Rendered(list(range(100)), [False] * 60 + [True] * 40)] * 2)


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
    model = adapt(AutoModelForCausalLM.from_pretrained(base).requires_grad_(requires_grad=False), Lora(), 0)
    program = 3 * GIB // 4

    def plan_with(usable: int) -> PassPlan:
        monkeypatch.setattr(memory, "usable_bytes", lambda _device: usable)
        place = memory.Place(torch.device("cpu"), memory.available_bytes(torch.device("cpu")))
        return memory.pass_plan(model, Method(lora=Lora()), ROWS, 1_000_000, place, torch.float32)

    large, small, none = plan_with(8 * GIB), plan_with(int(program / 0.95) + 4 * 1024**2), plan_with(program)
    assert large == PassPlan(16_384, 0)
    assert 100 <= small.tokens < large.tokens
    assert none == PassPlan(100, 1)


def test_keys_are_counted_for_every_row_that_shares_a_beginning() -> None:
    beginning, learned = list(range(80)), [False] * 82 + [True] * 18
    rows = [Rendered([*beginning, *range(100 + 20 * i, 120 + 20 * i)], learned) for i in range(4)]
    assert memory.keys_per_token(flatten(rows)) == pytest.approx(1 + 400 / (80 + 4 * 20))
    assert memory.keys_per_token(flatten([Rendered(r.tokens[i:], learned[i:]) for i, r in enumerate(rows)])) == 1


@pytest.mark.parametrize("every", [1, 2])
def test_recomputing_learns_the_same(job: Job, monkeypatch: pytest.MonkeyPatch, every: int) -> None:
    run = job.fit_run(job.prepared())
    assert job.do(run).outcome == "Succeeded"
    roomy = outcome(job)
    monkeypatch.setattr(memory, "pass_plan", lambda *_: PassPlan(100, every))
    job.root = job.root / "small"
    job.root.mkdir()
    assert job.fitted().outcome == "Succeeded"
    for expected, found in zip(roomy["losses"], outcome(job)["losses"], strict=True):
        assert found["loss_sum"] == pytest.approx(expected["loss_sum"], rel=1e-4)
