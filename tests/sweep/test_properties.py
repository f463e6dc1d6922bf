"""What holds for any plan of any kind in any situation, reached by stories and then bent at random."""

from __future__ import annotations

import asyncio
import copy
import re
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from functools import cache
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support import builders
from tests.support.memory_api import ident_of
from tests.sweep.simulation import Simulation, Story
from tests.sweep.states import orphans, watch_history
from tests.sweep.stories import KINDS, STORIES

from anneal.api.conditions import is_true
from anneal.api.kinds import BY_NAME
from anneal.api.runs import ProgressReport
from anneal.kinds.children import MAX_NAME, OWNER_UID, child_name
from anneal.kinds.contract import Kind, Object, Plan, Seen

DNS_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")
DNS_SUBDOMAIN = st.from_regex(r"[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?", fullmatch=True).filter(
    lambda name: ".." not in name and ".-" not in name and "-." not in name
)
BY_KIND = {kind.info.kind: kind for kind in KINDS}
Situation = tuple[Seen, datetime]


@cache
def situations() -> tuple[Situation, ...]:
    """Everything that any plan sees in any story."""
    found: list[Situation] = []

    def recorded(kind: Kind) -> Kind:
        def plan(seen: Seen, now: datetime) -> Plan:
            found.append((seen, now))
            return kind.plan(seen, now)

        return replace(kind, plan=plan)

    for story in STORIES:
        asyncio.run(Simulation.of(story, [recorded(kind) for kind in KINDS]).run())
    return tuple(found)


@st.composite
def bent_situations(draw: st.DrawFn) -> Situation:
    """A situation of a story with parts of it missing, emptied, or out of their time."""
    seen, now = draw(st.sampled_from(situations()))
    keep = draw(st.lists(st.booleans(), min_size=len(seen.children), max_size=len(seen.children)))
    children = tuple(c for c, kept in zip(seen.children, keep, strict=True) if kept)
    found = {
        wish: draw(st.sampled_from([it, () if isinstance(it, tuple) else None])) for wish, it in seen.found.items()
    }
    obj = draw(st.sampled_from([seen.obj, {**seen.obj, "status": _less(draw, seen.status)}]))
    report = draw(st.none() | st.builds(ProgressReport, percent=st.integers(0, 100), step=st.integers(0, 1000)))
    later = timedelta(seconds=draw(st.sampled_from([-3600, 0, 0, 1, 59, 61, 3600, 86_400 * 400])))
    bent = tuple(_bent(draw, child) for child in children)
    return replace(seen, obj=obj, children=bent, found=found, progress=report), now + later


def _bent(draw: st.DrawFn, child: Object) -> Object:
    wanted = draw(st.sampled_from(["same", "same", "no status", "less status", "going"]))
    if wanted == "going":
        return {**child, "metadata": {**child["metadata"], "deletionTimestamp": "2026-01-01T00:00:00Z"}}
    if wanted == "no status":
        return {k: v for k, v in child.items() if k != "status"}
    return {**child, "status": _less(draw, child.get("status", {}))} if wanted == "less status" else child


def _less(draw: st.DrawFn, status: Mapping[str, Any]) -> dict[str, Any]:
    return {member: value for member, value in status.items() if draw(st.booleans())}


@settings(max_examples=150, deadline=None)
@given(bent_situations())
def test_any_situation_gives_a_plan_that_can_be_written(situation: Situation) -> None:
    seen, now = situation
    before = copy.deepcopy(seen)
    plan = BY_KIND[seen.obj["kind"]].plan(seen, now)
    assert seen == before, "the plan changed what it saw"
    assert plan == BY_KIND[seen.obj["kind"]].plan(before, now), "two looks at the same gave two plans"
    _status_is_sound(seen, plan)
    _children_are_sound(seen, plan)
    assert plan.requeue_after is None or plan.requeue_after > 0


