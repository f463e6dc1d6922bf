"""Which objects to look at next, each by one worker at a time.

The semantics are those of client-go's workqueue, because they are what makes a level-triggered loop correct: a key
that is waiting is not queued twice; a key that comes while it is worked on is worked on once more after that; a key
that failed comes back after an exponentially growing delay.
"""

from __future__ import annotations

import asyncio
import contextlib
import heapq
import random
import time
from collections.abc import Callable

from anneal.kinds.contract import Key

FIRST_RETRY_SECONDS = 1.0
LAST_RETRY_SECONDS = 300.0


class Queue:
    """Keys to reconcile. Not for threads: all calls come from one event loop."""

    def __init__(
        self, clock: Callable[[], float] = time.monotonic, jitter: Callable[[], float] = random.random
    ) -> None:
        """`clock` gives seconds that never go back; `jitter` a number in [0, 1) that spreads retries."""
        self._clock = clock
        self._jitter = jitter
        self._waiting: dict[Key, float] = {}  # in order of arrival: key -> when it arrived
        self._processing: set[Key] = set()
        self._dirty: dict[Key, float] = {}  # arrived while being processed
        self._due: dict[Key, float] = {}  # the one time at which a delayed key is to be added
        self._heap: list[tuple[float, Key]] = []  # of _due, with outdated entries that are skipped
        self._failures: dict[Key, int] = {}
        self._changed = asyncio.Event()
        self._closed = False

    def add(self, key: Key) -> None:
        """Have `key` looked at as soon as possible."""
        if self._closed:
            return
        place = self._dirty if key in self._processing else self._waiting
        place.setdefault(key, self._clock())
        self._changed.set()

    def add_after(self, key: Key, seconds: float) -> None:
        """Have `key` looked at in `seconds`, or earlier if it is due earlier."""
        due = self._clock() + max(0.0, seconds)
        if self._closed or self._due.get(key, float("inf")) <= due:
            return
        self._due[key] = due
        heapq.heappush(self._heap, (due, key))
        self._changed.set()

    def retry(self, key: Key, at_least: float = 0.0) -> float:
        """Have a key that failed looked at again after its back-off, in seconds, which is returned."""
        failures = self._failures.get(key, 0)
        self._failures[key] = failures + 1
        backoff = min(LAST_RETRY_SECONDS, FIRST_RETRY_SECONDS * 2.0 ** min(failures, 16))
        delay = max(at_least, backoff) * (1 + self._jitter() / 4)
        self.add_after(key, delay)
        return delay

    def forget(self, key: Key) -> None:
        """Note that `key` went well: its next failure starts the back-off anew."""
        self._failures.pop(key, None)

    async def get(self) -> Key | None:
        """The next key, which nobody else gets until `done`; None once the queue is shut down."""
        while not self._closed:
            key = self.get_nowait()
            if key is not None:
                return key
            self._changed.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._changed.wait(), self.next_due())
        return None

    def get_nowait(self) -> Key | None:
        """Like `get`, but None when nothing is to be done now."""
        self._add_due()
        if not self._waiting:
            return None
        key = next(iter(self._waiting))
        del self._waiting[key]
        self._due.pop(key, None)  # this pass will say anew when time matters
        self._processing.add(key)
        return key

    def done(self, key: Key) -> None:
        """Note that the pass over `key` has ended; if it was added meanwhile, it waits again now."""
        self._processing.discard(key)
        if key in self._dirty:
            self._waiting[key] = self._dirty.pop(key)
            self._changed.set()

    def shut_down(self) -> None:
        """Take and give no more keys; whoever waits in `get` gets None."""
        self._closed = True
        self._changed.set()

    def next_due(self) -> float | None:
        """Seconds until the next delayed key; 0 when a key is waiting, None when nothing is."""
        if self._waiting:
            return 0.0
        return max(0.0, min(self._due.values()) - self._clock()) if self._due else None

    def __len__(self) -> int:
        """Keys that could be worked on now."""
        return len(self._waiting) + len(self._dirty)

    def oldest_age(self) -> float:
        """Seconds that the key which waits longest has waited; 0 when none waits."""
        arrivals = [*self._waiting.values(), *self._dirty.values()]
        return self._clock() - min(arrivals) if arrivals else 0.0

    def _add_due(self) -> None:
        now = self._clock()
        while self._heap and (self._heap[0][0] <= now or self._due.get(self._heap[0][1]) != self._heap[0][0]):
            due, key = heapq.heappop(self._heap)
            if self._due.get(key) == due:
                del self._due[key]
                self.add(key)
