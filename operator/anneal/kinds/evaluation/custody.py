"""How often held-out rows were judged by, which wears them out.

Whoever picks the best of many candidates by the same rows picks luck, too: of forty that are no better than the base,
one passes at 95 %. A verdict that somebody has seen counts, and one that is under way; a run that ended without a
verdict told nobody anything.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from anneal.api.conditions import is_true
from anneal.kinds.contract import Listing, Object

EVALUATIONS = Listing("Evaluation")
#: From this use on, rows are worn.
WORN = 5


def uses(others: Iterable[Object], dataset: str) -> int:
    """Evaluations on the rows of that digest, with the one that is about to start.

    The largest count that any of them has recorded is carried on, so that those that were deleted still count.
    """
    return 1 + max((e["status"].get("datasetUses") or 1 for e in _on(others, dataset)), default=0)


def is_compared(job: Object | None, dataset: str) -> bool:
    """Whether a FineTuneJob recorded that no row that it trained on gives rows of that digest away."""
    compared = (((job or {}).get("status") or {}).get("dataset") or {}).get("compared") or ()
    return any(file.get("digest") == dataset for file in compared)


def earlier(others: Iterable[Object], dataset: str, subject: str, order: tuple[str, str] | None) -> Object | None:
    """An Evaluation of that candidate on those rows, which was first; None when there is none.

    `order` is (startTime, uid) of the one that asks, once it has recorded its own start: of two that started at once
    and see each other, one goes on.
    """
    same = [e for e in _on(others, dataset) if e["status"].get("subjectDigest") == subject]
    first = min(same, key=_order, default=None)
    return first if first is not None and (order is None or _order(first) < order) else None


def _on(others: Iterable[Object], dataset: str) -> Iterator[Object]:
    """Those that were or will be judged by the rows of that digest."""
    for other in others:
        if (other.get("status") or {}).get("datasetDigest") == dataset and not is_true(other, "Failed"):
            yield other


def _order(evaluation: Object) -> tuple[str, str]:
    return evaluation["status"].get("startTime") or "", evaluation["metadata"]["uid"]
