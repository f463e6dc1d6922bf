"""One pass: what is written, what is not, and how each fault ends."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any

import pytest
from tests.support.builders import NAMESPACE
from tests.support.memory_api import Id, Write
from tests.unit.loop.toy import KEY, Bench, config_map, kind, plan

from anneal.kinds.contract import Delete, Found, Key, Object, Plan, Reference, Seen, Wanted
from anneal.kube.errors import RefusedError, UnavailableError
from anneal.reconcile.reconciler import Outcome, Result


def refusing(verb: str, kind_: str, error: Exception, subresource: str | None = None) -> Callable[[Write], None]:
    def before(write: Write) -> None:
        if (write.verb, write.id.kind, write.subresource) == (verb, kind_, subresource):
            raise error

    return before


async def test_it_converges_and_then_writes_nothing() -> None:
    bench = Bench()
    assert await bench.reconciler.reconcile(KEY) == Outcome(Result.DONE)
    assert bench.status["phase"] == "Preparing"
    assert await bench.reconciler.reconcile(KEY) == Outcome(Result.DONE)
    assert bench.status["phase"] == "Complete"
    before = bench.api.requests.copy()
    assert await bench.reconciler.reconcile(KEY) == Outcome(Result.DONE)
    assert bench.api.requests == before


async def test_each_reason_becomes_one_event() -> None:
    bench = Bench()
    for _ in range(3):
        bench.api.clock.advance(5)
        await bench.reconciler.reconcile(KEY)
    assert sorted(e["reason"] for e in bench.api.all("Event")) == ["Completed", "Preparing"]


async def test_an_event_that_cannot_be_posted_is_lost_and_nothing_else_is() -> None:
    bench = Bench()
    bench.api.before = refusing("create", "Event", RefusedError("no events here"))
    assert await bench.reconciler.reconcile(KEY) == Outcome(Result.DONE)
    assert bench.status["phase"] == "Preparing"


async def test_drift_is_repaired() -> None:
    bench = Bench()
    await bench.reconciler.reconcile(KEY)
    found = bench.api.peek("ConfigMap", "settings")
    assert found is not None
    bench.api.put({**found, "data": {"a": "changed by hand"}})
    await bench.reconciler.reconcile(KEY)
    repaired = bench.api.peek("ConfigMap", "settings")
    assert repaired is not None
    assert repaired["data"] == {"a": "1"}


@pytest.mark.parametrize("going", [True, False], ids=["being deleted", "gone"])
async def test_nothing_is_made_for_an_object_that_goes(going: bool) -> None:
    bench = Bench()
    if going:
        bench.api.annotate(Id("FineTuneJob", NAMESPACE, KEY.name), finalizers=["other/one"])
    bench.remove()
    assert await bench.reconciler.reconcile(KEY) == Outcome(Result.GONE)
    assert not bench.api.requests


async def test_an_object_of_somebody_else_is_left_alone_and_status_says_so() -> None:
    bench = Bench()
    theirs = bench.api.put(
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "settings", "namespace": NAMESPACE}}
    )
    outcome = await bench.reconciler.reconcile(KEY)
    assert outcome.result is Result.OBSTRUCTED
    assert outcome.failed
    assert bench.api.peek("ConfigMap", "settings") == theirs
    assert bench.condition("Stalled")["reason"] == "NameTaken"
    assert "'settings'" in bench.status["message"]
    bench.api.remove(Id("ConfigMap", NAMESPACE, "settings"))
    assert (await bench.reconciler.reconcile(KEY)).result is Result.DONE
    assert [c["type"] for c in bench.status["conditions"]] == ["Complete"], "the obstacle leaves no trace"


async def test_a_copy_with_our_labels_but_without_our_control_is_no_child() -> None:
    bench = Bench(kind())
    await bench.reconciler.reconcile(KEY)
    ours = bench.api.peek("ConfigMap", "settings")
    assert ours is not None
    loose = {k: v for k, v in ours["metadata"].items() if k not in ("ownerReferences", "uid", "resourceVersion")}
    bench.api.put({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {**loose, "name": "copy"}, "data": {}})
    seen: list[Seen] = []

    def looking(s: Seen, now: datetime) -> Plan:
        seen.append(s)
        return plan(s, now)

    again = Bench(kind(looking), api=bench.api)
    await again.reconciler.reconcile(KEY)
    assert [c["metadata"]["name"] for c in seen[0].children] == ["settings"]


async def test_a_refused_child_reaches_status_with_the_servers_own_words() -> None:
    bench = Bench()
    bench.api.before = refusing("apply", "ConfigMap", RefusedError("exceeded quota: gpus, requested: 1, limited: 0"))
    outcome = await bench.reconciler.reconcile(KEY)
    assert outcome.result is Result.OBSTRUCTED
    assert bench.condition("Stalled")["status"] == "True"
    assert bench.status["reason"] == "ApplyRefused"
    assert "exceeded quota: gpus" in bench.status["message"]
    assert [e["type"] for e in bench.api.all("Event")] == ["Warning"]


async def test_what_depends_on_a_refused_child_is_not_made_and_nothing_is_deleted() -> None:
    def two(seen: Seen, now: datetime) -> Plan:
        first, second = config_map(seen, "first"), config_map(seen, "second")
        return Plan(apply=(first, second), delete=(Delete("v1", "ConfigMap", "old", "u"),), status={"reason": "R"})

    bench = Bench(kind(two))

    def before(write: Write) -> None:
        if write.id.name == "first":
            raise RefusedError("no")

    bench.api.before = before
    await bench.reconciler.reconcile(KEY)
    assert [w for w in bench.api.requests if w[1] == "ConfigMap"] == [("apply", "ConfigMap")]
    assert bench.api.peek("ConfigMap", "second") is None


async def test_children_come_in_the_order_of_the_plan_then_deletes_then_status() -> None:
    def three(seen: Seen, now: datetime) -> Plan:
        old = tuple(
            Delete("v1", "ConfigMap", c["metadata"]["name"], c["metadata"]["uid"])
            for c in seen.children
            if c["metadata"]["name"] == "old"
        )
        return Plan(apply=(config_map(seen, "z"), config_map(seen, "a")), delete=old, status={"reason": "R"})

    bench = Bench(kind(lambda s, n: Plan(apply=(config_map(s, "old"),))))
    await bench.reconciler.reconcile(KEY)
    writes: list[tuple[str, str, str | None]] = []
    bench.api.before = lambda w: writes.append((w.verb, w.id.name, w.subresource))
    await Bench(kind(three), api=bench.api).reconciler.reconcile(KEY)
    assert writes[:4] == [
        ("apply", "z", None),
        ("apply", "a", None),
        ("delete", "old", None),
        ("apply", KEY.name, "status"),
    ]


async def test_a_child_that_is_going_is_not_deleted_again() -> None:
    bench = Bench(kind(lambda s, n: Plan(apply=(config_map(s, "old"),))))
    await bench.reconciler.reconcile(KEY)
    old = Id("ConfigMap", NAMESPACE, "old")
    bench.api.annotate(old, finalizers=["other/one"])
    bench.api.remove(old)

    def dropping(seen: Seen, now: datetime) -> Plan:
        return Plan(delete=tuple(Delete("v1", "ConfigMap", "old", c["metadata"]["uid"]) for c in seen.children))

    await Bench(kind(dropping), api=bench.api).reconciler.reconcile(KEY)
    assert bench.api.requests["delete", "ConfigMap"] == 0


async def test_a_status_computed_from_an_older_view_is_not_written() -> None:
    bench = Bench()

    def before(write: Write) -> None:
        if write.id.kind == "ConfigMap":
            bench.api.annotate(Id("FineTuneJob", NAMESPACE, KEY.name), labels={"changed": "meanwhile"})

    bench.api.before = before
    assert (await bench.reconciler.reconcile(KEY)).result is Result.CONFLICT
    assert bench.status == {}


async def test_an_api_server_that_is_away_is_waited_for_as_long_as_it_asks() -> None:
    bench = Bench()
    bench.api.before = refusing("apply", "ConfigMap", UnavailableError("too many requests", retry_after=7.0))
    outcome = await bench.reconciler.reconcile(KEY)
    assert (outcome.result, outcome.failed, outcome.retry_at_least) == (Result.UNAVAILABLE, True, 7.0)


async def test_a_status_that_the_server_refuses_is_not_called_a_defect_of_one_object() -> None:
    bench = Bench()
    bench.api.before = refusing("apply", "FineTuneJob", RefusedError("Invalid value"), "status")
    assert (await bench.reconciler.reconcile(KEY)).result is Result.REFUSED


async def test_a_defect_is_told_to_the_hook_and_to_the_user_and_heals() -> None:
    crashes: list[tuple[Key, Exception]] = []
    faulty = True

    def failing(seen: Seen, now: datetime) -> Plan:
        if faulty:
            raise KeyError("spec")
        return plan(seen, now)

    bench = Bench(kind(failing), on_crash=lambda key, error: crashes.append((key, error)))
    assert (await bench.reconciler.reconcile(KEY)).result is Result.CRASHED
    assert [(key, type(error)) for key, error in crashes] == [(KEY, KeyError)]
    assert bench.condition("Reconciling")["reason"] == "InternalError"
    faulty = False
    assert (await bench.reconciler.reconcile(KEY)).result is Result.DONE
    assert [c["type"] for c in bench.status["conditions"]] == ["Complete"]


async def test_a_defect_surfaces_in_tests() -> None:
    def failing(seen: Seen, now: datetime) -> Plan:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await Bench(kind(failing)).reconciler.reconcile(KEY)


async def test_references_are_followed_from_one_object_to_the_next() -> None:
    def references(obj: Object, found: Found) -> frozenset[Wanted]:
        first = Reference("ConfigMap", "first")
        if found.get(first) is None:
            return frozenset({first})
        target: Any = found[first]
        return frozenset({first, Reference("ConfigMap", target["data"]["next"])})

    def from_second(seen: Seen, now: datetime) -> Plan:
        second = seen.get("ConfigMap", "second")
        return Plan(status={"reason": "Found" if second else "Missing", "message": "."})

    bench = Bench(kind(from_second, references))
    meta = {"namespace": NAMESPACE}
    bench.api.put({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "second", **meta}, "data": {}})
    first = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "first", **meta}, "data": {"next": "second"}}
    bench.api.put(first)
    await bench.reconciler.reconcile(KEY)
    assert bench.status["reason"] == "Found"
    assert bench.reconciler.interests.wakes({"kind": "ConfigMap", "metadata": {"name": "second", **meta}}) == {KEY}
    bench.remove()
    await bench.reconciler.reconcile(KEY)
    assert bench.reconciler.interests.wakes({"kind": "ConfigMap", "metadata": {"name": "second", **meta}}) == set()


async def test_a_requeue_is_passed_on_even_beside_an_obstacle() -> None:
    bench = Bench(kind(lambda s, n: Plan(apply=(config_map(s),), requeue_after=42.0)))
    assert await bench.reconciler.reconcile(KEY) == Outcome(Result.DONE, 42.0)
    bench.api.remove(Id("ConfigMap", NAMESPACE, "settings"))
    bench.api.before = refusing("apply", "ConfigMap", RefusedError("no"))
    assert (await bench.reconciler.reconcile(KEY)).requeue_after == 42.0


async def test_a_defect_that_cannot_even_be_told_is_contained() -> None:
    def failing(seen: Seen, now: datetime) -> Plan:
        raise KeyError("spec")

    crashes: list[Exception] = []
    bench = Bench(kind(failing), on_crash=lambda key, error: crashes.append(error))
    bench.api.put_status(Id("FineTuneJob", NAMESPACE, KEY.name), {})
    original = bench.api.get

    async def get(api_version: str, kind_: str, namespace: str, name: str) -> Object | None:
        found = await original(api_version, kind_, namespace, name)
        return {**found, "status": {"conditions": ["not a condition"]}} if found else None

    bench.api.get = get  # type: ignore[method-assign]
    assert (await bench.reconciler.reconcile(KEY)).result is Result.CRASHED
    assert len(crashes) == 1
