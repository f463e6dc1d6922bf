"""Weights dealt out over ranks learn what one process learns, and are saved as it saves them."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from itertools import count
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tests.trainer.job import FAST, Job
from tests.trainer.spread import spread

from anneal.api.estimate import Strategy
from anneal.api.methods import Full, Lora, Method
from anneal.api.runs import EXIT_PREEMPTED, FitRun
from anneal.api.training import CheckpointPolicy, Validation
from anneal_trainer.fit import memory, passes, room
from anneal_trainer.fit import run as program
from anneal_trainer.fit.checkpoint import CheckpointStore, complete
from anneal_trainer.fit.loss import PiecewiseLoss
from anneal_trainer.fit.sharding import Placement
from anneal_trainer.launch import most_important
from anneal_trainer.termination import exit_code

Before = Callable[[Job, int], None]
FULL, LORA = Method(full=Full()), Method(lora=Lora(rank=4, alpha=8))
#: Steps of few rows, so that some ranks have fewer passes than others; rows set aside are asked for their loss, too.
STEPS = FAST.model_copy(
    update={
        "learning_rate": "1e-3",
        "validation": Validation(rows=4, every_steps=3),
        "checkpoint": CheckpointPolicy(every_steps=3, keep=2),
    }
)


def run_of(job: Job, method: Method, folder: str) -> tuple[Job, FitRun]:
    """A job of its own in `folder`, ready to be trained."""
    mine = replace(job, root=job.root / folder, method=method, training=STEPS)
    mine.root.mkdir()
    return mine, mine.fit_run(mine.prepared())


def tensors(job: Job) -> dict[str, torch.Tensor]:
    """All that is in the newest checkpoint."""
    newest = max((job.workspace / "checkpoints").glob("step-*"))
    return {f"{p.name} {n}": t for p in newest.glob("*.safetensors") for n, t in load_file(p).items()}


def curve(job: Job) -> list[dict[str, Any]]:
    """The loss of each step."""
    newest = max((job.workspace / "checkpoints").glob("step-*"))
    points: list[dict[str, Any]] = json.loads((newest / "state.json").read_text())["curve"]
    return points


def same(one: Job, other: Job) -> None:
    """Losses step by step, and everything that was saved."""
    for expected, found in zip(curve(one), curve(other), strict=True):
        assert found["tokens"] == expected["tokens"]
        assert found["loss_sum"] == pytest.approx(expected["loss_sum"], rel=1e-4)
    expected_tensors, found_tensors = tensors(one), tensors(other)
    assert expected_tensors.keys() == found_tensors.keys()
    for name, tensor in expected_tensors.items():
        assert float((found_tensors[name] - tensor).norm() / tensor.norm()) < 1e-2, name


def _small_passes(_job: Job, _rank: int) -> None:
    """Several passes a step."""
    passes.CPU_PASS_TOKENS = 64


def _is_killed_after_saving(job: Job, rank: int) -> None:
    """Rank 1 is killed by the rank that writes the first checkpoint, as soon as it is whole."""
    saved, number = CheckpointStore.save, job.root / "process"
    if rank == 1:
        number.write_text(str(os.getpid()))

    def then_kill(store: CheckpointStore, state: Any, write: Any) -> None:
        saved(store, state, write)
        os.kill(int(number.read_text()), signal.SIGKILL)

    CheckpointStore.save = then_kill  # type: ignore[method-assign]


def _sees_none(_job: Job, rank: int) -> None:
    """Rank 1 has a workspace in which nothing is."""
    if rank:
        CheckpointStore.usable = lambda store, warn=None: iter(())  # type: ignore[method-assign]
        CheckpointStore.at = lambda store, step: None  # type: ignore[method-assign]


def _has_half_a_gib_and_tells(job: Job, rank: int) -> None:
    """Less than the program alone needs; the strategy that is taken is left in a file."""
    chosen = program.placement

    def tell(strategy: Strategy, device: torch.device) -> Placement:
        (job.root / f"took-{rank}").write_text(strategy)
        return chosen(strategy, device)

    memory.usable_bytes = lambda _device: 1024**3
    program.placement = tell  # type: ignore[attr-defined]


def _has_room_for(tokens: int) -> Before:
    """Rank 1 stands for an accelerator with room for passes of so many tokens. A real one cannot be had here."""
    return partial(_limit, tokens)


def _limit(tokens: int, _job: Job, rank: int) -> None:
    computed = PiecewiseLoss.__call__

    def limited(loss: PiecewiseLoss, batch: Any) -> torch.Tensor:
        result = computed(loss, batch)
        if rank and batch.tokens.numel() > tokens:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return result

    PiecewiseLoss.__call__ = limited  # type: ignore[method-assign]


def _is_told_to_go(told: int) -> Before:
    """That rank alone gets SIGTERM, in the middle of its fourth pass."""
    return partial(_tell, told)


def _tell(told: int, job: Job, rank: int) -> None:
    _small_passes(job, rank)
    if rank != told:
        return
    computed, passed = PiecewiseLoss.__call__, count(1)

    def interrupted(loss: PiecewiseLoss, batch: Any) -> torch.Tensor:
        result = computed(loss, batch)
        if result.requires_grad and loss._model.training and next(passed) == 4:
            os.kill(os.getpid(), signal.SIGTERM)
        return result

    PiecewiseLoss.__call__ = interrupted  # type: ignore[method-assign]


def test_ranks_that_share_weights_begin_again_with_less_when_one_runs_out_of_memory(job: Job) -> None:
    """The others wait for it in the middle of a pass, so the limit is kept where all see it at the next start."""
    alone, run = run_of(job, FULL, "alone")
    assert alone.do(run).outcome == "Succeeded"
    mine, same_run = run_of(job, FULL, "mine")
    other, short = spread(mine, same_run, 1, 2, "FSDP", _has_room_for(100))
    assert other is not None
    assert short is not None
    assert (other.outcome, short.outcome) == ("Preempted", "Preempted"), (other.message, short.message)
    said = "passes of up to 82 tokens"  # the longest row
    assert (
        short.message == f"out of memory where weights are shared: {said} from now on; all ranks go on from the"
        " last checkpoint"
    )
    for result in spread(mine, same_run, 1, 2, "FSDP", _has_room_for(100)):
        assert result is not None
        assert result.fit is not None, result.message
        assert result.fit.training.remarks == [f"{said}: more ran out of memory"]
    same(alone, mine)


@pytest.mark.parametrize("strategy", ["DDP", "FSDP"])
def test_a_rank_that_runs_out_of_memory_for_good_is_the_one_that_is_told_of(job: Job, strategy: Strategy) -> None:
    """Those that waited for it did nothing wrong: they are neither failures nor taken for killed."""
    mine, run = run_of(job, FULL, "mine")
    if strategy == "FSDP":  # the last of the starts that each try less than the one before
        room.remember(mine.workspace / "limit.json", room.Limit(tokens=82, recompute=True))
    waiting, short = spread(mine, run, 1, 2, strategy, _has_room_for(50))  # a trial has 43 tokens, the longest row 82
    assert waiting is not None
    assert short is not None
    assert (short.outcome, short.reason, exit_code(short)) == ("Failed", "OutOfMemory", 1), short.message
    assert (waiting.outcome, exit_code(waiting)) == ("Preempted", EXIT_PREEMPTED), waiting.message
    assert "lost another of 2 ranks" in waiting.message
    assert most_important([waiting, short]) is short


@pytest.mark.parametrize("method", [FULL, LORA], ids=["full", "lora"])
@pytest.mark.parametrize(
    ("strategy", "pods", "per_pod", "told"), [("FSDP", 1, 2, 0), ("HSDP", 2, 2, 3)], ids=["FSDP", "HSDP"]
)
def test_sigterm_to_one_rank_of_many_that_share_weights_stops_all_after_one_step(
    job: Job, method: Method, strategy: Strategy, pods: int, per_pod: int, told: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All save together what is a whole checkpoint, between the regular ones, and go on from it."""
    monkeypatch.setattr("anneal_trainer.fit.passes.CPU_PASS_TOKENS", 64)
    alone, run = run_of(job, method, "alone")
    assert alone.do(run).outcome == "Succeeded"
    mine, same_run = run_of(job, method, "mine")
    left = [r for r in spread(mine, same_run, pods, per_pod, strategy, _is_told_to_go(told)) if r is not None]
    assert [exit_code(r) for r in left] == [EXIT_PREEMPTED] * (pods * per_pod), [r.message for r in left]
    steps = {r.fit.checkpoint_step for r in left if r.fit is not None}
    assert len(steps) == 1, "ranks left after different steps"
    step = steps.pop()
    assert {r.message for r in left} == {f"preempted at step {step} of 6"}
    assert step % STEPS.checkpoint.every_steps, "a regular checkpoint would be there anyway"
    assert next(complete(mine.workspace / "checkpoints")).state.step == step

    for result in spread(mine, same_run, pods, per_pod, strategy, _small_passes):
        assert result is not None
        assert result.fit is not None, result.message
        assert (result.outcome, result.fit.resumes) == ("Succeeded", 1)
    same(alone, mine)


