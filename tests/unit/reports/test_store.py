"""The store keeps the newest report of each object, within bounds of number and age."""

from __future__ import annotations

from anneal.api.runs import ProgressReport
from anneal.kinds.contract import Key
from anneal.reports.limits import RateLimit
from anneal.reports.store import ProgressStore

OWNER = Key("FineTuneJob", "team", "intents-v1")


class Seconds:
    """A clock that tests move."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def report(percent: int) -> ProgressReport:
    return ProgressReport(percent=percent)


def test_the_newest_report_counts() -> None:
    store = ProgressStore()
    store.put("a", OWNER, report(1))
    store.put("a", OWNER, report(2))
    assert store.get("a") == report(2)
    assert store.get("b") is None


def test_the_object_that_was_silent_longest_makes_room() -> None:
    store = ProgressStore(max_objects=2)
    for uid in ("a", "b", "a", "c"):
        store.put(uid, OWNER, report(1))
    assert (store.get("a"), store.get("b"), store.get("c")) == (report(1), None, report(1))


def test_a_report_of_a_pod_that_went_silent_ends() -> None:
    clock = Seconds()
    store = ProgressStore(max_age=60, clock=clock)
    store.put("a", OWNER, report(1))
    clock.now = 59
    store.put("b", OWNER, report(2))
    assert store.get("a") == report(1)
    clock.now = 61
    assert store.get("a") is None
    assert store.get("b") == report(2)
    assert len(store) == 1


def test_a_caller_may_burst_and_then_once_a_second() -> None:
    clock = Seconds()
    limit = RateLimit(rate=1, burst=2, clock=clock)
    assert [limit.allows("pod") for _ in range(3)] == [True, True, False]
    assert limit.allows("another pod")
    clock.now = 0.9
    assert not limit.allows("pod")
    clock.now = 1.1
    assert [limit.allows("pod") for _ in range(2)] == [True, False]


def test_the_limit_remembers_a_bounded_number_of_callers() -> None:
    limit = RateLimit(burst=1, max_callers=10, clock=Seconds())
    for n in range(100):
        assert limit.allows(str(n))
    assert not limit.allows("99")
    assert limit.allows("0")
