"""What prepare tells of the base model and the rows, for the estimate."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.trainer.job import Job
from transformers import AutoModelForCausalLM

from anneal_trainer import model, rows
from anneal_trainer.workspace import Workspace


def test_sizes_are_those_of_the_model_and_of_the_rows(job: Job, base: Path) -> None:
    prepared = job.prepared()
    assert prepared.sizes is not None
    loaded = AutoModelForCausalLM.from_pretrained(base)
    assert prepared.sizes.model.parameters == sum(p.numel() for p in loaded.parameters())
    written = rows.read(Workspace(job.workspace).train, prepared.dataset.digest)
    lengths = written.lengths.tolist()
    assert prepared.sizes.rows.tokens == sum(lengths) == prepared.dataset.counts.train_tokens
    assert prepared.sizes.rows.longest == max(lengths)
    assert prepared.sizes.rows.squares == sum(n * n for n in lengths)
    assert 0 < prepared.sizes.rows.answer_tokens < sum(lengths)


def test_an_unknown_family_is_sized_by_its_weight_files(base: Path, tmp_path: Path) -> None:
    known = model.shape(base)
    config = json.loads((base / "config.json").read_text()) | {"model_type": "something-else"}
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "model.safetensors").write_bytes((base / "model.safetensors").read_bytes())
    found = model.shape(tmp_path)
    assert known is not None
    assert found == known.model_copy(update={"family": "something-else"})


@pytest.mark.parametrize("config", ["{}", '{"model_type": "llama", "num_hidden_layers": "many"}'])
def test_what_cannot_be_sized_is_not_guessed(config: str, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(config)
    assert model.shape(tmp_path) is None