@pytest.mark.parametrize("method", [FULL, LORA], ids=["full", "lora"])
def test_every_way_of_spreading_learns_what_one_process_learns(
    job: Job, method: Method, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("anneal_trainer.fit.passes.CPU_PASS_TOKENS", 64)  # several passes a step
    alone, run = run_of(job, method, "alone")
    assert alone.do(run).outcome == "Succeeded"
    ways: tuple[tuple[Strategy, int, int], ...] = (("DDP", 1, 2), ("FSDP", 1, 2), ("HSDP", 2, 2))
    for strategy, pods, per_pod in ways:
        mine, same_run = run_of(job, method, strategy)
        for result in spread(mine, same_run, pods, per_pod, strategy, _small_passes):
            assert result is not None
            assert (result.outcome, result.reason) == ("Succeeded", "Trained"), result.message
        same(alone, mine)


def test_what_is_saved_by_many_is_gone_on_with_by_one_and_back(job: Job) -> None:
    alone, run = run_of(job, FULL, "alone")
    assert alone.do(run).outcome == "Succeeded"
    mine, same_run = run_of(job, FULL, "mine")
    leader, killed = spread(mine, same_run, 1, 2, "FSDP", _is_killed_after_saving)
    assert killed is None
    assert leader is not None
    assert (leader.outcome, "lost another of 2 ranks" in leader.message) == ("Preempted", True), leader.message
    assert [p.name for p in (mine.workspace / "checkpoints").glob("step-*")] == ["step-00000003"]
    assert mine.do(same_run).outcome == "Succeeded"
    same(alone, mine)

    newest = max((mine.workspace / "checkpoints").glob("step-*"))
    (newest / "masters.safetensors").write_bytes(b"broken")
    both = spread(mine, same_run, 1, 2, "FSDP")
    assert [r.outcome for r in both if r is not None] == ["Succeeded", "Succeeded"]
    assert [r.fit.resumes for r in both if r is not None and r.fit is not None] == [1, 1]
    same(alone, mine)


def test_a_rank_that_sees_other_checkpoints_than_the_leader_ends_all(job: Job) -> None:
    mine, run = run_of(job, LORA, "mine")
    assert mine.do(run).outcome == "Succeeded"
    (mine.workspace / "checkpoints" / "step-00000006" / "adapter_model.safetensors").write_bytes(b"broken")
    leader, other = spread(mine, run, 1, 2, "DDP", _sees_none)
    assert other is not None
    assert (other.outcome, other.reason, other.retryable) == ("Failed", "CheckpointNotSeen", True)
    assert "goes on from step 3, and this one can only from step 0" in other.message
    assert leader is not None
    assert leader.outcome == "Preempted", leader.message


def test_without_a_plan_ranks_choose_by_the_memory_that_they_find(job: Job) -> None:
    mine, run = run_of(job, LORA, "mine")
    # Nothing fits, so the way with the least memory is taken.
    spread(mine, run, 1, 2, None, _has_half_a_gib_and_tells)
    taken = [(mine.root / f"took-{rank}").read_text() for rank in range(2)]
    assert taken == ["FSDP", "FSDP"]
