"""1 where what a pattern finds in the answer equals what it finds in the reference.

The last match counts, since models reason first and conclude last. The pattern is the user's and the text is the
model's, so a pattern that backtracks without end is stopped: Python's engine looks for signals while it works.
"""

from __future__ import annotations

import re

from anneal.api.metrics import Regex
from anneal_evaluator.metrics.patience import stopped_after
from anneal_evaluator.metrics.scorer import Scorer

#: Longest search in one text, in seconds. A sane pattern takes microseconds.
SEARCH_SECONDS = 2.0


def scorer(options: Regex) -> Scorer:
    """Raises ValueError when the pattern is not a regular expression with at most one group."""
    try:
        pattern = re.compile(options.pattern)
    except re.error as error:
        raise ValueError(f"{options.pattern!r} is not a regular expression: {error}") from error
    if pattern.groups > 1:
        raise ValueError(f"{options.pattern!r} has {pattern.groups} groups; at most one is allowed, use (?:…)")

    def score(answer: str, reference: str) -> float:
        found = _last(pattern, answer)
        return float(found is not None and found == _last(pattern, reference))

    def check(reference: str) -> None:
        if _last(pattern, reference) is None:
            raise ValueError(f"{options.pattern!r} finds nothing in it")

    return Scorer(score=score, is_binary=True, check_reference=check)


def _last(pattern: re.Pattern[str], text: str) -> str | None:
    """What the last match found: its group if the pattern has one, else the whole match."""
    found = None
    late = f"{pattern.pattern!r} searched one text for over {SEARCH_SECONDS:g} s; nested repeats make it backtrack"
    with stopped_after(SEARCH_SECONDS, late):
        for match in pattern.finditer(text):
            found = match[pattern.groups]
    return found
