"""What holds whatever happens, in whatever order: traffic is safe, and nothing runs ahead of what is recorded."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.builders import failed
from tests.unit.kinds.modeldeployment.stage import Stage, judged, stage, trained, with_images
from tests.unit.kinds.scenes import terminated, waiting

from anneal.api.modeldeployment import ModelDeployment
from anneal.kinds.contract import Plan, Seen

VERSIONS = ["v1", "v2", "v3"]
Action = Callable[[Stage], None]


def follow(version: str) -> Action:
    return lambda s: s.edit(model={"fineTuneJobRef": {"name": version}})


def judge(version: str, verdict: str) -> Action:
    return lambda s: s.replace(judged(version, verdict))


def edit(**spec: Any) -> Action:
    return lambda s: s.edit(**spec)


def each_deployment(do: Callable[[Stage, str], None]) -> Action:
    def act(s: Stage) -> None:
        for (kind, _), child in list(s.children.items()):
            if kind == "Deployment":
                do(s, child["metadata"]["labels"]["anneal.dev/revision"])

    return act


def crash(code: int) -> Callable[[Stage, str], None]:
    said = failed("serve", "ModelLoadFailed", "no such tensor")
    last = terminated(code, said)["state"]
    status = {**waiting("CrashLoopBackOff", name="server"), "lastState": last, "restartCount": 3}
    return lambda s, revision: s.pod(revision, f"pod-of-{revision}", containers=[status])


def pin(place: int) -> Action:
    def act(s: Stage) -> None:
        known = [r["name"] for r in s.obj.get("status", {}).get("revisions", [])]
        s.edit(revision=known[place % len(known)] if known else "0123abcd")

    return act


def lose(kind: str) -> Action:
    def act(s: Stage) -> None:
        for key in [k for k in s.children if k[0] == kind]:
            del s.children[key]

    return act


def upgrade(image: str) -> Action:
    def act(s: Stage) -> None:
        s.facts = with_images(image)

    return act


ACTIONS: dict[str, Action] = {
    **{f"follow {v}": follow(v) for v in VERSIONS},
    **{f"judge {v} {verdict}": judge(v, verdict) for v in VERSIONS for verdict in ("Passed", "Failed")},
    **{f"train {v}": (lambda s, v=v: s.replace(trained(v))) for v in VERSIONS},
    "jobs are deleted": lambda s: s.remove("FineTuneJob"),
    "evaluations are deleted": lambda s: s.remove("Evaluation"),
    "follow labels": edit(model={"selector": {"matchLabels": {"app": "intents"}}}),
    "skip the gate": edit(gate={"skip": True}),
    "heed the gate": edit(gate={}),
    "ask for young proofs": edit(gate={"maxAgeSeconds": 60}),
    "scale to 0": edit(replicas=0),
    "scale to 2": edit(replicas=2),
    "more memory": edit(resources={"memory": "8Gi"}),
    "keep no history": edit(revisionHistoryLimit=0),
    "break the spec": edit(triton=None, vllm=None),
    "mend the spec": edit(triton={}, vllm=None),
    "take the other runtime": edit(triton=None, vllm={}),
    "pin the newest": pin(0),
    "pin another": pin(1),
    "unpin": edit(revision=None),
    "all pods answer": each_deployment(lambda s, revision: s.pods_answer(revision)),
    "no pod answers": each_deployment(lambda s, revision: s.pods_answer(revision, ready=0)),
    "pods crash": each_deployment(crash(1)),
    "a digest is wrong": each_deployment(crash(42)),
    "pods go": lose("Pod"),
    "deployments are deleted": lose("Deployment"),
    "services are deleted": lose("Service"),
    "half a minute passes": lambda s: s.wait(31),
    "the deadline passes": lambda s: s.wait(601),
    "upgrade": upgrade("triton:2"),
}
histories = st.lists(st.sampled_from(sorted(ACTIONS)), max_size=25)


def act_out(history: list[str], check: Callable[[Seen, Plan], None]) -> Stage:
    """The history, with up to two passes after each event, each of them checked."""
    s = stage(trained("v1"), judged("v1"), trained("v2"), model={"fineTuneJobRef": {"name": "v1"}})
    for name in history:
        ACTIONS[name](s)
        for _ in range(2):
            seen = s.seen()
            check(seen, s.step())
    return s


def revision_in(obj: Any) -> str:
    return str(obj["metadata"]["labels"]["anneal.dev/revision"])


def traffic(objects: Any) -> str | None:
    stable = (o for o in objects if o["kind"] == "Service" and o["metadata"]["name"] == "intents")
    return next((o["spec"]["selector"]["anneal.dev/revision"] for o in stable), None)


def traffic_is_safe(seen: Seen, decided: Plan) -> None:
    """It moves only to a revision all of whose pods answer, and what it goes to keeps its pods."""
    before, after = traffic(seen.children), traffic(decided.apply)
    wanted = seen.obj["spec"]["replicas"]
    if after is not None and after != (before or seen.status.get("servingRevision")):
        [deployment] = [c for c in seen.of_kind("Deployment") if revision_in(c) == after]
        assert deployment["status"].get("readyReplicas", 0) >= wanted
    for manifest in decided.apply:
        if manifest["kind"] == "Deployment" and revision_in(manifest) in (before, after):
            assert manifest["spec"]["replicas"] == wanted
    assert not any(before is not None and d.name.endswith(before) for d in decided.delete)


def nothing_runs_ahead(seen: Seen, decided: Plan) -> None:
    """Only what is recorded is made, only what is not recorded any more is deleted, and never what is made."""
    recorded = {r["name"] for r in seen.status.get("revisions", [])}
    revisions = [o for o in decided.apply if o["metadata"]["name"] != "intents"]
    assert {revision_in(o) for o in revisions} <= recorded
    assert not any(d.name.endswith(tuple(recorded)) for d in decided.delete if recorded)
    made = {(o["kind"], o["metadata"]["name"]) for o in decided.apply}
    assert not made & {(d.kind, d.name) for d in decided.delete}


def status_is_valid(seen: Seen, decided: Plan) -> None:
    parsed = ModelDeployment.model_validate({"spec": stage().obj["spec"], "status": decided.status}).status
    assert parsed is not None
    assert parsed.observed_generation == seen.generation
    assert decided.requeue_after is None or decided.requeue_after > 0
    names = [r.name for r in parsed.revisions]
    assert len(names) == len(set(names))


def every_proof_is_recorded(seen: Seen, decided: Plan) -> None:
    """A revision comes in with an Evaluation that passed its digest, or while the spec skips the gate."""
    before = {r["name"] for r in seen.status.get("revisions", [])}
    passed = {
        e["status"]["subjectDigest"]
        for found in seen.found.values()
        for e in (found if isinstance(found, tuple) else [found])
        if e is not None and e["kind"] == "Evaluation" and e["status"]["verdict"] == "Passed"
    }
    trusted = {r["digest"] for r in seen.status.get("revisions", []) if "evaluation" in r}
    for revision in decided.status.get("revisions", []):
        if revision["name"] not in before and not seen.obj["spec"].get("gate", {}).get("skip"):
            assert "evaluation" in revision
            assert revision["digest"] in passed | trusted


CHECKS = (traffic_is_safe, nothing_runs_ahead, status_is_valid, every_proof_is_recorded)


@settings(deadline=None)
@given(histories)
def test_every_pass_is_safe(history: list[str]) -> None:
    def check(seen: Seen, decided: Plan) -> None:
        for holds in CHECKS:
            holds(seen, decided)

    act_out(history, check)


@settings(deadline=None, max_examples=40)
@given(histories)
def test_it_always_comes_to_rest(history: list[str]) -> None:
    s = act_out(history, lambda seen, decided: None)
    for _ in range(3):
        s.settle()
        s.wait(1000)
    assert s.settle().requeue_after is None


@settings(deadline=None, max_examples=40)
@given(histories)
def test_a_mended_world_serves_the_artifact_that_is_wanted(history: list[str]) -> None:
    """No history leads into a corner: once everything is there and answers, the wanted digest serves."""
    s = act_out(history, lambda seen, decided: None)
    s.facts = with_images("triton:3")
    s.replace(trained("v9"), judged("v9", age=0))
    s.edit(triton={}, vllm=None, revision=None, replicas=1, gate={}, model={"fineTuneJobRef": {"name": "v9"}})
    lose("Pod")(s)
    for _ in range(6):
        s.settle()
        ACTIONS["all pods answer"](s)
        s.wait(31)
    s.settle()
    assert s.status["reason"] == "Serving", s.status["message"]
    assert s.status["digest"] == trained("v9")["status"]["artifact"]["digest"]
