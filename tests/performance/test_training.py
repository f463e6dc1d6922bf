"""How fast training is beside the trainers that people use, and what its short cuts are worth; `make bench-training`.

Figures are tokens of rows (padding does not count) per CPU second of one thread, in build/bench/training.json.
"""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.performance import trainers
from tests.performance.figures import OUT, SEED, Turn, alternate, compared, median, record
from transformers import AutoModelForCausalLM, MistralConfig, MistralForCausalLM

from anneal.api.methods import Lora
from anneal_trainer.fit import tensors
from anneal_trainer.fit.checkpoint import CheckpointStore
from anneal_trainer.fit.methods import Learner
from anneal_trainer.fit.methods.lora import adapt
from anneal_trainer.fit.optimizer import optimizer
from anneal_trainer.fit.saver import Saver
from anneal_trainer.fit.state import Point, TrainingState
from anneal_trainer.prepare.template import Rendered
from anneal_trainer.rows import TrainingRows, flatten

pytestmark = pytest.mark.performance
VOCABULARY = 4096
LABELLED = 0.4
#: The folder of SmolLM2-135M-Instruct; `make bench-training` makes it of the package that the demo takes it from.
SMOLLM2 = Path(os.environ.get("ANNEAL_BENCH_SMOLLM2", OUT.with_name("hub") / "smollm2-135m-instruct"))


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
    gc.collect()


def chat(count: int) -> TrainingRows:
    """Conversations of log-normal lengths: mean about 214 tokens, one of twenty above 600, none above 909."""
    return rows(count, 0, lambda random: random.lognormal(5.011, 0.8425))


def rows(count: int, shared: int, own: Callable[[np.random.Generator], float]) -> TrainingRows:
    """Rows with `shared` tokens in common and random ones of their own, of which the last two fifths are learned."""
    random = np.random.default_rng(SEED)
    beginning = random.integers(1, VOCABULARY, shared).tolist()
    made = []
    for _ in range(count):
        length = int(np.clip(own(random), 12, 909))
        answer = max(4, round(LABELLED * length))
        tokens = [*beginning, *random.integers(1, VOCABULARY, length).tolist()]
        made.append(Rendered(tokens, [False] * (len(tokens) - answer) + [True] * answer))
    return flatten(made)


def tiny() -> Any:
    """A Mistral of two layers whose head is half of the work, adapted."""
    torch.manual_seed(SEED)
    config = MistralConfig(
        vocab_size=VOCABULARY, hidden_size=128, intermediate_size=512, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=1024, sliding_window=None,
    )  # fmt: skip
    return adapted(MistralForCausalLM(config))


def smollm2() -> Any:
    """SmolLM2-135M-Instruct, adapted."""
    return adapted(AutoModelForCausalLM.from_pretrained(SMOLLM2, dtype=torch.float32))


def adapted(base: Any) -> Any:
    base.config.use_cache = False
    return adapt(base.requires_grad_(requires_grad=False), Lora(rank=16, alpha=32), SEED).train()


def same_loss(turns: dict[str, list[Turn]], relative: float) -> None:
    """Every way computed the same; trainers that weigh steps of unequal size alike may be a little off."""
    losses = [turn.loss for each in turns.values() for turn in each]
    assert max(losses) <= min(losses) * (1 + relative), turns


@pytest.mark.parametrize(
    ("key", "model", "count", "rounds"), [("chat", tiny, 128, 5), ("smollm2", smollm2, 16, 2)], ids=["chat", "smollm2"]
)
def test_conversations_beside_trainers_that_people_use(
    key: str, model: Callable[[], Any], count: int, rounds: int
) -> None:
    data = chat(count)
    turns = alternate(
        {
            "stock": lambda: trainers.stock(model(), data),
            "trl": lambda: trainers.trl(model(), data),
            "ours": lambda: trainers.ours(model(), data),
        },
        rounds,
    )
    tokens = int(data.lengths.sum())
    found = {
        "rows": len(data),
        "tokens": tokens,
        "vs_stock": round(median(turns["stock"]) / median(turns["ours"]), 2),
        "vs_trl": round(median(turns["trl"]) / median(turns["ours"]), 2),
        **compared(turns, tokens),
    }
    record(key, found)
    same_loss(turns, 0.02)
    if key == "chat":
        assert found["vs_stock"] >= 3.3
        assert found["vs_trl"] >= 2.0


