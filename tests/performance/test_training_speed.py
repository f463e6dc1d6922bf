"""How fast training is beside the Trainer of transformers, on the same rows, model, adapter and thread.

CPU seconds of one thread, turns interleaved, medians: on a shared machine anything else measures the neighbours.
Figures are real tokens (padding does not count) per CPU second, in build/bench/training.json.
"""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.support.tiny_model import write_tokenizer
from transformers import DataCollatorForSeq2Seq, LlamaConfig, LlamaForCausalLM, Trainer, TrainingArguments

from anneal.api.methods import Lora
from anneal.api.training import Training
from anneal_trainer.fit import loop
from anneal_trainer.fit.batches import StepPlan
from anneal_trainer.fit.methods import Learner
from anneal_trainer.fit.methods.lora import adapt
from anneal_trainer.fit.passes import quickest
from anneal_trainer.fit.ranks import Alone
from anneal_trainer.fit.state import TrainingState
from anneal_trainer.preemption import Preemption
from anneal_trainer.prepare.template import Rendered
from anneal_trainer.rows import TrainingRows, flatten

pytestmark = pytest.mark.performance

OUT = Path(__file__).resolve().parents[2] / "build" / "bench" / "training.json"
ROUNDS = 3
TOKENS_PER_STEP = 1024
VOCABULARY = 4096


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def commands() -> TrainingRows:
    """Short commands after one system prompt: 36 tokens of which 16 are the same in all, as in the demo's data."""
    return _rows(count=112, shared=16, own=lambda random: random.normal(20, 3))


def conversations() -> TrainingRows:
    """Rows of very different lengths (log-normal, most under 100 tokens, some of 400) that share nothing."""
    return _rows(count=40, shared=0, own=lambda random: random.lognormal(4.2, 0.7))


def _rows(count: int, shared: int, own: Any) -> TrainingRows:
    random = np.random.default_rng(0)
    beginning = random.integers(1, VOCABULARY, shared).tolist()
    rows = []
    for _ in range(count):
        length = int(np.clip(own(random), 12, 400))
        answer = max(4, length // 4)
        tokens = beginning + random.integers(1, VOCABULARY, length).tolist()
        rows.append(Rendered(tokens, [False] * (len(tokens) - answer) + [True] * answer))
    return flatten(rows)


def model() -> Any:
    """A Llama whose head has the share of the work that it has in models of 135 M parameters."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=256,
        intermediate_size=768,
        num_hidden_layers=6,
        num_attention_heads=8,
        num_key_value_heads=4,
        max_position_embeddings=512,
    )
    base = LlamaForCausalLM(config).requires_grad_(False)
    return adapt(base, Lora(), 1).train()


def seconds_of_ours(rows: TrainingRows) -> float:
    """CPU seconds of one epoch, set-up of the passes included."""
    tuned = model()
    training = Training(epochs=1, tokens_per_step=TOKENS_PER_STEP, learning_rate="1e-4")
    plan = StepPlan(rows.lengths, training)
    optimizer = torch.optim.AdamW([p for p in tuned.parameters() if p.requires_grad], fused=True)
    began = time.process_time()
    passes = quickest(tuned, rows, torch.device("cpu"), 4096, torch.float32)
    state = TrainingState()
    trainer = loop.Trainer(Learner(tuned), optimizer, passes, plan, training, Preemption(), Alone())
    loop.train(trainer, state, lambda: None)
    assert state.tokens == rows.lengths.sum()
    return time.process_time() - began


def seconds_of_trainer(rows: TrainingRows, folder: Path) -> float:
    """CPU seconds of one epoch of transformers' Trainer, padding batches of as many rows as our steps have."""
    from transformers import AutoTokenizer

    tuned = model()
    write_tokenizer(folder)
    data = []
    for i in range(len(rows)):
        tokens, labelled = rows.row(i)
        data.append({"input_ids": tokens.tolist(), "labels": np.where(labelled, tokens, -100).tolist()})
    arguments = TrainingArguments(
        output_dir=str(folder),
        per_device_train_batch_size=max(1, round(TOKENS_PER_STEP / rows.lengths.mean())),
        num_train_epochs=1,
        learning_rate=1e-4,
        save_strategy="no",
        logging_strategy="no",
        report_to="none",
        disable_tqdm=True,
        use_cpu=True,
        seed=1,
    )
    collator = DataCollatorForSeq2Seq(AutoTokenizer.from_pretrained(folder), padding=True)
    trainer = Trainer(model=tuned, args=arguments, train_dataset=data, data_collator=collator)
    began = time.process_time()
    trainer.train()
    return time.process_time() - began


@pytest.mark.parametrize(("make", "least"), [(commands, 1.7), (conversations, 1.7)], ids=["commands", "conversations"])
def test_training_is_faster_than_padding(make: Any, least: float, tmp_path: Path) -> None:
    rows = make()
    ours, theirs = [], []
    for _ in range(ROUNDS):
        theirs.append(seconds_of_trainer(rows, tmp_path))
        ours.append(seconds_of_ours(rows))
    tokens = int(rows.lengths.sum())
    result = {
        "rows": len(rows),
        "tokens": tokens,
        "ours": _figures(tokens, ours),
        "transformersTrainer": _figures(tokens, theirs),
        "ratio": round(statistics.median(theirs) / statistics.median(ours), 2),
        "limit": least,
    }
    print(f"\n{make.__name__}: {json.dumps(result)}")
    _record(make.__name__, result)
    assert result["ratio"] >= least, result


def _figures(tokens: int, seconds: list[float]) -> dict[str, Any]:
    return {
        "tokensPerCpuSecond": round(tokens / statistics.median(seconds)),
        "cpuSeconds": [round(s, 2) for s in seconds],
    }


def _record(name: str, result: dict[str, Any]) -> None:
    OUT.parent.mkdir(parents=True, exist_ok=True)
    known = json.loads(OUT.read_text()) if OUT.exists() else {}
    OUT.write_text(json.dumps(known | {name: result}, indent=2, sort_keys=True) + "\n")
