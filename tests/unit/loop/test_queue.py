"""The queue keeps one worker per key, loses no wish, and spreads retries."""

from __future__ import annotations

import asyncio

import pytest

from anneal.kinds.contract import Key
from anneal.reconcile.queue import LAST_RETRY_SECONDS, Queue

A, B = Key("FineTuneJob", "team", "a"), Key("FineTuneJob", "team", "b")


class Time:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
def queue(time: Time) -> Queue:
    return Queue(clock=time, jitter=lambda: 0.0)


def taken(queue: Queue) -> list[Key]:
    """Everything that can be worked on now, taken and done."""
    keys = []
    while (key := queue.get_nowait()) is not None:
        queue.done(key)
        keys.append(key)
    return keys


def test_a_key_that_waits_is_not_queued_twice_and_keeps_its_place(queue: Queue) -> None:
    for key in (A, B, A):
        queue.add(key)
    assert taken(queue) == [A, B]


def test_a_key_in_work_is_given_to_nobody_else_and_comes_once_more_after(queue: Queue) -> None:
    queue.add(A)
    assert queue.get_nowait() == A
    queue.add(A)
    queue.add(A)
    assert queue.get_nowait() is None
    queue.done(A)
    assert taken(queue) == [A]


def test_a_delayed_key_comes_when_it_is_due_and_the_earliest_time_counts(queue: Queue, time: Time) -> None:
    queue.add_after(A, 30)
    queue.add_after(A, 10)
    queue.add_after(A, 20)
    time.now = 9.9
    assert taken(queue) == []
    assert queue.next_due() == pytest.approx(0.1)
    time.now = 10
    assert taken(queue) == [A]
    time.now = 100
    assert taken(queue) == [], "the later times were for the same pass"


def test_a_pass_that_comes_earlier_makes_the_delayed_one_needless(queue: Queue, time: Time) -> None:
    queue.add_after(A, 10)
    queue.add(A)
    assert taken(queue) == [A]
    time.now = 10
    assert taken(queue) == []


def test_back_off_doubles_to_its_limit_and_starts_anew_after_success(queue: Queue, time: Time) -> None:
    delays = []
    for _ in range(11):
        delays.append(queue.retry(A))
        time.now += delays[-1]
        assert taken(queue) == [A]
    assert delays[:4] == [1, 2, 4, 8]
    assert delays[-1] == LAST_RETRY_SECONDS
    queue.forget(A)
    assert queue.retry(A) == 1


def test_back_off_is_per_key_and_honours_what_the_server_asks(queue: Queue) -> None:
    queue.retry(A)
    queue.retry(A)
    assert queue.retry(B) == 1
    assert queue.retry(B, at_least=60) == 60


def test_jitter_only_adds(time: Time) -> None:
    assert Queue(clock=time, jitter=lambda: 0.999).retry(A) == pytest.approx(1.25, abs=0.01)


def test_depth_and_age_count_what_waits_and_not_what_is_delayed(queue: Queue, time: Time) -> None:
    queue.add(A)
    queue.add_after(B, 5)
    time.now = 3
    assert (len(queue), queue.oldest_age()) == (1, 3)
    queue.get_nowait()
    assert (len(queue), queue.oldest_age()) == (0, 0)
    queue.add(A)
    time.now = 4
    assert (len(queue), queue.oldest_age()) == (1, 1)


async def test_who_waits_is_woken_by_a_key_and_by_time() -> None:
    queue = Queue(jitter=lambda: 0.0)
    waiting = asyncio.create_task(queue.get())
    await asyncio.sleep(0)
    queue.add_after(B, 0.02)
    queue.add(A)
    assert await waiting == A
    assert await asyncio.wait_for(queue.get(), 1) == B


async def test_shut_down_wakes_all_who_wait_and_takes_nothing_more() -> None:
    queue = Queue()
    waiting = [asyncio.create_task(queue.get()) for _ in range(3)]
    await asyncio.sleep(0)
    queue.shut_down()
    assert await asyncio.gather(*waiting) == [None, None, None]
    queue.add(A)
    queue.add_after(B, 0)
    assert await queue.get() is None
    assert len(queue) == 0
