"""What takes keys from the queue, and what the outcome of a pass means for the queue."""

from __future__ import annotations

import time
from collections.abc import Callable

from anneal.kinds.contract import Key
from anneal.reconcile.queue import Queue
from anneal.reconcile.reconciler import Outcome, Reconciler


async def work(
    queue: Queue, reconciler: Reconciler, on_pass: Callable[[Key, Outcome, float], None] = lambda *_: None
) -> None:
    """Reconcile one key after another until the queue is shut down. `on_pass` is told of each and its seconds."""
    while (key := await queue.get()) is not None:
        started = time.monotonic()
        try:
            outcome = await reconciler.reconcile(key)
        finally:
            queue.done(key)
        settle(queue, key, outcome)
        on_pass(key, outcome, time.monotonic() - started)


def settle(queue: Queue, key: Key, outcome: Outcome) -> None:
    """Put `key` back when it is due: after its back-off if the pass failed, and when time alone changes its plan."""
    if outcome.failed:
        queue.retry(key, outcome.retry_at_least)
    else:
        queue.forget(key)
    if outcome.requeue_after is not None:
        queue.add_after(key, outcome.requeue_after)