@pytest.mark.parametrize(
    ("key", "count", "shared", "least"), [("shared_short", 56, 16, 1.6), ("shared_long", 14, 264, 4.0)]
)
def test_beginnings_that_rows_share(key: str, count: int, shared: int, least: float) -> None:
    data = rows(count, shared, lambda random: random.normal(20, 3) if shared < 100 else 20)
    turns = alternate(
        {
            "packed": lambda: trainers.ours(smollm2(), data, 4096, "Packed"),
            "shared": lambda: trainers.ours(smollm2(), data, 4096),
        },
        3,
    )
    tokens = int(data.lengths.sum())
    ratio = round(median(turns["packed"]) / median(turns["shared"]), 2)
    record(key, {"rows": count, "tokens": tokens, "vs_packed": ratio, **compared(turns, tokens)})
    same_loss(turns, 1e-5)
    assert ratio >= least


def test_saving_beside_steps_of_the_demo(tmp_path: Path) -> None:
    """What a checkpoint costs where it is most often made: every 25 steps of 1,024 tokens.

    Counted as the larger of what steps wait for it and of the CPU time that it takes in all, its thread included.
    """
    data = chat(16)
    tuned = smollm2()
    turn = trainers.ours(tuned, data, 1024)
    step = turn.seconds * 1024 / float(data.lengths.sum())
    learner = Learner(tuned)
    updates = optimizer(learner, "AdamW", 0.0)
    saves, waits = [], []
    with Saver(CheckpointStore(tmp_path / "checkpoints", "bench", keep=2), 0) as saver:
        for number in range(1, 6):
            state = TrainingState()
            state.record(Point(step=25 * number, loss_sum=1.0, tokens=1))
            began, used = time.monotonic(), time.process_time()
            saver.start(state, tensors.content(learner, updates, "pvc://hub/smollm2"))
            waits.append(time.monotonic() - began)
            saver.finish()
            saves.append(time.process_time() - used)
            assert saver.saved_step == state.step
    overhead = round(max(float(np.median(saves)), float(np.median(waits))) / (25 * step), 5)
    figures = {
        "overhead": overhead,
        "waitSeconds": [round(s, 3) for s in waits],
        "saveCpuSeconds": [round(s, 3) for s in saves],
        "stepCpuSeconds": round(step, 2),
    }
    record("checkpoint", figures)
    assert overhead <= 0.02


def test_memory_of_the_loss_beside_the_stock_loss() -> None:
    """At 2,048 labels of 131,072 each, a process each, so that its highest memory is its own."""
    peaks = {way: [_peak(way) for _ in range(2)] for way in ("stock", "ours")}
    losses = {loss for each in peaks.values() for _, loss in each}
    medians = {way: float(np.median([peak for peak, _ in each])) for way, each in peaks.items()}
    ratio = round(medians["ours"] / medians["stock"], 4)
    megabytes = {way: [round(peak / 2**20) for peak, _ in each] for way, each in peaks.items()}
    record("loss", {"peak_vs_stock": ratio, "labels": 2048, "vocabulary": 131_072, "peakMiB": megabytes})
    assert max(losses) <= min(losses) * (1 + 1e-5)
    assert ratio <= 0.08


def _peak(way: str) -> tuple[int, float]:
    """(bytes above those before the loss, the loss) of a child process."""
    child = subprocess.run(
        [sys.executable, "-m", "tests.performance.loss_memory", way], check=True, capture_output=True, text=True
    )
    peak, loss = child.stdout.split()
    return int(peak), float(loss)
