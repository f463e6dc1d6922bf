"""The objects of an Evaluation's situations: candidates, incumbents, pods and what they tell.

RECORDED is what status holds from the moment that the candidate's artifact is known.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from tests.support.builders import as_stored, digest, evaluation, failed, fine_tune_job, model_deployment
from tests.unit.kinds.scenes import NOW, ago, artifact, ended, live, pod, seen, terminated, waiting

from anneal.api.runs import EvaluateData, RunResult
from anneal.kinds.contract import Object, Reference, Seen
from anneal.kinds.evaluation.plan import plan

Json = dict[str, Any]

ARTIFACT = artifact()
RECORDED: Json = {
    "startTime": ago(600),
    "subjectUri": ARTIFACT["uri"],
    "subjectDigest": ARTIFACT["digest"],
    "baseUri": ARTIFACT["baseUri"],
    "baseDigest": ARTIFACT["baseDigest"],
    "heldOutUri": ARTIFACT["heldOutUri"],
    "datasetDigest": ARTIFACT["heldOutDigest"],
}
ABSOLUTE = {"metric": "accuracy", "absolute": {"minLowerBound": "0.85"}}
SUPERIORITY = {"metric": "accuracy", "superiority": {"over": "base", "minEffect": "0.20"}}
MARGIN = {"metric": "accuracy", "nonInferiority": {"to": "base", "margin": "0.05"}}
PRICE = {"inputPerMillion": "1.25", "outputPerMillion": "10"}
HOSTED: Json = {"name": "gpt", "hosted": {"openAI": {"model": "gpt-5"}}}
INCUMBENT: Json = {"name": "champion", "incumbent": {"modelDeploymentRef": {"name": "intents"}}}


def judged_by(model: str) -> Json:
    """The changes of a spec whose only metric is judged by that model."""
    return {
        "metrics": [{"name": "accuracy", "judged": {}}],
        "judge": {"openAI": {"model": model}},
        "gates": [ABSOLUTE],
    }


SCORED: Json = {
    "metrics": [
        {"name": "accuracy", "exactMatch": {}},
        {
            "name": "tone",
            "plugin": {"image": "registry.test/tone:1", "args": ["--strict"], "memory": "2Gi", "timeoutSeconds": 60},
        },
    ]
}


def at_work(container: str, seconds: float) -> Json:
    """A pod of which that init container has run so long."""
    return pod(init=[{"name": container, "state": {"running": {"startedAt": ago(seconds)}}}])


REPORT = "pvc://models/intents-v1/evaluations/some-name"


def candidate(type_: str = "", message: str = "", published: Json | None = None, phase: str = "Training") -> Json:
    """The FineTuneJob, with that condition True."""
    ends = [{"type": type_, "status": "True", "reason": "Because", "message": message}] if type_ else []
    return as_stored(
        fine_tune_job(), phase=phase, conditions=ends, **({"artifact": published} if published is not None else {})
    )


DONE = candidate("Complete", published=ARTIFACT)
SERVING: Json = {
    "servingRevision": "2" * 8,
    "revisions": [
        {
            "name": name[1] * 8,
            "fineTuneJob": f"intents-{name}",
            "artifactUri": f"pvc://models/{name}/x",
            "digest": digest(name),
            "baseUri": "pvc://hub2/base",
            "baseDigest": digest("base"),
            "createdTime": ago(9000),
        }
        for name in ("r3", "r2")
    ],
}


def with_incumbent(status: Json | None, judge: str | None = None, **more: Any) -> Seen:
    """A finished candidate, an incumbent baseline, and the ModelDeployment with that status, if there is one."""
    spec = {"baselines": [INCUMBENT], "gates": [ABSOLUTE], **(judged_by(judge) if judge else {})}
    given = at({}, job=DONE, spec=spec, **more)
    deployment = None if status is None else as_stored(model_deployment(), **status)
    return replace(given, found={**given.found, Reference("ModelDeployment", "intents"): deployment})


def at(
    status: Json, *children: Object, job: Json | None = None, claims: Sequence[Any] = ("hub", "models"), **more: Any
) -> Seen:
    """An Evaluation with that in its status; `spec` and `progress` by name."""
    obj = as_stored(evaluation(**more.pop("spec", {})), generation=more.pop("generation", 1), **status)
    given = seen(obj, *children, claims=claims, **more)
    return replace(given, found={**given.found, Reference("FineTuneJob", "intents-v1"): job})


def running(*pods: Object, job_status: Json | None = None, status: Json = RECORDED, **more: Any) -> Seen:
    """The children exist, the Job has that status and these pods."""
    made = plan(at({**RECORDED, "startTime": ago(0)}, spec=more.get("spec", {})), NOW).apply
    children = [live(o, uid=f"uid-of-{o['kind'].lower()}", **(job_status or {})) for o in made]
    return at(status, *children, *pods, **more)


def server(*, restarts: int, code: int = 1, message: str = "") -> Json:
    """The server's sidecar after it ended like this, started again so often."""
    return {**waiting("CrashLoopBackOff", name="server"), "restartCount": restarts} | {
        "lastState": terminated(code, message)["state"]
    }


def told(**data: Any) -> str:
    """The termination message of an evaluator that came to an end, with `data` laid over what it found."""
    found: Json = {
        "models": [(150, 1, 1, 0, 0, 9000, 900, "", ""), (150, 0, 0, 0, 0, 9000, 900, "", "")],
        "results": [(0, 0, 149, "0.97", "0.93", "0.99"), (0, 1, 150, "0.01", "0.00", "0.03")],
        "comparisons": [(0, 1, 149, "0.96", "0.92", "0.99", "0.0001", "0.05")],
        "gates": [("Passed", "0.97", "0.93", "0.99", None), ("Passed", "0.96", "0.92", "0.99", None)],
        "report_uri": REPORT,
        "report_digest": digest("report"),
    }
    judged = EvaluateData.model_validate({**found, **data})
    return RunResult(role="evaluate", outcome="Succeeded", reason="Evaluated", evaluate=judged).model_dump_json(
        by_alias=True
    )


def succeeded(message: str, **more: Any) -> Seen:
    return running(
        pod("Succeeded", containers=[terminated(0, message, name="evaluate")]), job_status=ended("Complete"), **more
    )


NOTHING_TO_TELL = json.dumps({"role": "evaluate", "outcome": "Succeeded", "reason": "Fine", "message": "all is well"})
MISMATCH = "intents-v1 is not what was published: adapter_model.safetensors was changed"
REFUSED = pod(
    "Failed", init=[terminated(42, failed("serve", "DigestMismatch", MISMATCH), name="layout")], memory="512Mi"
)
KEY_MISSING = failed("evaluate", "KeyMissing", "Secret 'openai' does not exist", retryable=True)
LOAD_ERROR = failed("serve", "ModelLoadFailed", "Model base cannot be loaded: no such tensor")
