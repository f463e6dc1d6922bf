"""The folder that prepare, fit and publish share: what is where in it, and in which one place that is written."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Workspace:
    """Paths below the job's workspace claim."""

    root: Path

    @property
    def downloads(self) -> Path:
        """Fetched sources; removed once they are read."""
        return self.root / "downloads"

    @property
    def pins(self) -> Path:
        """What the names of sources were resolved to, for a pod that starts again."""
        return self.root / "pins.json"

    @property
    def train(self) -> Path:
        """The training rows as tokens (`rows.py`). Its digest is the digest of the dataset."""
        return self.root / "data" / "train.safetensors"

    @property
    def held_out(self) -> Path:
        """The held-out rows, one JSON object a line."""
        return self.root / "data" / "held-out.jsonl"

    @property
    def rejected(self) -> Path:
        """What was left out and why, one JSON object a line."""
        return self.root / "data" / "rejected.jsonl"

    @property
    def generated(self) -> Path:
        """The rows that a hosted model wrote and that are trained on, with where each comes from; one JSON a line."""
        return self.root / "data" / "generated.jsonl"

    @property
    def augmentation(self) -> Path:
        """What hosted models that write and check rows said and cost."""
        return self.root / "augmentation"

    @property
    def semantic(self) -> Path:
        """What hosted models that compare the meaning of rows said and cost."""
        return self.root / "semantic"

    @property
    def report(self) -> Path:
        """What prepare found, in numbers."""
        return self.root / "data" / "report.json"

    @property
    def chat_template(self) -> Path:
        """The chat template that rows were written with."""
        return self.root / "data" / "chat_template.jinja"

    @property
    def limit(self) -> Path:
        """How much of a step is run at once, where more was too much (`room.py`)."""
        return self.root / "limit.json"

    @property
    def checkpoints(self) -> Path:
        """Checkpoints, one folder a step (`checkpoint.py`)."""
        return self.root / "checkpoints"
