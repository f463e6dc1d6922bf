"""What a container of the user's gives. The handing over and the checking are in `plugins`."""

from __future__ import annotations

from anneal.api.plugins import Plugin
from anneal_evaluator.metrics.scorer import Scorer


def scorer(options: Plugin) -> Scorer:
    return Scorer(score=_only_its_container, is_binary=options.values == "Binary")


def _only_its_container(answer: str, reference: str) -> float:
    raise ValueError("only its container can tell")
