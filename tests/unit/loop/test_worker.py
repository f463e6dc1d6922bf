"""Workers: what an outcome means for the queue, and that one bad object stops nothing."""

from __future__ import annotations

import asyncio
from datetime import datetime

import pytest
from tests.support.builders import fine_tune_job
from tests.unit.loop.toy import KEY, Bench, kind, plan

from anneal.kinds.contract import Key, Plan, Seen
from anneal.kube.errors import NotFoundError, UnavailableError
from anneal.reconcile import resync as module
from anneal.reconcile.queue import Queue
from anneal.reconcile.reconciler import Outcome, Result
from anneal.reconcile.resync import list_all, resync
from anneal.reconcile.worker import settle, work


def test_a_good_pass_resets_the_back_off_and_a_failed_one_adds_to_it() -> None:
    queue = Queue(clock=lambda: 0.0, jitter=lambda: 0.0)
    for expected in (1.0, 2.0):
        settle(queue, KEY, Outcome(Result.CONFLICT))
        assert queue.next_due() == expected
        queue = _later(queue)
    settle(queue, KEY, Outcome(Result.DONE))
    settle(queue, KEY, Outcome(Result.CONFLICT))
    assert queue.next_due() == 1.0


def _later(queue: Queue) -> Queue:
    """The queue after the delayed pass has begun and ended."""
    queue.add(KEY)
    assert queue.get_nowait() == KEY
    queue.done(KEY)
    return queue


def test_time_and_back_off_whichever_comes_first() -> None:
    queue = Queue(clock=lambda: 0.0, jitter=lambda: 0.0)
    settle(queue, KEY, Outcome(Result.OBSTRUCTED, requeue_after=5.0, retry_at_least=15.0))
    assert queue.next_due() == 5.0


def test_nothing_due_after_a_good_pass() -> None:
    queue = Queue()
    settle(queue, KEY, Outcome(Result.DONE))
    assert queue.next_due() is None


async def test_one_object_with_a_defect_does_not_stop_the_others() -> None:
    def failing(seen: Seen, now: datetime) -> Plan:
        if seen.name == KEY.name:
            raise RuntimeError("defect")
        return plan(seen, now)

    bench = Bench(kind(failing), on_crash=lambda key, error: None)
    bench.api.put(fine_tune_job("good"))
    queue = Queue()
    results: list[tuple[str, Result]] = []

    def on_pass(key: Key, outcome: Outcome, seconds: float) -> None:
        results.append((key.name, outcome.result))
        if len(results) == 2:
            queue.shut_down()

    queue.add(KEY)
    queue.add(KEY._replace(name="good"))
    await asyncio.wait_for(work(queue, bench.reconciler, on_pass), 5)
    assert results == [(KEY.name, Result.CRASHED), ("good", Result.DONE)]


async def test_a_pass_under_way_is_finished_when_the_queue_shuts_down() -> None:
    bench = Bench()
    queue = Queue()
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def turn() -> None:
        begun.set()
        await go_on.wait()

    bench.api.turn = turn
    queue.add(KEY)
    working = asyncio.create_task(work(queue, bench.reconciler))
    await begun.wait()
    queue.shut_down()
    go_on.set()
    await asyncio.wait_for(working, 5)
    assert bench.status["phase"] == "Preparing"


async def test_every_object_of_the_served_namespaces_is_queued() -> None:
    bench = Bench()
    bench.api.put({**fine_tune_job("b"), "metadata": {"name": "b", "namespace": "default"}})
    queue = Queue()
    assert await list_all(bench.api, [bench.kind], (), queue) == 2
    assert len(queue) == 2
    assert await list_all(bench.api, [bench.kind], ("default",), Queue()) == 1


@pytest.mark.parametrize("error", [UnavailableError("away"), NotFoundError("no such kind")])
async def test_a_listing_that_fails_is_tried_again_soon(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "RETRY_SECONDS", 0.0)
    answers: list[Exception | int] = [error, error, 3]
    done = asyncio.Event()

    async def once() -> int:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    task = asyncio.create_task(resync(once, 3600, done.set))
    await asyncio.wait_for(done.wait(), 5)
    task.cancel()
    assert answers == []
