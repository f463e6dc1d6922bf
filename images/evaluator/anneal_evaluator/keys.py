"""API keys of hosted baselines and of the judge, looked for before any model is loaded."""

from __future__ import annotations

from pathlib import Path

from anneal.api.runs import JUDGE, EvaluateRun
from anneal.api.subjects import Hosted
from anneal_hosted.keys import PATIENCE_SECONDS, await_keys, read_key


def check_keys(run: EvaluateRun, patience_seconds: float = PATIENCE_SECONDS) -> None:
    """Raises EvaluationError unless everyone hosted that names a Secret has its key."""
    asked = [*((b.name, b.hosted) for b in run.baselines), (JUDGE, run.judge)]

    def look() -> None:
        for name, hosted in asked:
            if hosted is not None:
                key_of(name, hosted, Path(run.keys))

    await_keys(look, patience_seconds)


def key_of(name: str, hosted: Hosted, keys: Path) -> str | None:
    """The API key of the hosted model `name`; None when it needs none. Raises EvaluationError."""
    return read_key("the judge" if name == JUDGE else f"baseline {name}", hosted, keys / name)
