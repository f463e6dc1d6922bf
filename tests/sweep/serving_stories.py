"""Stories of ModelDeployments: what may be served, how one revision follows another, and what goes wrong meanwhile."""

from __future__ import annotations

from typing import Any

from tests.support import builders as b
from tests.support.kubelet import Attempt, Life
from tests.support.world import World
from tests.sweep.simulation import Story
from tests.sweep.telling import absent, annotate, both, change, create, delete, ends, find, pod_runs, step, when

from anneal.api.runs import EXIT_USER_MISTAKE

DEPLOYMENT = ("ModelDeployment", "intents")
CLAIMS = (b.claim("hub"), b.claim("models"))
FIRST = (*CLAIMS, b.trained("intents-v1"), b.judged("intents-v1"))
SECOND = (b.trained("intents-v2", "2025-12-31T12:00:00Z"), b.judged("intents-v2"))
CHILDREN = ("Deployment", "Service", "ConfigMap", "Pod")
LABELLED = {"app": "intents"}
SELECTING = {"fineTuneJobRef": None, "selector": {"matchLabels": LABELLED}}
SERVES = when(*DEPLOYMENT, phase="Ready", reason="Serving")
EVALUATION = ("Evaluation", "intents-v1")
APPROVE = annotate(*EVALUATION, approved_digest=b.digest("intents-v1"), approved_by="anna")
USE_SECOND = change(*DEPLOYMENT, model={"fineTuneJobRef": {"name": "intents-v2"}})


def labelled(*objects: Any) -> tuple[Any, ...]:
    return tuple({**o, "metadata": {**o["metadata"], "labels": LABELLED}} for o in objects)


def serves(job: str, **status: Any) -> Any:
    """The artifact of that FineTuneJob serves, and its pods are the only ones."""

    def check(world: World) -> None:
        obj = find(world, *DEPLOYMENT)
        seen = obj["status"]
        assert seen["digest"] == b.digest(job), seen
        assert seen["readyReplicas"] == seen["replicas"] == obj["spec"]["replicas"], seen
        pods = {p["metadata"]["labels"]["anneal.dev/revision"] for p in world.api.all("Pod")}
        assert pods <= {seen["servingRevision"]}, f"pods of other revisions: {pods}"
        service = find(world, "Service", "intents")
        assert service["spec"]["selector"]["anneal.dev/revision"] == seen["servingRevision"]

    return both(check, ends(*DEPLOYMENT, **status))


def serves_with(runtime: str, ports: list[str]) -> Any:
    """That runtime serves, and clients find its ports."""

    def check(world: World) -> None:
        newest = find(world, *DEPLOYMENT)["status"]["revisions"][0]
        assert newest["runtime"] == runtime, newest
        assert [p["name"] for p in find(world, "Service", "intents")["spec"]["ports"]] == ports

    return check


def is_served(job: str) -> Any:
    """Once traffic goes to the artifact of that FineTuneJob and nothing else runs any more."""
    return lambda world: SERVES(world) and find(world, *DEPLOYMENT)["status"]["digest"] == b.digest(job)


def second(life: Life) -> Any:
    """The script in which pods of the second model live like this."""

    def script(attempt: Attempt) -> Life:
        models = attempt.run.get("models", [])
        is_second = any("intents-v2" in m.get("adapter", {}).get("uri", "") for m in models if isinstance(m, dict))
        return life if is_second else b.all_goes_well(attempt)

    return script


def pin_the_oldest(world: World) -> None:
    """A user rolls back, by the name that status tells."""
    oldest = find(world, *DEPLOYMENT)["status"]["revisions"][-1]["name"]
    change(*DEPLOYMENT, revision=oldest)(world)


