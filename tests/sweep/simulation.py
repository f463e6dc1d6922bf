"""One operator, one cluster, one story, in virtual time: what every test of the sweep runs.

The operator is the real loop (`reconcile/`) with the real kinds; only the API server, the world behind it and the
clock are simulated. Between two passes the world moves; when nobody has anything to do, time jumps to the next moment
at which somebody has.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from tests.support.clock import START, Clock
from tests.support.kubelet import Kubelet, Script
from tests.support.memory_api import Event, MemoryApi, Object, ident_of
from tests.support.world import World

from anneal.api.runs import ProgressReport
from anneal.handlers import watched
from anneal.kinds.children import MANAGED_BY, MANAGER, OWNER, OWNER_UID
from anneal.kinds.contract import Facts, Images, Key, Kind, ReportsEndpoint
from anneal.kube.errors import UnavailableError
from anneal.reconcile.queue import Queue
from anneal.reconcile.reconciler import Outcome, Reconciler
from anneal.reconcile.resync import list_all
from anneal.reconcile.worker import settle
from anneal.reports.store import ProgressStore

RESYNC_SECONDS = 600.0
#: A story that is not over after this long, in virtual seconds, never will be.
HORIZON = timedelta(hours=12)
#: More rounds than any story needs at one moment: the loop does not come to rest.
MAX_ROUNDS_AT_ONCE = 50


class NeverRestsError(AssertionError):
    """The operator goes on and on although nothing changes."""


def raise_defect(key: Key, error: Exception) -> None:
    """Programming errors are contained in production; in tests they are what we look for."""
    raise AssertionError(f"a pass over {key} raised: {error}") from error


@dataclass(frozen=True)
class Step:
    """One thing that a user or an administrator does in a story, and when."""

    when: Callable[[World], bool]
    do: Callable[[World], None]


@dataclass(frozen=True, eq=False)
class Story:
    """What is there, what pods do, and what people do."""

    name: str
    objects: tuple[Object, ...]
    script: Script
    steps: tuple[Step, ...] = ()
    seen: Callable[[World], None] = lambda world: None
    """What must be so at the end; raises AssertionError. Keeps a story from passing by never happening."""
    seen_late: Callable[[World], None] | None = None
    """What must be so when the operator hears of things late, where that rightly makes for another end."""


class Operator:
    """One life of the operator: what it knows is gone with it."""

    def __init__(
        self,
        api: MemoryApi,
        kinds: Iterable[Kind],
        *,
        leader: str = "leader-0",
        workers: int = 1,
        passes: int | None = None,
        hears: Callable[[Event], bool] = lambda event: True,
    ) -> None:
        """`passes` is how many it makes before it is gone, None for ever; `hears` says whether an event arrives."""
        self._api = api
        self._hears = hears
        self._workers = workers
        self._passes_left = passes
        self._kinds = tuple(kinds)
        own, children = watched(self._kinds)
        self._own = frozenset(r.kind for r in own)
        self._children = frozenset(r.kind for r in children)
        self.queue = Queue(clock=lambda: (api.clock.time - START).total_seconds(), jitter=lambda: 0.0)
        self.progress = ProgressStore(clock=lambda: (api.clock.time - START).total_seconds())
        reports = ReportsEndpoint("https://anneal-reports.anneal-system.svc:8443/v1/progress", f"CA of {leader}", "a")
        self.reconciler = Reconciler(
            api,
            self._kinds,
            facts=Facts(Images("trainer:1", "evaluator:1", "triton:1", "vllm:1"), reports),
            progress=self.progress,
            clock=api.clock.now,
            instance=leader,
            on_crash=raise_defect,
        )
        self._resynced = api.clock.time

    async def start(self) -> None:
        """Look at everything once, as a new leader does; then listen."""
        await self.resync()
        self._api.subscribers.append(self.hear)

    async def resync(self) -> None:
        """Queue everything, with as many tries as it takes."""
        with suppress(UnavailableError):
            await list_all(self._api, self._kinds, (), self.queue)
            self._resynced = self._api.clock.time
            return
        await self.resync()

    def hear(self, event: Event) -> None:
        """What `handlers` does with an event, behind the same selectors."""
        kind, labels = event.obj["kind"], event.obj["metadata"].get("labels") or {}
        selected = kind in self._own or (kind in self._children and labels.get(MANAGED_BY) == MANAGER)
        if selected and self._hears(event):
            for key in sorted(self.reconciler.interests.wakes(event.obj)):
                self.queue.add(key)

    async def work(self, key: Key) -> Outcome:
        """One pass, as `worker.work` makes it."""
        try:
            outcome = await self.reconciler.reconcile(key)
        finally:
            self.queue.done(key)
        settle(self.queue, key, outcome)
        return outcome

    def next_due(self) -> datetime | None:
        """When this operator has something to do next by itself; a resync does not count."""
        seconds = self.queue.next_due()
        return None if seconds is None else self._api.clock.time + timedelta(seconds=seconds)

    def take(self) -> list[Key]:
        """The keys that its workers take now."""
        taken = [key for _ in range(self._workers) if (key := self.queue.get_nowait()) is not None]
        if self._passes_left is not None:
            self._passes_left -= len(taken)
        return taken

    @property
    def is_gone(self) -> bool:
        return self._passes_left is not None and self._passes_left <= 0

    def memory(self) -> str:
        """All that this life knows and the next will not; not the time of the last resync, which changes nothing."""
        queue, interests = self.queue, self.reconciler.interests
        return repr((sorted(queue._due.items()), sorted(queue._failures.items()), sorted(interests._watched.items())))

    @property
    def next_resync(self) -> datetime:
        return self._resynced + timedelta(seconds=RESYNC_SECONDS)


def put(api: MemoryApi, obj: Object) -> None:
    """The object, with the status that it brings, if it brings one: it has a past."""
    api.put(obj)
    if "status" in obj:
        api.put_status(ident_of(obj), obj["status"])


@dataclass
class Simulation:
    """A story under way. `fork` gives a second one in the same state, whose operator has yet to start."""

    story: Story
    kinds: tuple[Kind, ...]
    api: MemoryApi
    world: World
    steps_done: int = 0
    passes: int = 0
    operators: list[Operator] = field(default_factory=list)
    on_rest: Callable[[Simulation], bool] = field(default=lambda simulation: False)
    """Called when nobody has anything to do now; True ends the run: how it goes on from here is known."""
    _version: int = -1
    _changed: datetime = START

    @classmethod
    def of(cls, story: Story, kinds: Iterable[Kind]) -> Simulation:
        api = MemoryApi(Clock())
        simulation = cls(story, tuple(kinds), api, World(api, Kubelet(api, story.script)))
        for obj in story.objects:
            put(api, obj)
        return simulation

    def fork(self) -> Simulation:
        api = self.api.fork(Clock(self.api.clock.time))
        return Simulation(self.story, self.kinds, api, self.world.fork(api), self.steps_done)

    async def run(self, *operators: Operator) -> None:
        """To the end of the story, or until `on_rest` says enough. Without operators, one new one."""
        self.operators = list(operators) or [Operator(self.api, self.kinds)]
        self.world.kubelet.on_report = self._report
        for operator in self.operators:
            await operator.start()
        while True:
            await self._work()
            if self.on_rest(self) or not self._go_on():
                return
            for operator in self.operators:
                if operator.next_resync <= self.api.clock.time:
                    await operator.resync()

    async def _work(self) -> None:
        """Everything that is to be done now, by as many workers of each operator at once as it has."""
        for _ in range(MAX_ROUNDS_AT_ONCE):
            self.world.settle()
            self.operators = [o for o in self.operators if not o.is_gone]
            passes = [o.work(key) for o in self.operators for key in o.take()]
            if passes:
                self.passes += len(passes)
                await asyncio.gather(*passes)
            elif not self._take_step():
                return
        raise NeverRestsError(
            f"'{self.story.name}': no rest after {MAX_ROUNDS_AT_ONCE} rounds at {self.api.clock.time}"
        )

    def stay_away(self, seconds: float) -> None:
        """Time in which there is no operator; everybody else goes on."""
        until = self.api.clock.time + timedelta(seconds=seconds)
        while True:
            self.world.settle()
            if self._take_step():
                continue
            due = self.world.next_due()
            self.api.clock.time = until if due is None else min(due, until)
            if self.api.clock.time == until:
                return

    def _report(self, pod: Object, report: ProgressReport) -> None:
        """What the reports endpoint does with a report."""
        meta = pod["metadata"]
        kind, _, name = meta["annotations"][OWNER].partition("/")
        owner = Key(kind, meta["namespace"], name)
        for operator in self.operators:
            operator.progress.put(meta["labels"][OWNER_UID], owner, report)
            operator.queue.add(owner)

    def _take_step(self) -> bool:
        if self.steps_done >= len(self.story.steps) or not self.story.steps[self.steps_done].when(self.world):
            return False
        self.story.steps[self.steps_done].do(self.world)
        self.steps_done += 1
        return True

    def _go_on(self) -> bool:
        """Let time pass until something happens. False when nothing will any more."""
        if self._version != self.api.version:
            self._version, self._changed = self.api.version, self.api.clock.time
        dues = [self.world.next_due(), *[o.next_due() for o in self.operators]]
        moments = [m for m in dues if m is not None]
        resync = min(o.next_resync for o in self.operators)
        quiet = self.api.clock.time - self._changed
        # Somebody may not have heard of something, or look again and again for what never comes.
        if quiet >= timedelta(seconds=RESYNC_SECONDS if not moments else 2 * RESYNC_SECONDS):
            return False
        self.api.clock.time = max(self.api.clock.time, min([*moments, resync]))
        assert self.api.clock.time - START < HORIZON, f"'{self.story.name}' is not over after {HORIZON}"
        return True


def run_story(story: Story, kinds: Iterable[Kind]) -> Simulation:
    """The story from its begin to its end, undisturbed: the reference for all that is disturbed."""
    simulation = Simulation.of(story, kinds)
    asyncio.run(simulation.run())
    done = simulation.steps_done, len(story.steps)
    assert done[0] == done[1], f"'{story.name}' got stuck before its step {done[0] + 1} of {done[1]}"
    story.seen(simulation.world)
    return simulation
