"""The ways to train that are compared: ours, transformers' Trainer, TRL's; the same rows, adapter and learning rate.

The learning rate is so small that the model stays what it is. So all ways compute the same loss, whatever rows they put
into one step, and that they do is asserted. What happens once, before the first step, is not counted for any of them.
"""

from __future__ import annotations

import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from datasets import Dataset
from tests.performance.figures import SEED, Turn
from tests.support.tiny_model import write_tokenizer
from transformers import AutoTokenizer, DataCollatorForSeq2Seq, TrainerCallback, TrainingArguments
from transformers import Trainer as StockTrainer
from trl import SFTConfig, SFTTrainer

from anneal.api.training import Training
from anneal_trainer.fit import loop
from anneal_trainer.fit.batches import StepPlan
from anneal_trainer.fit.methods import Learner
from anneal_trainer.fit.pace import Meter
from anneal_trainer.fit.passes import Way, quickest
from anneal_trainer.fit.ranks import Alone
from anneal_trainer.fit.sharding import Whole
from anneal_trainer.fit.state import TrainingState
from anneal_trainer.preemption import Preemption
from anneal_trainer.rows import TrainingRows

LEARNING_RATE = 1e-9
STOCK_ROWS = 8
LINE = 1024


def ours(tuned: Any, rows: TrainingRows, tokens_per_step: int = 2048, way: Way | None = None) -> Turn:
    """One epoch of our loop; `way` is another than the quickest."""
    training = Training(epochs=1, tokens_per_step=tokens_per_step, learning_rate=str(LEARNING_RATE), seed=SEED)
    plan = StepPlan(rows.lengths, training)
    optimizer = torch.optim.AdamW([p for p in tuned.parameters() if p.requires_grad], fused=True)
    state = TrainingState()
    passes = quickest(tuned, rows, torch.device("cpu"), 16_384, torch.float32)
    assert passes.notes == (), passes.notes
    if way is not None:
        passes = replace(passes, way=way)
    meter = Meter(passes.device)
    trainer = loop.Trainer(Learner(tuned), optimizer, passes, plan, training, Preemption(), Alone(), Whole(), meter)
    began = time.process_time()
    loop.train(trainer, state, lambda: None)
    seconds = time.process_time() - began
    assert state.tokens == rows.lengths.sum()
    return Turn(seconds, sum(p.loss_sum for p in state.curve) / sum(p.tokens for p in state.curve))


def stock(tuned: Any, rows: TrainingRows) -> Turn:
    """One epoch of transformers' Trainer as it is used most: batches of 8 rows, padded to the longest of them."""
    with tempfile.TemporaryDirectory() as folder:
        losses = _Losses()
        changes = {"per_device_train_batch_size": STOCK_ROWS}
        return _timed(trainer("stock", tuned, rows, folder, losses, changes, LINE), losses)


def trl(tuned: Any, rows: TrainingRows) -> Turn:
    """One epoch of TRL's trainer, rows packed best-fit into lines of 1,024, two of them a step.

    One line at a time, because without FlashAttention its attention is quadratic in all lines of a batch.
    """
    with tempfile.TemporaryDirectory() as folder:
        losses = _Losses()
        changes = {"per_device_train_batch_size": 1, "gradient_accumulation_steps": 2}
        return _timed(trainer("trl", tuned, rows, folder, losses, changes, LINE), losses)


def trainer(
    kind: Literal["stock", "trl"],
    tuned: Any,
    rows: TrainingRows,
    folder: str,
    callback: TrainerCallback,
    changes: dict[str, Any],
    line: int,
) -> Any:
    """A trainer of others on `rows`: transformers' pads them, TRL's packs them best-fit into lines of `line` tokens."""
    settings = _common(folder) | changes
    if kind == "stock":
        return StockTrainer(
            model=tuned,
            args=TrainingArguments(**settings),
            train_dataset=_dataset(rows),
            data_collator=DataCollatorForSeq2Seq(_tokenizer(folder), padding=True),
            callbacks=[callback],
        )
    return SFTTrainer(
        model=tuned,
        args=SFTConfig(packing=True, max_length=line, activation_checkpointing=False, **settings),
        train_dataset=_dataset(rows),
        processing_class=_tokenizer(folder),
        callbacks=[callback],
    )


class _Losses(TrainerCallback):  # type: ignore[misc]
    """The losses of steps, as the trainer logs them."""

    def __init__(self) -> None:
        self.of_steps: list[float] = []

    def on_log(self, *_: Any, logs: dict[str, float], **__: Any) -> None:
        if "loss" in logs:
            self.of_steps.append(logs["loss"])


def _timed(trainer: Any, losses: _Losses) -> Turn:
    began = time.process_time()
    trainer.train()
    return Turn(time.process_time() - began, float(np.mean(losses.of_steps)))


def _common(folder: str) -> dict[str, Any]:
    return {
        "output_dir": folder,
        "num_train_epochs": 1,
        "learning_rate": LEARNING_RATE,
        "lr_scheduler_type": "constant",
        "save_strategy": "no",
        "logging_steps": 1,
        "report_to": "none",
        "disable_tqdm": True,
        "use_cpu": True,
        "bf16": False,
        "seed": SEED,
    }


def _dataset(rows: TrainingRows) -> Dataset:
    each = (rows.row(i) for i in range(len(rows)))
    return Dataset.from_list(
        [{"input_ids": t.tolist(), "labels": np.where(labelled, t, -100).tolist()} for t, labelled in each]
    )


def _tokenizer(folder: str) -> Any:
    write_tokenizer(Path(folder))
    return AutoTokenizer.from_pretrained(folder)