STORIES = (
    Story(
        "a whole chain, from data to a served model",
        (*CLAIMS, b.fine_tune_job(), b.evaluation(), b.model_deployment()),
        b.all_goes_well,
        seen=ends(*DEPLOYMENT, Ready=True, GatePassed=True, phase="Ready", gate="Passed", readyReplicas=1),
    ),
    Story(
        "a model that failed its evaluation is refused",
        (*CLAIMS, b.trained(), b.judged(verdict="Failed"), b.model_deployment()),
        b.all_goes_well,
        seen=both(ends(*DEPLOYMENT, GatePassed=False, gate="Refused"), absent("Deployment", "Pod")),
    ),
    Story(
        "a model that nobody judged waits, then passes",
        (*CLAIMS, b.trained(), b.model_deployment()),
        b.all_goes_well,
        (step(when(*DEPLOYMENT, gate="Waiting"), create(b.judged())),),
        serves("intents-v1", Ready=True, gate="Passed"),
    ),
    Story(
        "what an evaluation could not decide is served once a person approves",
        (*CLAIMS, b.trained(), b.evaluation(policy={"approval": "WhenInconclusive"}), b.model_deployment()),
        lambda attempt: b.judges(attempt, "Inconclusive"),
        (
            step(when(*DEPLOYMENT, reason="AwaitingApproval"), APPROVE),
            step(when(*DEPLOYMENT, gate="Passed"), annotate(*EVALUATION, approved_digest="", approved_by="")),
        ),
        both(
            ends(*DEPLOYMENT, Ready=True, gate="Passed", digest=b.digest("intents-v1")),
            ends(*EVALUATION, Approved=True, verdict="Inconclusive"),
        ),
    ),
    Story(
        "a model is served without proof, in the open",
        (*CLAIMS, b.trained(), b.model_deployment(gate={"skip": True})),
        b.all_goes_well,
        seen=serves("intents-v1", Ready=True, gate="Skipped"),
    ),
    Story(
        "a second model follows the first",
        (*FIRST, *SECOND, b.model_deployment(replicas=2)),
        b.all_goes_well,
        (step(SERVES, USE_SECOND),),
        serves("intents-v2", Ready=True),
    ),
    Story(
        "the newest that passed is promoted by itself",
        (*CLAIMS, *labelled(*FIRST[2:]), b.model_deployment(model=SELECTING)),
        b.all_goes_well,
        (
            step(is_served("intents-v1"), create(*labelled(b.trained("intents-v2", "2025-12-31T12:00:00Z")))),
            step(is_served("intents-v1"), create(b.judged("intents-v2"))),
        ),
        serves("intents-v2", Ready=True),
    ),
    Story(
        "a second model never answers and the first keeps serving",
        (*FIRST, *SECOND, b.model_deployment(progressDeadlineSeconds=120)),
        second(Life()),
        (step(SERVES, USE_SECOND),),
        serves("intents-v1", Ready=True, phase="Degraded", reason="RevisionNotReady"),
    ),
    Story(
        "a second model was changed on disk and the first keeps serving",
        (*FIRST, *SECOND, b.model_deployment()),
        second(Life(exit_code=EXIT_USER_MISTAKE, message="adapter_model.safetensors was changed", in_init=True)),
        (step(SERVES, USE_SECOND),),
        serves("intents-v1", Ready=True, phase="Degraded", reason="RevisionNotReady"),
    ),
    Story(
        "the first model never answers",
        (*FIRST, b.model_deployment(progressDeadlineSeconds=60)),
        lambda attempt: Life(waiting="CrashLoopBackOff: back-off restarting failed container"),
        seen=ends(*DEPLOYMENT, Ready=False, phase="Failed", reason="RevisionNotReady"),
    ),
    Story(
        "a user rolls back by naming a revision, and forward again",
        (*FIRST, *SECOND, b.model_deployment()),
        b.all_goes_well,
        (
            step(is_served("intents-v1"), USE_SECOND),
            step(is_served("intents-v2"), pin_the_oldest),
            step(is_served("intents-v1"), change(*DEPLOYMENT, revision=None)),
        ),
        serves("intents-v2", Ready=True),
    ),
    Story(
        "a deployment is scaled up, to nothing, and up again",
        (*FIRST, b.model_deployment()),
        b.all_goes_well,
        (
            step(SERVES, change(*DEPLOYMENT, replicas=3)),
            step(when(*DEPLOYMENT, readyReplicas=3, reason="Serving"), change(*DEPLOYMENT, replicas=0)),
            step(when(*DEPLOYMENT, reason="ScaledToZero"), change(*DEPLOYMENT, replicas=2)),
        ),
        serves("intents-v1", Ready=True, readyReplicas=2),
    ),
    Story(
        "settings are changed while the first pods start",
        (*FIRST, b.model_deployment()),
        b.all_goes_well,
        (step(pod_runs("rev"), change(*DEPLOYMENT, resources={"memory": "6Gi"})),),
        serves("intents-v1", Ready=True),
        serves("intents-v1", Ready=True),
    ),
    Story(
        "the same model moves to another runtime",
        (*FIRST, b.model_deployment()),
        b.all_goes_well,
        (step(SERVES, change(*DEPLOYMENT, triton=None, vllm={"cacheMemory": "2Gi"})),),
        both(serves("intents-v1", Ready=True), serves_with("vllm", ["http"])),
    ),
    Story(
        "vLLM judges and vLLM serves",
        (
            *CLAIMS,
            b.fine_tune_job(),
            b.evaluation(serving={"triton": None, "vllm": {}}),
            b.model_deployment(triton=None, vllm={}),
        ),
        b.all_goes_well,
        seen=both(ends(*DEPLOYMENT, Ready=True, gate="Passed", readyReplicas=1), serves_with("vllm", ["http"])),
    ),
    Story(
        "a deployment is deleted while it rolls over",
        (*FIRST, *SECOND, b.model_deployment()),
        b.all_goes_well,
        (
            step(SERVES, USE_SECOND),
            step(when(*DEPLOYMENT, phase="Progressing"), delete(*DEPLOYMENT)),
        ),
        absent("ModelDeployment", *CHILDREN),
        absent("ModelDeployment", *CHILDREN),
    ),
    Story(
        "what was served stays when its job and its evaluation are deleted",
        (*FIRST, b.model_deployment()),
        b.all_goes_well,
        (
            step(SERVES, delete("Evaluation", "intents-v1")),
            step(SERVES, delete("FineTuneJob", "intents-v1")),
        ),
        serves("intents-v1", Ready=True),
    ),
)
