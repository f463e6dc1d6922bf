"""The sweep finds what it is for: operators that are right until they crash, and operators that never rest."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime

import pytest
from tests.sweep import serving_stories, training_stories
from tests.sweep.crashes import search
from tests.sweep.simulation import NeverRestsError, run_story

from anneal.kinds import evaluation, finetunejob, modeldeployment
from anneal.kinds.children import child_name
from anneal.kinds.contract import Delete, Kind, Object, Plan, Seen

STORY = next(s for s in training_stories.STORIES if s.name == "training runs out of memory once")
ROLLOVER = next(s for s in serving_stories.STORIES if s.name == "a second model follows the first")


def with_plan(change: Callable[[Seen, Plan], Plan], row: Kind = finetunejob.KIND_ROW) -> Kind:
    """A kind with a mistake in its plan."""

    def plan(seen: Seen, now: datetime) -> Plan:
        return change(seen, row.plan(seen, now))

    return replace(row, plan=plan)


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


def switches_too_early(seen: Seen, plan: Plan) -> Plan:
    """Traffic goes to the revision that is wanted, before its pods answer."""
    target = plan.status.get("targetRevision")

    def hurried(manifest: Object) -> Object:
        if manifest["metadata"]["labels"]["anneal.dev/role"] != "traffic":
            return manifest
        selector = {**manifest["spec"]["selector"], "anneal.dev/revision": target}
        return {**manifest, "spec": {**manifest["spec"], "selector": selector}}

    return replace(plan, apply=tuple(hurried(m) for m in plan.apply))


def test_traffic_that_moves_too_early_is_caught() -> None:
    kinds = [finetunejob.KIND_ROW, evaluation.KIND_ROW, with_plan(switches_too_early, modeldeployment.KIND_ROW)]
    with pytest.raises(AssertionError, match="of which no pod answers"):
        search(ROLLOVER, kinds)


def test_names_that_are_no_function_of_the_object_are_caught() -> None:
    numbers = itertools.count()

    def renamed(manifest: Object) -> Object:
        name = child_name(manifest["metadata"]["name"], "again", next(numbers))
        return {**manifest, "metadata": {**manifest["metadata"], "name": name}}

    kind = with_plan(lambda seen, plan: replace(plan, apply=tuple(renamed(m) for m in plan.apply)))
    with pytest.raises(NeverRestsError):
        search(STORY, [kind])
