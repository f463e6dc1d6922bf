"""The words that stories are told in: when something is done, what is done, and what is seen at the end."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from tests.support import builders
from tests.support.memory_api import Id, Object
from tests.support.world import World
from tests.sweep.simulation import Step, put

from anneal.api.conditions import is_true

Seen = Callable[[World], None]
NAMESPACE = builders.NAMESPACE


def find(world: World, kind: str, name: str) -> Object:
    found = world.api.peek(kind, name)
    assert found is not None, f"there is no {kind} '{name}'"
    return found


# When


def when(kind: str, name: str, **status: Any) -> Callable[[World], bool]:
    """Once the object's status has these members; a member that is a condition's type is True when that is."""

    def is_so(world: World) -> bool:
        obj = world.api.peek(kind, name)
        seen = (obj or {}).get("status", {})
        return obj is not None and all(
            is_true(obj, member) == value if member[0].isupper() else seen.get(member) == value
            for member, value in status.items()
        )

    return is_so


def pod_runs(role: str) -> Callable[[World], bool]:
    """Once a pod of that role runs, whether or not the operator knows it yet."""

    def is_so(world: World) -> bool:
        return any(
            p["metadata"]["labels"]["anneal.dev/role"] == role
            and p["status"]["phase"] == "Running"
            and "deletionTimestamp" not in p["metadata"]
            for p in world.api.all("Pod")
        )

    return is_so


def at_once(world: World) -> bool:
    del world
    return True


# What is done


def change(kind: str, name: str, **spec: Any) -> Callable[[World], None]:
    """A user edits the spec."""

    def do(world: World) -> None:
        obj = find(world, kind, name)
        world.api.put(builders.merged({m: obj[m] for m in ("apiVersion", "kind", "metadata", "spec")}, {"spec": spec}))

    return do


def annotate(kind: str, name: str, **annotations: str) -> Callable[[World], None]:
    """A user annotates the object; names are those below anneal.dev, with underscores for hyphens."""

    def do(world: World) -> None:
        obj = find(world, kind, name)
        named = {f"anneal.dev/{key.replace('_', '-')}": value for key, value in annotations.items()}
        world.api.put(
            builders.merged(
                {m: obj[m] for m in ("apiVersion", "kind", "metadata", "spec")}, {"metadata": {"annotations": named}}
            )
        )

    return do


def create(*objects: Mapping[str, Any]) -> Callable[[World], None]:
    def do(world: World) -> None:
        for obj in objects:
            put(world.api, obj)

    return do


def delete(kind: str, name: str) -> Callable[[World], None]:
    return lambda world: world.api.remove(Id(kind, NAMESPACE, name))


def evict(role: str) -> Callable[[World], None]:
    """The node of that role's running pod is drained."""

    def do(world: World) -> None:
        pods = [p for p in world.api.all("Pod") if p["metadata"]["labels"]["anneal.dev/role"] == role]
        world.evict(pods[-1])

    return do


def step(is_so: Callable[[World], bool], do: Callable[[World], None]) -> Step:
    return Step(is_so, do)


# What is seen at the end


def ends(kind: str, name: str, **status: Any) -> Seen:
    """The object has these members in status; conditions by type, as in `when`."""

    def check(world: World) -> None:
        seen = find(world, kind, name)["status"]
        assert when(kind, name, **status)(world), f"{kind} '{name}' ended otherwise than {status}: {seen}"

    return check


def absent(*kinds: str) -> Seen:
    """Nothing of these kinds is left."""

    def check(world: World) -> None:
        left = [f"{o['kind']} {o['metadata']['name']}" for o in world.api.all(*kinds)]
        assert not left, f"left behind: {left}"

    return check


def nothing_runs(world: World) -> None:
    """No pod is there any more that has not ended."""
    running = [p["metadata"]["name"] for p in world.api.all("Pod") if p["status"]["phase"] in ("Pending", "Running")]
    assert not running, f"still running: {running}"


def both(*checks: Seen) -> Seen:
    def check(world: World) -> None:
        for one in checks:
            one(world)

    return check
