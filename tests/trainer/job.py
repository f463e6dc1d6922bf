"""A FineTuneJob as its pods see it: run documents that follow from each other, run in this process or another."""

from __future__ import annotations

import json
import os
import random
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from anneal.api.augmentation import Augmentation
from anneal.api.dataset import (
    Balance,
    Cleaning,
    Columns,
    DatasetExpectations,
    DatasetSplit,
    Deduplication,
    LeakCheck,
)
from anneal.api.methods import Lora, Method
from anneal.api.runs import (
    FitRun,
    ModelInput,
    MountedPath,
    ObjectIdentity,
    PrepareData,
    PrepareRun,
    PublishRun,
    Run,
    RunResult,
    SourceInput,
)
from anneal.api.training import CheckpointPolicy, Training
from anneal_trainer.preemption import Preemption
from anneal_trainer.program import run as run_document

OBJECT = ObjectIdentity(kind="FineTuneJob", namespace="default", name="intents-v1", uid="0b8c7d9e")
FAST = Training(
    max_steps=6,
    learning_rate="1e-2",
    tokens_per_step=256,
    max_length=128,
    warmup_steps=2,
    checkpoint=CheckpointPolicy(every_steps=2, keep=2),
)


def prompt_rows(count: int) -> list[dict[str, Any]]:
    """Rows of many lengths, each with a prompt of its own."""
    source = random.Random(0)
    return [
        {"prompt": f"{i}: " + "please " * source.randint(0, 6) + "light on", "completion": f"On{i % 3}"}
        for i in range(count)
    ]


def _lines(rows: list[Any]) -> bytes:
    """Objects as JSON, strings and bytes as they are, one a line."""
    lines = [r if isinstance(r, bytes) else (r if isinstance(r, str) else json.dumps(r)).encode() for r in rows]
    return b"".join(line + b"\n" for line in lines)


@dataclass
class Job:
    """A job with its claims as folders below `root`."""

    base: Path
    root: Path
    rows: list[Any] = field(default_factory=lambda: prompt_rows(24))
    training: Training = FAST
    method: Method = field(default_factory=lambda: Method(lora=Lora(rank=4, alpha=8)))
    merge: bool = False
    split: DatasetSplit = field(default_factory=lambda: DatasetSplit(held_out=6))
    expect: DatasetExpectations = field(default_factory=DatasetExpectations)
    system_prompt: str | None = None
    base_uri: str = "pvc://hub/tiny"
    columns: Columns | None = None
    category: str | None = None
    cleaning: Cleaning = field(default_factory=Cleaning)
    deduplication: Deduplication = field(default_factory=Deduplication)
    balance: Balance | None = None
    augmentation: Augmentation | None = None
    leak_check: LeakCheck = field(default_factory=LeakCheck)
    content: bytes | None = None
    """The dataset as bytes, instead of rows."""
    held_out_rows: list[Any] | None = None
    sealed: dict[str, list[Any]] = field(default_factory=dict)
    """Rows of the files that training rows must not be in, by the name of the file."""

    @property
    def workspace(self) -> Path:
        return self.root / "workspace"

    @property
    def output(self) -> Path:
        return self.root / "models" / "v1"

    @property
    def model(self) -> MountedPath:
        return MountedPath(uri=self.base_uri, path=str(self.base))

    @property
    def source(self) -> Path:
        """The dataset, written from `rows`: objects as JSON, strings and bytes as they are."""
        path = self.root / "rows.jsonl"
        path.write_bytes(_lines(self.rows) if self.content is None else self.content)
        return path

    @property
    def held_out_source(self) -> SourceInput | None:
        if self.held_out_rows is None:
            return None
        path = self.root / "held-out.jsonl"
        path.write_bytes(_lines(self.held_out_rows))
        return SourceInput(uri="pvc://hub/held-out.jsonl", path=str(path))

    @property
    def against(self) -> list[SourceInput]:
        for name, rows in self.sealed.items():
            (self.root / name).write_bytes(_lines(rows))
        return [SourceInput(uri=f"pvc://vault/{name}", path=str(self.root / name)) for name in self.sealed]

    def prepare_run(self) -> PrepareRun:
        return PrepareRun(
            object=OBJECT,
            model=ModelInput(uri=self.model.uri, path=self.model.path),
            sources=[SourceInput(uri="pvc://hub/rows.jsonl", path=str(self.source), columns=self.columns)],
            expect=self.expect,
            split=self.split,
            held_out_source=self.held_out_source,
            category=self.category,
            cleaning=self.cleaning,
            deduplication=self.deduplication,
            balance=self.balance,
            augmentation=self.augmentation,
            leak_check=self.leak_check,
            against=self.against,
            system_prompt=self.system_prompt,
            max_length=self.training.max_length,
            workspace=str(self.workspace),
        )

    def fit_run(self, prepared: PrepareData) -> FitRun:
        return FitRun(
            object=OBJECT,
            model=self.model,
            base_digest=prepared.model.digest,
            train_digest=prepared.dataset.digest,
            method=self.method,
            training=self.training,
            workspace=str(self.workspace),
        )

    def publish_run(self, prepared: PrepareData, fitted: RunResult) -> PublishRun:
        assert fitted.fit is not None
        return PublishRun(
            object=OBJECT,
            model=self.model,
            base_digest=prepared.model.digest,
            chat_template_hash=prepared.model.chat_template_hash,
            test_digest=prepared.dataset.test_digest,
            output=MountedPath(uri="pvc://models/v1", path=str(self.output)),
            contents="Model" if self.merge or self.method.full else "Adapter",
            method=self.method,
            training=self.training,
            counts=prepared.dataset.counts,
            trained=fitted.fit.training,
            workspace=str(self.workspace),
        )

    def document(self, run: Run) -> Path:
        """The file that a pod would have mounted."""
        path = self.root / f"{run.role}.json"
        path.write_text(run.model_dump_json(by_alias=True, exclude_none=True), encoding="utf-8")
        return path

    def do(self, run: Run, preemption: Preemption | None = None) -> RunResult:
        """Does a run in this process."""
        return run_document(self.document(run), preemption or Preemption())

    def prepared(self) -> PrepareData:
        """What prepare found; it must have succeeded."""
        result = self.do(self.prepare_run())
        assert result.prepare is not None, result.message
        return result.prepare

    def fitted(self) -> RunResult:
        return self.do(self.fit_run(self.prepared()))

    def published(self) -> RunResult:
        prepared = self.prepared()
        return self.do(self.publish_run(prepared, self.do(self.fit_run(prepared))))


def environment(document: Path, termination: Path) -> dict[str, str]:
    """The environment of `python -m anneal_trainer`, with this process's import paths."""
    import sys

    return os.environ | {
        "PYTHONPATH": os.pathsep.join(sys.path),
        "ANNEAL_RUN_FILE": str(document),
        "ANNEAL_TERMINATION_FILE": str(termination),
    }
