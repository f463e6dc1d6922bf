"""Adapters that we trained, in the real vLLM: for each family, every token is as probable as it should be.

Adapters where vLLM on CPU applies them, else the merged model (docs/models.md says which, and why).
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
from tests.support.vllm_host import LATENT, WIDE, prepare
from tests.trainer.job import FAST, Job
from transformers import AutoModelForCausalLM, AutoModelForImageTextToText

from anneal.api.methods import Lora, Method

pytestmark = pytest.mark.integration

#: Per family, the shape that vLLM's kernels for CPUs have, and what of it is published.
FAMILIES: dict[str, tuple[dict[str, Any], tuple[str, ...]]] = {
    "llama": (WIDE, ("adapter",)),
    "qwen2": (WIDE, ("adapter",)),
    "qwen3": (WIDE, ("adapter",)),
    "mistral": (WIDE, ("adapter",)),
    "mistral3": (WIDE, ("adapter", "merged")),
    # Chunks are of whole pages of the cache, and vLLM leaves the tuning of temperature (floor_scale) to long contexts.
    "llama4": ({**WIDE, "attention_chunk_size": 128, "floor_scale": 8192}, ("merged",)),
    "deepseek_v3": (LATENT, ("merged",)),
}
#: R1 without experts, beside which vLLM on CPU applies no adapter.
DENSE_LATENT = {**LATENT, "first_k_dense_replace": 2}
#: All of R1's attention, of which kv_b_proj is not adapted by default, since vLLM does not apply adapters there.
MERGED = {"deepseek_v3": ["q_a_proj", "q_b_proj", "kv_a_proj_with_mqa", "kv_b_proj", "o_proj"]}
#: Longer than the windows and chunks of all families.
TEXT = ("«user» 7: please please light on<|end|>«assistant» On1" * 3).encode()


def log_probabilities(model: Any, tokens: list[int]) -> list[float]:
    with torch.inference_mode():
        logits = model(input_ids=torch.tensor([tokens])).logits[0, :-1].float()
    chosen = logits.log_softmax(dim=-1).gather(1, torch.tensor(tokens[1:])[:, None])
    found: list[float] = chosen[:, 0].tolist()
    return found


def load(folder: Path, family: str) -> Any:
    auto = AutoModelForImageTextToText if family == "mistral3" else AutoModelForCausalLM
    return auto.from_pretrained(folder, dtype=torch.float32).eval()


class Asked:
    """Models to ask vLLM about, each with what transformers says of it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.tokens = list(TEXT)
        self.tasks: list[dict[str, Any]] = []
        self.expected: list[dict[str, list[float]]] = []
        self.named: list[str] = []

    def family(self, family: str, shape: dict[str, Any], contents: tuple[str, ...], targets: list[str]) -> None:
        root = self.root / str(len(self.named))
        base = root / "base"
        write_family(base, family, **shape)
        bare = log_probabilities(load(base, family), self.tokens)
        if "adapter" in contents:
            adapter = self._published(base, root / "adapter", targets, merge=False)
            tuned = log_probabilities(PeftModel.from_pretrained(load(base, family), adapter).eval(), self.tokens)
            self._ask(family, base, {"base": None, "adapter": str(adapter)}, {"base": bare, "adapter": tuned})
        else:
            self._ask(family, base, {"base": None}, {"base": bare})
        if "merged" in contents:
            merged = self._published(base, root / "merged", targets, merge=True)
            said = log_probabilities(load(merged, family), self.tokens)
            assert max(abs(a - b) for a, b in zip(bare, said, strict=True)) > 0.05, family
            self._ask(f"{family} merged", merged, {"merged": None}, {"merged": said})

    def _published(self, base: Path, root: Path, targets: list[str], merge: bool) -> Path:
        root.mkdir(parents=True)
        method = Method(lora=Lora(rank=4, alpha=32, target_modules=targets))
        job = Job(base, root, training=FAST, method=method, merge=merge)
        result = job.published()
        assert result.publish is not None, result.message
        return job.output / result.publish.uri.rpartition("/")[2]

    def _ask(self, name: str, model: Path, adapters: dict[str, str | None], said: dict[str, list[float]]) -> None:
        self.tasks.append({"model": str(model), "adapters": adapters, "tokens": self.tokens})
        self.expected.append(said)
        self.named.append(name)


def test_what_we_trained_is_the_same_in_vllm(tmp_path: Path) -> None:
    """Prepared, trained and published as pods do it; every token has the probability that transformers gives it."""
    asked = Asked(tmp_path)
    for family, (shape, contents) in FAMILIES.items():
        asked.family(family, shape, contents, MERGED.get(family, []))
    asked.family("deepseek_v3", DENSE_LATENT, ("adapter",), [])
    (tmp_path / "tasks.json").write_text(json.dumps(asked.tasks))
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
    for named, ours, theirs in zip(asked.named, asked.expected, found, strict=True):
        assert theirs.keys() == ours.keys()
        for name, expected in ours.items():
            assert theirs[name] == pytest.approx(expected, abs=1e-3), (named, name)
        if "adapter" in ours:
            assert max(abs(a - b) for a, b in zip(ours["base"], ours["adapter"], strict=True)) > 0.05, named
