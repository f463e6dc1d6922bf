"""The benchmark for accelerators does not wait for one to be tried: all of it, on models of two layers, on the CPU."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from tests.performance.training_gpu import MEASURED, NO_CARD, main


def test_the_whole_program_runs_on_tiny_models(tmp_path: Path) -> None:
    out = tmp_path / "training-gpu.json"
    assert main(["--device", "cpu", "--size", "Tiny", "--out", str(out)]) == 0
    document = json.loads(out.read_text())
    assert (document["card"], document["size"]) == ("CPU", "Tiny")
    measured = document["measured"]
    assert set(measured) == set(MEASURED)
    assert set(measured["llama_8b"]) == {"ours", "stock", "trl", "ours_many_lengths"}
    for part in ("llama_8b", "scout_12_layers", "deepseek_2_layers", "full_8b"):
        assert all(way["tokensPerSecond"] > 0 and "notes" not in way for way in measured[part].values()), measured[part]
    for part in ("scout_12_layers", "deepseek_2_layers", "loss"):
        assert measured[part]["ours"]["loss"] == pytest.approx(measured[part]["stock"]["loss"], rel=1e-4)
    assert all(way["tokensPerSecond"] > 0 for way in measured["mistral_24b"].values())
    assert {name: bar["bar"] for name, bar in document["bars"].items()} == {
        "llama_8b": 12_500,
        "mistral_24b": 4_000,
        "scout.vs_stock": 4,
    }


def test_without_a_card_it_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    out = tmp_path / "training-gpu.json"
    assert main(["--out", str(out)]) == 2
    assert capsys.readouterr().err == f"error: {NO_CARD}\n"
    assert not out.exists()
