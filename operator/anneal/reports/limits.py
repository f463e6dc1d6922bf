"""How often a pod may report."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable


class RateLimit:
    """A token bucket for each caller: `rate` a second in the long run, `burst` at once.

    The burst lets a pod send its last report right after an ordinary one.
    """

    def __init__(
        self,
        *,
        rate: float = 1.0,
        burst: int = 3,
        max_callers: int = 10_000,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._rate = rate
        self._burst = burst
        self._max_callers = max_callers
        self._clock = clock
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()  # caller -> (when, tokens left then)

    def allows(self, caller: str) -> bool:
        """Whether `caller` may go on now; if so, it is counted."""
        now = self._clock()
        since, left = self._buckets.get(caller, (now, float(self._burst)))
        left = min(float(self._burst), left + (now - since) * self._rate)
        allowed = left >= 1
        self._buckets[caller] = (now, left - allowed)
        self._buckets.move_to_end(caller)
        while len(self._buckets) > self._max_callers:
            self._buckets.popitem(last=False)
        return allowed
