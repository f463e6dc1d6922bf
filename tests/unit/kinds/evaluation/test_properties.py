"""What holds whatever is seen: there is always a plan, and it never runs ahead of what is recorded."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.builders import as_stored, digest, evaluation, failed
from tests.unit.kinds.evaluation.objects import ABSOLUTE, ARTIFACT, DONE, RECORDED, SUPERIORITY, at, candidate, told
from tests.unit.kinds.scenes import NOW, ago, condition, ended, live, pod, seen, terminated, waiting

from anneal.api.evaluation import Evaluation
from anneal.api.runs import ProgressReport
from anneal.kinds.contract import Reference
from anneal.kinds.evaluation.plan import plan, references

texts = st.sampled_from(["", "boom", failed("evaluate", "TooManyErrors", "3 % failed"), told(), told(gates=[]), "{}"])
ends = st.builds(terminated, st.sampled_from([0, 1, 42, 137]), texts, name=st.sampled_from(["evaluate", "server"]))
restarted = st.builds(lambda end, n: {**end, "lastState": end["state"], "restartCount": n}, ends, st.integers(0, 5))
waits = st.builds(waiting, st.sampled_from(["PodInitializing", "CrashLoopBackOff"]), st.text(), name=st.just("server"))
statuses = st.lists(st.one_of(ends, restarted, waits), max_size=1)
conditions = st.lists(
    st.builds(
        condition,
        st.sampled_from(["PodScheduled", "DisruptionTarget"]),
        st.sampled_from(["True", "False"]),
        message=st.text(max_size=2000),
        since=st.floats(0, 1000),
    ),
    max_size=2,
)
a_pod = st.builds(
    pod,
    st.sampled_from(["Pending", "Running", "Succeeded", "Failed", "Unknown"]),
    name=st.sampled_from(["work-a", "work-b"]),
    containers=statuses,
    init=statuses,
    sidecars=st.just(("server",)),
    conditions=conditions,
)
job_statuses = st.one_of(
    st.just({}),
    st.builds(ended, st.sampled_from(["Complete", "Failed"]), st.just("BackoffLimitExceeded"), since=st.floats(0, 200)),
)
candidates = st.sampled_from(
    [
        None,
        candidate(),
        candidate("Failed", "line 17: not JSON"),
        candidate("Complete"),
        candidate("Complete", published={**ARTIFACT, "heldOutCount": 0}),
        DONE,
    ]
)
specs = st.fixed_dictionaries(
    {},
    optional={
        "gates": st.sampled_from([[ABSOLUTE], [ABSOLUTE, SUPERIORITY], [], [{"metric": "other"}]]),
        "activeDeadlineSeconds": st.sampled_from([1, 600, 10_000]),
        "ttlSecondsAfterFinished": st.sampled_from([0, 600]),
    },
)
CHILDREN = [live(o, uid=f"uid-of-{o['kind'].lower()}") for o in plan(at({**RECORDED, "startTime": ago(0)}), NOW).apply]


@st.composite
def anything_seen(draw: st.DrawFn) -> Any:
    status: dict[str, Any] = dict(draw(st.sampled_from([{}, RECORDED, {**RECORDED, "percent": 40}])))
    children = [{**c, "status": draw(job_statuses)} for c in CHILDREN if status and draw(st.booleans())]
    final = draw(st.sampled_from([None, None, "Complete", "Failed"]))
    if final is not None:
        over = {"type": final, "status": "True", "reason": "Over"}
        status |= {"conditions": [over], "completionTime": ago(draw(st.floats(0, 1000)))}
    observed = seen(
        as_stored(evaluation(**draw(specs)), generation=draw(st.integers(1, 3)), **status),
        *children,
        *draw(st.lists(a_pod, max_size=3)),
        claims=draw(st.lists(st.sampled_from(["hub", "models"]), unique=True)),
        progress=draw(st.sampled_from([None, ProgressReport(percent=60)])),
    )
    return replace(observed, found={**observed.found, Reference("FineTuneJob", "intents-v1"): draw(candidates)})


@settings(deadline=None)
@given(anything_seen())
def test_there_is_always_a_plan_and_its_status_is_valid(observed: Any) -> None:
    decided = plan(observed, NOW)
    parsed = Evaluation.model_validate({"spec": evaluation()["spec"], "status": decided.status}).status
    assert parsed is not None
    assert parsed.observed_generation == observed.generation
    assert decided.requeue_after is None or decided.requeue_after > 0
    assert isinstance(references(observed.obj, observed.found), frozenset)


@settings(deadline=None)
@given(anything_seen())
def test_nothing_is_made_before_the_candidate_is_recorded_nor_after_the_end(observed: Any) -> None:
    decided = plan(observed, NOW)
    over = bool(observed.status.get("conditions"))
    assert not decided.apply or ("subjectDigest" in observed.status and not over)
    assert not decided.delete or over


@settings(deadline=None)
@given(anything_seen())
def test_a_verdict_is_always_about_the_recorded_digest(observed: Any) -> None:
    status = plan(observed, NOW).status
    for recorded in RECORDED:
        assert recorded not in observed.status or status[recorded] == observed.status[recorded]
    if "verdict" in status:
        assert status["models"][0]["digest"] == status["subjectDigest"] == digest("intents-v1")
        assert (status["verdict"] == "Passed") == all(g["outcome"] == "Passed" for g in status["gates"])
