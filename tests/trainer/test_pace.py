"""What is told of a training's speed: numbers by hand, and none where the peak of the accelerator is not known."""

from __future__ import annotations

import json

import pytest
import torch
from tests.trainer.job import Job

from anneal.estimate.accelerators import KNOWN, peak_of
from anneal_trainer.fit.pace import Meter, Pace, peak_flops
from anneal_trainer.fit.state import Point, TrainingState

CPU = torch.device("cpu")
TABLE = {known.product: known.teraflops for known in KNOWN}


def state_of(meter: Meter) -> TrainingState:
    """Two steps: 1,000 tokens in 2 s, and 500, of which 100 were shared and not computed again, in 1 s."""
    state = TrainingState()
    for number, (row_tokens, computed, seconds) in enumerate([(1000, 1200, 2.0), (500, 400, 1.0)], 1):
        state.record(meter.measured(Point(step=number, loss_sum=3.0, tokens=10), row_tokens, computed, seconds))
    return state


def test_utilisation_is_what_the_model_asks_for_over_what_the_accelerators_can_do() -> None:
    state = state_of(Meter(CPU, flops_per_token=6e9, peak=10e12))
    assert state.curve[0].mfu == pytest.approx(1000 * 6e9 / (2 * 10e12)), "padding is not counted"
    assert state.curve[1].mfu == pytest.approx(400 * 6e9 / 10e12), "what is shared is counted once"
    assert state.whole.mfu == pytest.approx(1400 * 6e9 / (3 * 10e12))
    assert state.whole.tokens_per_second == 500
    told = Pace(state, 4).report(saved_step=0)
    assert (told.mfu, told.step_seconds) == ("0.280", "1.5")
    assert state.status().mfu == "0.280"


def test_without_a_known_peak_there_is_no_utilisation() -> None:
    state = state_of(Meter(CPU, flops_per_token=6e9))
    assert (state.whole.mfu, state.status().mfu, Pace(state, 4).report(0).mfu) == (None, None, None)
    assert peak_flops(CPU, torch.bfloat16, TABLE) is None
    assert peak_flops(torch.device("cuda"), torch.float32, TABLE) is None, "the table is of bfloat16"


@pytest.mark.parametrize(
    ("name", "teraflops"),
    [
        ("NVIDIA H100 80GB HBM3", 989),
        ("NVIDIA A100 80GB PCIe", 312),
        ("NVIDIA H100 80GB HBM3 MIG 3g.40gb", 989 * 3 / 7),
        ("NVIDIA GeForce RTX 4090", None),
    ],
)
def test_a_card_is_known_by_the_name_that_its_driver_gives_it(name: str, teraflops: float | None) -> None:
    found = peak_of(name, TABLE)
    assert found == (None if teraflops is None else pytest.approx(teraflops * 1e12))


def test_the_report_beside_the_artifact_tells_of_every_stretch(job: Job) -> None:
    result = job.published()
    assert result.publish is not None, result.message
    folder = job.output / result.publish.uri.rpartition("/")[2]
    report = json.loads((folder / "report.json").read_text())
    assert [told["step"] for told in report["history"]] == [1, 2, 3, 4, 5, 6]
    for told in report["history"]:
        assert told.keys() == {"step", "loss", "learningRate", "tokensPerSecond", "peakMemoryBytes"}
        assert told["tokensPerSecond"] > 0
        assert 10**8 < told["peakMemoryBytes"] < 10**11
    assert report["trained"]["peakMemoryBytes"] == max(told["peakMemoryBytes"] for told in report["history"])
    assert "mfu" not in report["trained"]
