"""What every metric is to the rest of the evaluator."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


def _anything(reference: str) -> None:
    """Any reference can be scored against."""


@dataclass(frozen=True)
class Scorer:
    """One metric, its options applied. Scores are 0 to 1, higher is better."""

    score: Callable[[str, str], float]
    """(answer, reference) to score. Total for every answer; a model can say anything."""
    is_binary: bool
    """Whether scores are 0 or 1 only, so that exact intervals and tests exist for them."""
    check_reference: Callable[[str], None] = _anything
    """Raises ValueError when no answer could be scored against this reference."""
    classify: Callable[[str], str] | None = None
    """The label that a text is, where the metric is one of labels: the report counts which is taken for which."""
    over: str | None = None
    """The baseline that the candidate is compared with, where scores are 1 won, 0.5 tie and 0 lost."""
