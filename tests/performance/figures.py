"""How figures are taken and kept: turns that alternate, medians with their ranges, in build/bench/training.json.

Seconds are CPU seconds of one thread: on a shared machine anything else measures the neighbours. Ratios are only taken
between turns of one run.
"""

from __future__ import annotations

import json
import platform
import statistics
from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

OUT = Path(__file__).resolve().parents[2] / "build" / "bench" / "training.json"
PACKAGES = ("torch", "transformers", "peft", "trl")
SEED = 0


class Turn(NamedTuple):
    """One way to train on all rows, once."""

    seconds: float
    loss: float
    """Mean over the labels."""


def alternate(ways: Mapping[str, Callable[[], Turn]], rounds: int) -> dict[str, list[Turn]]:
    """`rounds` turns of each way, one way after the other."""
    turns: dict[str, list[Turn]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, way in ways.items():
            turns[name].append(way())
            print(f"  {name}: {turns[name][-1].seconds:.2f} s, loss {turns[name][-1].loss:.4f}", flush=True)
    return turns


def compared(turns: Mapping[str, list[Turn]], tokens: int) -> dict[str, Any]:
    """Figures of each way; `tokens` are those of the rows, without padding."""
    return {
        name: {
            "tokensPerCpuSecond": round(tokens / median(each)),
            "range": sorted(round(tokens / turn.seconds) for turn in each)[:: max(1, len(each) - 1)],
            "cpuSeconds": [round(turn.seconds, 2) for turn in each],
            "loss": round(each[0].loss, 5),
        }
        for name, each in turns.items()
    }


def median(turns: list[Turn]) -> float:
    """Of the seconds."""
    return statistics.median(turn.seconds for turn in turns)


def record(name: str, figures: Mapping[str, Any]) -> None:
    """Adds figures to the file, with what they depend on."""
    OUT.parent.mkdir(parents=True, exist_ok=True)
    known = json.loads(OUT.read_text()) if OUT.exists() else {}
    known |= {
        "machine": {"cpu": platform.processor() or platform.machine(), "threads": 1},
        "seed": SEED,
        "versions": {package: version(package) for package in PACKAGES},
        name: {**known.get(name, {}), **figures},
    }
    OUT.write_text(json.dumps(known, indent=2, sort_keys=True) + "\n")
    print(f"\n{name}: {json.dumps(figures, indent=2)}")
