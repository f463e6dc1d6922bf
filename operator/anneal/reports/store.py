"""What running pods last told: bounded, in memory, soon forgotten."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable

from anneal.api.runs import ProgressReport
from anneal.kinds.contract import Key

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
        self._reports: OrderedDict[str, tuple[float, Key, ProgressReport]] = OrderedDict()

    def get(self, uid: str) -> ProgressReport | None:
        """The newest report for the object, or None when there is none of late."""
        self._drop_old()
        entry = self._reports.get(uid)
        return entry[2] if entry else None

    def put(self, uid: str, owner: Key, report: ProgressReport) -> None:
        """Keep `report` as the newest of the object with that uid; the one that was silent longest makes room."""
        self._reports[uid] = (self._clock(), owner, report)
        self._reports.move_to_end(uid)
        self._drop_old()
        while len(self._reports) > self._max_objects:
            self._reports.popitem(last=False)

    def all(self) -> list[tuple[Key, ProgressReport]]:
        """The newest report of each object that told something of late."""
        self._drop_old()
        return [(owner, report) for _, owner, report in self._reports.values()]

    def __len__(self) -> int:
        return len(self._reports)

    def _drop_old(self) -> None:
        oldest_kept = self._clock() - self._max_age
        while self._reports and next(iter(self._reports.values()))[0] < oldest_kept:
            self._reports.popitem(last=False)
