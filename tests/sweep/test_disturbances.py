"""Whatever happens around the operator - lost events, stale lists, rivals, errors - a story ends as it always ends."""

from __future__ import annotations

import asyncio
from functools import cache
from itertools import cycle

import pytest
from tests.sweep.disturbances import (
    Faults,
    MissingOne,
    RefusedOnce,
    Turns,
    begin,
    deaf,
    half_deaf,
    same_end,
    same_end_though_late,
)
from tests.sweep.ledger import Ledger
from tests.sweep.simulation import Operator, Simulation, Story, run_story
from tests.sweep.states import watch_history
from tests.sweep.stories import KINDS, STORIES

every_story = pytest.mark.parametrize("story", STORIES, ids=lambda s: s.name)
#: Chance is another one in every story, and the same in every session. More of it finds more, and takes longer.
SEEDS = 1
with_chance = pytest.mark.parametrize(
    ("story", "seed"),
    [pytest.param(s, n + 100 * more, id=f"{s.name} ({n})") for more in range(SEEDS) for n, s in enumerate(STORIES)],
)
#: In virtual seconds: a restart, a node that is replaced, a night.
ABSENCES = (5.0, 45.0, 900.0)


@cache
def reference(story: Story) -> Simulation:
    return run_story(story, KINDS)


@every_story
def test_a_converged_operator_is_silent(story: Story) -> None:
    simulation = reference(story).fork()
    asyncio.run(simulation.run())
    assert simulation.passes >= len(simulation.api.all("FineTuneJob", "Evaluation", "ModelDeployment"))
    assert not simulation.api.requests


@every_story
def test_the_world_goes_on_while_there_is_no_operator(story: Story, ledger: Ledger) -> None:
    """After every tenth write the operator dies, and the next one starts only a good while later."""
    left: list[Simulation] = []
    first = begin(story, KINDS)
    first.api.after = lambda write: None if write.number % 10 else left.append(first.fork())
    asyncio.run(first.run())
    for simulation, seconds in zip(left, cycle(ABSENCES), strict=False):
        simulation.stay_away(seconds)
        asyncio.run(simulation.run(Operator(simulation.api, KINDS, leader="leader-1")))
        same_end_though_late(reference(story), simulation)
    ledger.count("absences", len(left))


@with_chance
def test_events_may_be_lost(story: Story, seed: int, ledger: Ledger) -> None:
    for hears in (deaf, half_deaf(seed)):
        simulation = begin(story, KINDS)
        asyncio.run(simulation.run(Operator(simulation.api, KINDS, hears=hears)))
        same_end_though_late(reference(story), simulation)
        ledger.count("runs with many events lost")


def test_any_one_event_may_be_lost(ledger: Ledger) -> None:
    story = next(s for s in STORIES if s.name == "a second model follows the first")
    counting = MissingOne(0)
    whole = begin(story, KINDS)
    asyncio.run(whole.run(Operator(whole.api, KINDS, hears=counting)))
    for number in range(1, counting.heard + 1):
        simulation = begin(story, KINDS)
        asyncio.run(simulation.run(Operator(simulation.api, KINDS, hears=MissingOne(number))))
        same_end_though_late(reference(story), simulation)
    ledger.count("runs with one event lost", counting.heard)


@with_chance
def test_reads_may_lag(story: Story, seed: int, ledger: Ledger) -> None:
    """Every answer is some writes old, until time passes. A real API server does not do that to a LIST that asks for no
    version, and that traffic is safe at every moment rests on it; that stories end well does not.
    """
    simulation = Simulation.of(story, KINDS)
    watch_history(simulation.api)
    simulation.api.stale_by = 1 + seed % 7

    def catch_up(now: Simulation) -> bool:
        now.api.catch_up()
        return False

    simulation.on_rest = catch_up
    asyncio.run(simulation.run())
    same_end_though_late(reference(story), simulation)
    ledger.count("runs with stale reads")


@with_chance
def test_workers_may_interleave(story: Story, seed: int, ledger: Ledger) -> None:
    simulation = begin(story, KINDS)
    simulation.api.turn = Turns(seed, simulation)
    asyncio.run(simulation.run(Operator(simulation.api, KINDS, workers=3)))
    same_end(reference(story), simulation)
    ledger.count("runs with three workers")


@with_chance
def test_two_leaders_may_overlap(story: Story, seed: int, ledger: Ledger) -> None:
    """One has lost its lease and does not know it yet, for a few passes or, as its twin, for the whole story."""
    simulation = begin(story, KINDS)
    simulation.api.turn = Turns(seed, simulation)
    is_brief = seed % 3 > 0
    old = Operator(simulation.api, KINDS, leader="leader-0", passes=1 + seed % 40 if is_brief else None)
    new = Operator(simulation.api, KINDS, leader="leader-1" if is_brief else "leader-0")
    asyncio.run(simulation.run(old, new))
    same_end(reference(story), simulation)
    ledger.count("runs with two leaders")


@with_chance
def test_requests_may_fail(story: Story, seed: int, ledger: Ledger) -> None:
    simulation = begin(story, KINDS)
    faults = Faults(seed)
    faults.install(simulation)
    asyncio.run(simulation.run())
    same_end_though_late(reference(story), simulation)
    ledger.count("failed requests", faults.count)


@every_story
def test_children_may_be_refused(story: Story, ledger: Ledger) -> None:
    simulation = begin(story, KINDS)
    simulation.api.before = refused = RefusedOnce()
    asyncio.run(simulation.run())
    same_end_though_late(reference(story), simulation)
    ledger.count("refused children", refused.count)
