"""What may go wrong around an operator that does not crash, each as a run of a story that must end as usual."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterable

from tests.support.memory_api import Event, Write
from tests.sweep.simulation import Simulation, Story
from tests.sweep.states import creations, difference, end_state, orphans, watch_history, watch_traffic

from anneal.kinds.contract import Kind
from anneal.kube.errors import ConflictError, KubeError, RefusedError, UnavailableError

#: Which events arrive.
Hearing = Callable[[Event], bool]


def deaf(event: Event) -> bool:
    """None arrives: only time and the resync wake anybody."""
    del event
    return False


def half_deaf(seed: int) -> Hearing:
    """Each arrives or not by chance."""
    chance = random.Random(seed)
    return lambda event: chance.random() < 0.5


class MissingOne:
    """All arrive but one."""

    def __init__(self, number: int) -> None:
        """`number` counts from 1; with 0, none is missed."""
        self._number = number
        self.heard = 0

    def __call__(self, event: Event) -> bool:
        del event
        self.heard += 1
        return self.heard != self._number


class Faults:
    """An API server under stress: requests that fail before or after they took effect, and reads that fail."""

    def __init__(self, seed: int, share: float = 0.15) -> None:
        self._random = random.Random(seed)
        self._share = share
        self.count = 0

    def install(self, simulation: Simulation) -> None:
        simulation.api.before = self._fail_before
        simulation.api.after = self._fail_after
        simulation.api.turn = self._fail_to_read

    def _fail_before(self, write: Write) -> None:
        errors = (UnavailableError("too many requests", 3.0), ConflictError("the object has been modified"))
        self._maybe(self._random.choice(errors))
        del write

    def _fail_after(self, write: Write) -> None:
        """The write took effect, but the answer was lost."""
        del write
        self._maybe(UnavailableError("connection reset"))

    async def _fail_to_read(self) -> None:
        if self._random.random() < 0.1:
            self._maybe(UnavailableError("etcd has no leader"))

    def _maybe(self, error: KubeError) -> None:
        if self._random.random() < self._share:
            self.count += 1
            raise error


class RefusedOnce:
    """An admission policy that refuses each child once, and is then put right."""

    def __init__(self) -> None:
        self._refused: set[tuple[str, str]] = set()

    def __call__(self, write: Write) -> None:
        name = (write.id.kind, write.id.name)
        if write.verb == "apply" and write.subresource is None and name not in self._refused:
            self._refused.add(name)
            raise RefusedError("denied by a policy")

    @property
    def count(self) -> int:
        return len(self._refused)


class Turns:
    """An unfair scheduler: how far each pass gets before another goes on, and when the world moves, is chance."""

    def __init__(self, seed: int, simulation: Simulation) -> None:
        self._random = random.Random(seed)
        self._simulation = simulation

    async def __call__(self) -> None:
        for _ in range(self._random.randrange(4)):
            await asyncio.sleep(0)
        if self._random.random() < 0.1:
            self._simulation.world.settle()


def same_end_though_late(reference: Simulation, disturbed: Simulation) -> None:
    """The same for an operator that heard of things late: of a suspension that is over by then, it never learns."""
    if disturbed.story.seen_late is None:
        same_end(reference, disturbed)
        return
    disturbed.story.seen_late(disturbed.world)
    assert disturbed.steps_done == len(disturbed.story.steps), "the story got stuck"
    assert not orphans(disturbed.api), f"orphans: {orphans(disturbed.api)}"


def same_end(reference: Simulation, disturbed: Simulation) -> None:
    """Fails unless the disturbed run ended as the reference did, nothing made twice, nothing left, nothing undone."""
    expected, found = end_state(reference), end_state(disturbed)
    assert expected == found, f"another end:\n{difference(expected, found)}"
    twice = creations(disturbed) - creations(reference)
    assert not twice, f"created once too often: {twice}"
    assert not orphans(disturbed.api), f"orphans: {orphans(disturbed.api)}"


def begin(story: Story, kinds: Iterable[Kind]) -> Simulation:
    """The story before its begin, with its history and its traffic watched."""
    simulation = Simulation.of(story, kinds)
    watch_history(simulation.api)
    watch_traffic(simulation.api)
    return simulation