def _status_is_sound(seen: Seen, plan: Plan) -> None:
    BY_NAME[seen.obj["kind"]].model.model_validate({**seen.obj, "status": plan.status})
    types = [c["type"] for c in plan.status.get("conditions", ())]
    assert len(types) == len(set(types)), f"a condition is there twice: {types}"
    assert all(c["observedGeneration"] == seen.generation for c in plan.status.get("conditions", ()))
    for final in ("Complete", "Failed"):
        assert not is_true(seen.obj, final) or is_true({"status": plan.status}, final), f"{final} went back"


def _children_are_sound(seen: Seen, plan: Plan) -> None:
    if is_true(seen.obj, "Complete") or is_true(seen.obj, "Failed"):
        assert not plan.apply, "a finished object makes children"
    known = {c["metadata"]["uid"] for c in seen.children}
    assert all(d.uid in known for d in plan.delete), "something is deleted that was not seen"
    for manifest in plan.apply:
        meta = manifest["metadata"]
        assert DNS_LABEL.fullmatch(meta["name"]), meta["name"]
        assert len(meta["name"]) <= MAX_NAME
        assert meta["namespace"] == seen.namespace
        assert meta["labels"][OWNER_UID] == seen.uid
        assert [(o["uid"], o["controller"]) for o in meta["ownerReferences"]] == [(seen.uid, True)]
        assert "status" not in manifest


@settings(max_examples=20, deadline=None)
@given(st.sampled_from(STORIES), st.integers(0, 12), st.data())
def test_the_loop_comes_to_rest_whatever_is_deleted(story: Story, rest: int, data: st.DataObject) -> None:
    """At some moment of a story, somebody deletes any objects by hand, and nobody does anything any more."""
    simulation = Simulation.of(story, KINDS)
    watch_history(simulation.api)
    rests = iter(range(rest))
    simulation.on_rest = lambda now: next(rests, None) is None
    asyncio.run(simulation.run())

    objects = simulation.api.all()
    for obj in data.draw(st.lists(st.sampled_from(objects), max_size=3, unique_by=ident_of)):
        simulation.api.remove(ident_of(obj))
    after = simulation.fork()
    after.story = replace(story, steps=())
    asyncio.run(after.run())
    assert not orphans(after.api)
    silent = after.fork()
    asyncio.run(silent.run())
    assert not silent.api.requests, f"never silent: {silent.api.requests}"


@settings(max_examples=100, deadline=None)
@given(DNS_SUBDOMAIN, DNS_SUBDOMAIN, st.sampled_from(["prepare", "workspace", "evaluate"]), st.uuids(), st.uuids())
def test_names_of_children_fit_and_differ(one: str, other: str, role: str, uid: object, another: object) -> None:
    name = child_name(one, role, uid)
    assert len(name) <= MAX_NAME
    assert DNS_LABEL.fullmatch(name)
    assert name[0].isalpha(), "a Service's name starts with a letter"
    assert name == child_name(one, role, uid)
    assert uid == another or name != child_name(one, role, another)
    assert one == other or name != child_name(other, role, uid)


def test_two_objects_with_names_of_253_characters_share_no_child() -> None:
    """They differ only in their last character, which no child's name has room for."""
    long = "a" * 252
    stories = [
        Story(
            end,
            (
                *(builders.claim(c) for c in ("hub", "models")),
                builders.fine_tune_job(long + end),
                builders.evaluation(long + end),
                builders.model_deployment(long + end, job=long + end),
            ),
            builders.all_goes_well,
        )
        for end in "bc"
    ]
    names: list[set[str]] = []
    for story in stories:
        simulation = Simulation.of(story, KINDS)
        asyncio.run(simulation.run())
        served = simulation.api.peek("ModelDeployment", long + story.name)
        assert served is not None
        assert is_true(served, "Ready")
        made = {i for i in simulation.api.created if i.kind in ("Job", "ConfigMap", "Deployment", "Service")}
        assert all(len(i.name) <= MAX_NAME for i in made)
        names.append({i.name for i in made})
    assert not names[0] & names[1]
