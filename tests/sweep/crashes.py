"""Crashes, everywhere: a search through all states that any number of crashes can lead to.

A crash takes all that the operator knew and leaves the cluster as it was, so what happens next is a function of the
cluster's state alone. That makes the search finite: from each state that a crash can leave, one run of a new operator,
and every write of that run leaves two more states, before and after it. States that were met already end a branch,
and a run ends early where it comes to rest in a state (of cluster *and* operator) from which the end is known.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field

from tests.support.memory_api import Write
from tests.sweep.simulation import Simulation, Story
from tests.sweep.states import creations, difference, end_state, fingerprint, orphans, watch_history, watch_traffic

from anneal.kinds.contract import Kind


@dataclass
class Search:
    """What is known of one story so far."""

    story: Story
    kinds: tuple[Kind, ...]
    points: int = 0
    """Crashes tried: (run, write, before or after)."""
    runs: int = 0
    _reference: Simulation | None = None
    _waiting: deque[tuple[str, Simulation]] = field(default_factory=deque)
    _met: set[str] = field(default_factory=set)
    _known_rests: set[str] = field(default_factory=set)

    def run(self) -> None:
        """Search to the end. Raises AssertionError, with the path of the crash, at the first state that goes wrong."""
        asyncio.run(self._search())

    @property
    def states(self) -> int:
        return len(self._met)

    async def _search(self) -> None:
        self._reference = Simulation.of(self.story, self.kinds)
        await self._explore("", self._reference)
        done = self._reference.steps_done, len(self.story.steps)
        assert done[0] == done[1], f"'{self.story.name}' got stuck before its step {done[0] + 1} of {done[1]}"
        self.story.seen(self._reference.world)
        while self._waiting:
            path, left = self._waiting.popleft()
            try:
                await self._explore(path, left)
            except AssertionError as error:
                raise AssertionError(f"'{self.story.name}', after a crash {path}: {error}") from error

    async def _explore(self, path: str, simulation: Simulation) -> None:
        """One life of the operator from here; all that a crash in it could leave behind is left for later."""
        self.runs += 1
        rests: list[str] = []
        is_known = False

        def crash(when: str) -> None:
            self.points += 1
            state = fingerprint(simulation)
            if state not in self._met:
                self._met.add(state)
                self._waiting.append((f"{path} {when}".strip(), simulation.fork()))

        def before(write: Write) -> None:
            crash(f"before write {write.number} ({write.verb} {write.id.kind} {write.id.name})")

        def after(write: Write) -> None:
            crash(f"after write {write.number} ({write.verb} {write.id.kind} {write.id.name})")

        def on_rest(now: Simulation) -> bool:
            nonlocal is_known
            rests.append(fingerprint(now) + now.operators[0].memory())
            is_known = rests[-1] in self._known_rests
            return is_known

        simulation.api.before, simulation.api.after, simulation.on_rest = before, after, on_rest
        watch_history(simulation.api)
        watch_traffic(simulation.api)
        await simulation.run()
        if not is_known:
            self._check(simulation)
        self._known_rests.update(rests)

    def _check(self, simulation: Simulation) -> None:
        assert self._reference is not None
        expected, found = end_state(self._reference), end_state(simulation)
        assert expected == found, f"another end:\n{difference(expected, found)}"
        twice = creations(simulation) - creations(self._reference)
        assert not twice, f"created once too often: {twice}"
        assert not orphans(simulation.api), f"orphans: {orphans(simulation.api)}"


def search(story: Story, kinds: Iterable[Kind]) -> Search:
    """Every crash in `story`, and every crash after it."""
    found = Search(story, tuple(kinds))
    found.run()
    return found
