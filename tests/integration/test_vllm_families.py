"""Adapters that we trained, in the real vLLM: for each dense family, every token is as probable as it should be.

One process for all: importing vLLM takes longer than all of them.
"""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from tests.support.families import write_family
from tests.support.vllm_host import WIDE, prepare
from tests.trainer.job import FAST, Job
from transformers import AutoModelForCausalLM

from anneal.api.methods import Lora, Method

pytestmark = pytest.mark.integration

FAMILIES = ("llama", "qwen2", "qwen3", "mistral")
TEXT = "«user» 7: please please light on<|end|>«assistant» On1".encode()


def log_probabilities(model: Any, tokens: list[int]) -> list[float]:
    with torch.inference_mode():
        logits = model(input_ids=torch.tensor([tokens])).logits[0, :-1].float()
    chosen = logits.log_softmax(dim=-1).gather(1, torch.tensor(tokens[1:])[:, None])
    found: list[float] = chosen[:, 0].tolist()
    return found


def test_an_adapter_that_we_trained_is_the_same_in_vllm(tmp_path: Path) -> None:
    """Prepared, trained and published as pods do it; every token has the probability that transformers gives it."""
    tasks, expected = [], []
    for family in FAMILIES:
        base = tmp_path / family / "base"
        write_family(base, family, **WIDE)
        job = Job(base, tmp_path / family, training=FAST, method=Method(lora=Lora(rank=4, alpha=32)))
        result = job.published()
        assert result.publish is not None, result.message
        adapter = job.output / result.publish.uri.rpartition("/")[2]
        tokens = list(TEXT)
        tasks.append({"base": str(base), "adapter": str(adapter), "tokens": tokens})
        model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32).eval()
        bare = log_probabilities(model, tokens)
        tuned = log_probabilities(PeftModel.from_pretrained(model, adapter).eval(), tokens)
        expected.append({"base": bare, "adapter": tuned})
    (tmp_path / "tasks.json").write_text(json.dumps(tasks))
    script = Path(__file__).parents[1] / "support/vllm_families.py"
    done = subprocess.run(
        [str(prepare()), str(script), str(tmp_path / "tasks.json")],
        env={**os.environ, "VLLM_ENABLE_V1_MULTIPROCESSING": "0", "VLLM_NO_USAGE_STATS": "1", "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    found = json.loads(done.stdout.splitlines()[-1])
    for family, ours, theirs in zip(FAMILIES, expected, found, strict=True):
        for name in ("base", "adapter"):
            assert theirs[name] == pytest.approx(ours[name], abs=1e-3), (family, name)
        assert max(abs(a - b) for a, b in zip(ours["base"], ours["adapter"], strict=True)) > 0.05, family
