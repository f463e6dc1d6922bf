"""A step that runs out of memory is done again with less at once, and learns the same."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from tests.trainer.job import Job
from tests.trainer.test_chain import outcome

from anneal_trainer.fit.loss import PiecewiseLoss


class Card:
    """Stands for an accelerator: it runs out of memory for passes of more than `room` tokens whose activations are
    kept, and of more than `room_recomputed` where they are not. A real one cannot be had here."""

    def __init__(self, patch: pytest.MonkeyPatch, room: int, room_recomputed: int) -> None:
        self.passes: list[int] = []
        self.failures = 0
        whole = PiecewiseLoss.__call__

        def limited(loss: PiecewiseLoss, batch: Any) -> torch.Tensor:
            result = whole(loss, batch)
            kept = not any(getattr(m, "gradient_checkpointing", False) for m in loss._model.modules())
            if batch.tokens.numel() > (room if kept else room_recomputed):
                self.failures += 1
                raise torch.OutOfMemoryError("CUDA out of memory")
            self.passes.append(batch.tokens.numel())
            return result

        patch.setattr(PiecewiseLoss, "__call__", limited)


def trained(job: Job, folder: str) -> list[dict[str, Any]]:
    apart = replace(job, root=job.root / folder)
    apart.root.mkdir()
    result = apart.fitted()
    assert result.outcome == "Succeeded", result.message
    losses: list[dict[str, Any]] = outcome(apart)["losses"]
    return losses


@pytest.mark.parametrize(("room", "recomputed"), [(128, 128), (60, 100_000)], ids=["smaller passes", "recomputing"])
def test_less_at_once_learns_the_same(job: Job, monkeypatch: pytest.MonkeyPatch, room: int, recomputed: int) -> None:
    expected = trained(job, "roomy")
    with monkeypatch.context() as patch:
        card = Card(patch, room, recomputed)
        found = trained(job, "tight")
    assert 0 < card.failures < 8
    assert max(card.passes) <= max(room, recomputed)
    for one, other in zip(expected, found, strict=True):
        assert other["tokens"] == one["tokens"]
        assert other["loss_sum"] == pytest.approx(one["loss_sum"], rel=1e-4)


def test_when_not_even_one_row_fits_it_is_said(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    Card(monkeypatch, 0, 0)
    result = job.fitted()
    assert (result.outcome, result.reason) == ("Failed", "OutOfMemory")
