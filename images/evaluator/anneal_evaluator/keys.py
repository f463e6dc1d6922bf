"""API keys of hosted baselines, of the judge and of the guard, looked for before any model is loaded."""

from __future__ import annotations

from pathlib import Path

from anneal.api.runs import GUARD, JUDGE, EvaluateRun
from anneal.api.subjects import Hosted
from anneal_hosted.keys import PATIENCE_SECONDS, await_keys, read_key


def check_keys(run: EvaluateRun, patience_seconds: float = PATIENCE_SECONDS) -> None:
    """Raises EvaluationError unless everyone hosted that names a Secret has its key."""
    guard = run.guard.hosted if run.guard is not None else None
    asked = [*((b.name, b.hosted) for b in run.baselines), (JUDGE, run.judge), (GUARD, guard)]

    def look() -> None:
        for name, hosted in asked:
            if hosted is not None:
                key_of(name, hosted, Path(run.keys))

    await_keys(look, patience_seconds)


def key_of(name: str, hosted: Hosted, keys: Path) -> str | None:
    """The API key of the hosted model `name`; None when it needs none. Raises EvaluationError."""
    whose = {JUDGE: "the judge", GUARD: "the guard"}.get(name, f"baseline {name}")
    return read_key(whose, hosted, keys / name)
