"""What running pods last told: bounded, in memory, soon forgotten."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable

from anneal.api.runs import ProgressReport

#: Reports older than this tell of a pod that is gone, in seconds.
MAX_AGE = 600.0
MAX_OBJECTS = 10_000


class ProgressStore:
    """The newest report for each object, by the object's uid."""

    def __init__(
        self,
        *,
        max_objects: int = MAX_OBJECTS,
        max_age: float = MAX_AGE,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`clock` gives seconds that never go back."""
        self._max_objects = max_objects
        self._max_age = max_age
        self._clock = clock
        self._reports: OrderedDict[str, tuple[float, ProgressReport]] = OrderedDict()

    def get(self, uid: str) -> ProgressReport | None:
        """The newest report for the object, or None when there is none of late."""
        self._drop_old()
        entry = self._reports.get(uid)
        return entry[1] if entry else None

    def put(self, uid: str, report: ProgressReport) -> None:
        """Keep `report` as the newest; the object that was silent longest makes room."""
        self._reports[uid] = (self._clock(), report)
        self._reports.move_to_end(uid)
        self._drop_old()
        while len(self._reports) > self._max_objects:
            self._reports.popitem(last=False)

    def __len__(self) -> int:
        return len(self._reports)

    def _drop_old(self) -> None:
        oldest_kept = self._clock() - self._max_age
        while self._reports and next(iter(self._reports.values()))[0] < oldest_kept:
            self._reports.popitem(last=False)
