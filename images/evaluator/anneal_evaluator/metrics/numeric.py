"""1 where the last number of the answer is that of the reference, within a tolerance.

The last, since models show their work first. A number is read as people write it: 1,234.5, −3, 2e-4, 50%.
"""

from __future__ import annotations

import re

from anneal.api.metrics import Numeric
from anneal_evaluator.metrics.scorer import Scorer

_NUMBER = re.compile(r"(?<![\w.])[-+]?(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)?(?:\.\d+|(?<=\d))(?:[eE][-+]?\d{1,3})?")


def scorer(options: Numeric) -> Scorer:
    absolute, relative = float(options.absolute_tolerance), float(options.relative_tolerance)

    def score(answer: str, reference: str) -> float:
        found, wanted = last_number(answer), last_number(reference)
        if found is None or wanted is None:
            return 0.0
        # A millionth of a millionth, so that 0.1 + 0.2 is 0.3.
        return float(abs(found - wanted) <= max(absolute, relative * abs(wanted), 1e-12 * abs(wanted)))

    return Scorer(score=score, is_binary=True, check_reference=_check)


def last_number(text: str) -> float | None:
    """The last number in a text; None when there is none."""
    found = _NUMBER.findall(text.replace("\N{MINUS SIGN}", "-"))
    return float(found[-1].replace(",", "")) if found else None


def _check(reference: str) -> None:
    if last_number(reference) is None:
        raise ValueError("it has no number")
