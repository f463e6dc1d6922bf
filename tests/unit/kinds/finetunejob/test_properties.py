"""What holds whatever is seen: there is always a plan, and it never runs ahead of what is recorded."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.builders import as_stored, failed, fine_tune_job, preempted
from tests.unit.kinds.finetunejob.cases import (
    PREPARED,
    PUBLISHED,
    REPORT,
    STARTED,
    TRAINED,
    children_of,
    message,
)
from tests.unit.kinds.scenes import NOW, ago, condition, ended, pod, seen, terminated, waiting

from anneal.api.finetunejob import FineTuneJob
from anneal.kinds.finetunejob.plan import plan

STAGES = {"prepare": STARTED, "fit": PREPARED, "publish": TRAINED}
ORDER = ["prepare", "fit", "publish"]
CHILDREN = {role: children_of(status) for role, status in STAGES.items()}

texts = st.sampled_from(
    ["", "boom", preempted(50), failed("fit", "LossNotFinite", "loss is NaN"), *(message(r) for r in STAGES)]
)
containers = st.lists(
    st.one_of(
        st.builds(
            terminated, st.sampled_from([0, 1, 42, 75, 137, 143]), texts, reason=st.sampled_from(["", "OOMKilled"])
        ),
        st.builds(waiting, st.sampled_from(["PodInitializing", "ImagePullBackOff", "CrashLoopBackOff"]), st.text()),
        st.just({"name": "trainer", "state": {"running": {}}}),
    ),
    max_size=1,
)
conditions = st.lists(
    st.builds(
        condition,
        st.sampled_from(["PodScheduled", "DisruptionTarget", "Ready"]),
        st.sampled_from(["True", "False", "Unknown"]),
        message=st.text(max_size=2000),
        since=st.floats(0, 1000),
    ),
    max_size=3,
)
a_pod = st.builds(
    pod,
    st.sampled_from(["Pending", "Running", "Succeeded", "Failed", "Unknown"]),
    name=st.sampled_from(["work-a", "work-b", "work-c"]),
    containers=containers,
    conditions=conditions,
    reason=st.sampled_from(["", "Evicted", "NodeShutdown"]),
)
job_statuses = st.one_of(
    st.just({}),
    st.builds(ended, st.sampled_from(["Complete", "Failed"]), st.just("BackoffLimitExceeded"), since=st.floats(0, 200)),
    st.fixed_dictionaries({"active": st.integers(0, 1), "terminating": st.integers(0, 1)}),
)
specs = st.fixed_dictionaries(
    {},
    optional={
        "suspend": st.booleans(),
        "activeDeadlineSeconds": st.sampled_from([1, 600, 10_000]),
        "ttlSecondsAfterFinished": st.sampled_from([0, 600]),
        "training": st.sampled_from([{}, {"learningRate": "0"}, {"learningRate": "x"}, {"epochs": -1}]),
    },
)


@st.composite
def anything_seen(draw: st.DrawFn) -> Any:
    stage = draw(st.sampled_from(["new", *ORDER, "published"]))
    status = {"new": {}, "published": PUBLISHED, **STAGES}[stage]
    children: list[Any] = []
    for role in ORDER if status else ():
        if draw(st.booleans()):
            *others, job = CHILDREN[role]
            spec = {**job["spec"], "suspend": draw(st.booleans())}
            children += [*others, {**job, "spec": spec, "status": draw(job_statuses)}]
    final = draw(st.sampled_from([None, "Complete", "Failed"]))
    if final is not None:
        over = {"type": final, "status": "True", "reason": "Over"}
        status = {**status, "conditions": [over], "completionTime": ago(draw(st.floats(0, 1000)))}
    return seen(
        as_stored(fine_tune_job(**draw(specs)), generation=draw(st.integers(1, 3)), **status),
        *children,
        *draw(st.lists(a_pod, max_size=3)),
        claims=draw(st.lists(st.sampled_from(["hub", "models"]), unique=True)),
        progress=draw(st.sampled_from([None, REPORT])),
    )


@settings(deadline=None)
@given(anything_seen())
def test_there_is_always_a_plan_and_its_status_is_valid(observed: Any) -> None:
    decided = plan(observed, NOW)
    parsed = FineTuneJob.model_validate({**as_stored(fine_tune_job()), "status": decided.status}).status
    assert parsed is not None
    assert parsed.observed_generation == observed.generation
    assert decided.requeue_after is None or decided.requeue_after > 0


@settings(deadline=None)
@given(anything_seen())
def test_no_step_is_asked_for_before_the_one_before_it_is_recorded(observed: Any) -> None:
    decided = plan(observed, NOW)
    roles = {o["metadata"]["labels"]["anneal.dev/role"] for o in decided.apply} - {"workspace"}
    recorded = observed.status
    reached = "publish" if "training" in recorded else "fit" if "dataset" in recorded else "prepare"
    assert roles <= {reached}
    assert not roles or "startTime" in recorded


@settings(deadline=None)
@given(anything_seen())
def test_nothing_is_both_made_and_unmade_and_only_the_finished_is_unmade(observed: Any) -> None:
    decided = plan(observed, NOW)
    assert not (decided.apply and decided.delete)
    over = {c["type"] for c in observed.status.get("conditions", ()) if c["status"] == "True"}
    assert not decided.delete or over & {"Complete", "Failed"}


@settings(deadline=None)
@given(anything_seen())
def test_what_is_recorded_stays_and_the_end_is_final(observed: Any) -> None:
    before, after = observed.status, plan(observed, NOW).status
    for part in ("startTime", "model", "dataset", "training", "artifact"):
        assert part not in before or after[part] == before[part]
    if before.get("conditions"):
        assert {c["type"]: c["status"] for c in after["conditions"]} == {
            c["type"]: c["status"] for c in before["conditions"]
        }
