"""The sweep finds what it is for: operators that are right until they crash, and operators that never rest."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime

import pytest
from tests.sweep.crashes import search
from tests.sweep.simulation import NeverRestsError, run_story
from tests.sweep.training_stories import STORIES

from anneal.kinds import finetunejob
from anneal.kinds.children import child_name
from anneal.kinds.contract import Delete, Kind, Object, Plan, Seen

ROW = finetunejob.KIND_ROW
STORY = next(s for s in STORIES if s.name == "training runs out of memory once")


def with_plan(change: Callable[[Seen, Plan], Plan]) -> Kind:
    """FineTuneJob with a mistake in its plan."""

    def plan(seen: Seen, now: datetime) -> Plan:
        return change(seen, ROW.plan(seen, now))

    return replace(ROW, plan=plan)


def deletes_before_it_records(seen: Seen, plan: Plan) -> Plan:
    """The Job goes in the pass that writes its result: between the two, the result is nowhere."""
    if "dataset" in plan.status and "dataset" not in seen.status:
        jobs = tuple(
            Delete("batch/v1", "Job", j["metadata"]["name"], j["metadata"]["uid"]) for j in seen.of_kind("Job")
        )
        return replace(plan, delete=jobs)
    return plan


def takes_back_what_was_final(seen: Seen, plan: Plan) -> Plan:
    """A second look at a finished object starts it again."""
    return replace(plan, status={}) if seen.status.get("phase") == "Complete" else plan


def test_a_plan_that_deletes_before_it_records_is_right_until_it_crashes() -> None:
    kind = with_plan(deletes_before_it_records)
    run_story(STORY, [kind])
    with pytest.raises(AssertionError, match=r"after a crash after write \d+ \(delete Job .*created once too often"):
        search(STORY, [kind])


def test_a_plan_that_takes_back_what_was_final_is_caught() -> None:
    with pytest.raises(AssertionError, match="Complete went back"):
        search(STORY, [with_plan(takes_back_what_was_final)])


def test_names_that_are_no_function_of_the_object_are_caught() -> None:
    numbers = itertools.count()

    def renamed(manifest: Object) -> Object:
        name = child_name(manifest["metadata"]["name"], "again", next(numbers))
        return {**manifest, "metadata": {**manifest["metadata"], "name": name}}

    kind = with_plan(lambda seen, plan: replace(plan, apply=tuple(renamed(m) for m in plan.apply)))
    with pytest.raises(NeverRestsError):
        search(STORY, [kind])
