"""1 where the answer is the label of the reference; which label is taken for which is counted for the report.

An answer is a label when it is nothing else, but for case, punctuation and the labels' own separators, so that
"Turn on." is turn_on and "not turn_on" is none.
"""

from __future__ import annotations

import unicodedata

from anneal.api.metrics import Label
from anneal_evaluator.metrics.scorer import Scorer

#: What an answer is called that is no label.
NO_LABEL = "no label"


def scorer(options: Label) -> Scorer:
    """Raises ValueError when two labels cannot be told apart."""
    by_words: dict[str, str] = {}
    for label in options.labels:
        if (other := by_words.setdefault(_bare(label), label)) != label or not _bare(label):
            raise ValueError(f"the labels {other!r} and {label!r} cannot be told apart")

    def classify(text: str) -> str:
        return by_words.get(_bare(text), NO_LABEL)

    def score(answer: str, reference: str) -> float:
        found = classify(answer)
        return float(found != NO_LABEL and found == classify(reference))

    def check(reference: str) -> None:
        if classify(reference) == NO_LABEL:
            raise ValueError("it is none of the labels")

    return Scorer(score=score, is_binary=True, check_reference=check, classify=classify)


def _bare(text: str) -> str:
    """Letters and digits, case folded, words apart by one space."""
    folded = unicodedata.normalize("NFKC", text).casefold()
    return " ".join("".join(c if c.isalnum() else " " for c in folded).split())
