"""Objects as their users write them, and pods' answers as the programs give them. Change what a test is about."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from tests.support.kubelet import Attempt, Life, Script

from anneal.api import API_VERSION
from anneal.api.runs import EXIT_PREEMPTED, EXIT_USER_MISTAKE, RunResult, encode_result

NAMESPACE = "team"
Json = dict[str, Any]


def digest(text: object) -> str:
    """A digest that is a function of `text`."""
    return "sha256:" + hashlib.sha256(str(text).encode()).hexdigest()


def merged(base: Mapping[str, Any], change: Mapping[str, Any]) -> Json:
    """`base` with `change` laid over it, deeply; None removes a member."""
    result = dict(base)
    for member, value in change.items():
        if value is None:
            result.pop(member, None)
        elif isinstance(value, Mapping) and isinstance(result.get(member), Mapping):
            result[member] = merged(result[member], value)
        else:
            result[member] = value
    return result


def custom(kind: str, name: str, spec: Mapping[str, Any], labels: Mapping[str, str] | None = None) -> Json:
    metadata: Json = {"name": name, "namespace": NAMESPACE}
    if labels:
        metadata["labels"] = dict(labels)
    return {"apiVersion": API_VERSION, "kind": kind, "metadata": metadata, "spec": dict(spec)}


def fine_tune_job(name: str = "intents-v1", labels: Mapping[str, str] | None = None, **spec: Any) -> Json:
    """The FineTuneJob of the README; `spec` is laid over it."""
    base = {
        "model": {"uri": "pvc://hub/base"},
        "dataset": {"sources": [{"uri": "pvc://hub/intents.jsonl"}], "split": {"heldOut": 150, "seed": 42}},
        "lora": {"rank": 16, "alpha": 32},
        "training": {"epochs": 2, "learningRate": "1e-3", "tokensPerStep": 1024, "maxLength": 256},
        "resources": {"cpu": "500m", "memory": "2Gi"},
        "output": {"uri": f"pvc://models/{name}"},
    }
    return custom("FineTuneJob", name, merged(base, spec), labels)


def evaluation(
    name: str = "intents-v1", job: str | None = None, labels: Mapping[str, str] | None = None, **spec: Any
) -> Json:
    """The Evaluation of the README, of the FineTuneJob `job` (default: of the same name)."""
    base = {
        "candidate": {"fineTuneJobRef": {"name": job or name}},
        "baselines": [{"name": "base", "fromCandidate": {}}],
        "serving": {"triton": {}},
        "metrics": [{"name": "accuracy", "exactMatch": {}}],
        "gates": [
            {"metric": "accuracy", "absolute": {"minLowerBound": "0.85"}},
            {"metric": "accuracy", "superiority": {"over": "base", "minEffect": "0.20"}},
        ],
    }
    return custom("Evaluation", name, merged(base, spec), labels)


def model_deployment(name: str = "intents", job: str = "intents-v1", **spec: Any) -> Json:
    """The ModelDeployment of the README, of the FineTuneJob `job`, on any Evaluation of the same digest."""
    base = {"model": {"fineTuneJobRef": {"name": job}}, "triton": {}, "replicas": 1}
    return custom("ModelDeployment", name, merged(base, spec))


def trained(name: str = "intents-v1", completed: str = "2025-12-31T10:00:00Z", **more: Any) -> Json:
    """A FineTuneJob that has completed; its artifact is a function of its name."""
    folder = f"pvc://models/{name}/{digest(name).removeprefix('sha256:')[:16]}"
    artifact = {
        "uri": folder,
        "digest": digest(name),
        "contents": "Adapter",
        "baseUri": "pvc://hub/base",
        "baseDigest": digest("base"),
        "chatTemplateHash": digest("template"),
        "sizeBytes": 10_000_000,
        "heldOutUri": f"{folder}/evaluation/held-out.jsonl",
        "heldOutDigest": digest("held out"),
        "heldOutCount": 150,
    }
    return {**fine_tune_job(name, **more), "status": _ended(completed, "Completed", artifact=artifact)}


def judged(name: str = "intents-v1", verdict: str = "Passed", completed: str = "2025-12-31T11:00:00Z") -> Json:
    """An Evaluation, with a verdict, of the FineTuneJob of the same name."""
    subject = {"verdict": verdict, "subjectDigest": digest(name)}
    return {**evaluation(name), "status": _ended(completed, f"Gates{verdict}", **subject)}


def _ended(completed: str, reason: str, **more: Any) -> Json:
    condition = {"type": "Complete", "status": "True", "reason": reason, "message": "", "observedGeneration": 1}
    status = {"observedGeneration": 1, "phase": "Complete", "reason": reason, "completionTime": completed}
    return {**status, "conditions": [{**condition, "lastTransitionTime": completed}], **more}


def claim(name: str) -> Json:
    """A claim of the user's own."""
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": name, "namespace": NAMESPACE},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "10Gi"}}},
    }


def as_stored(obj: Mapping[str, Any], uid: str = "uid-00001", generation: int = 1, **status: Any) -> Json:
    """The object as the API server returns it, for tests of plans."""
    metadata = {
        "uid": uid,
        "generation": generation,
        "creationTimestamp": "2026-01-01T00:00:00Z",
        "resourceVersion": "1",
        **obj["metadata"],
    }
    return {**obj, "metadata": metadata, **({"status": status} if status else {})}


# What the programs in the pods answer


def _message(**result: Any) -> str:
    return encode_result(RunResult.model_validate(result)).decode()


def succeeded(run: Mapping[str, Any], **more: Any) -> str:
    """What a pod answers when all went well, as a function of what it was told; `more` is laid over its data."""
    role = run["role"]
    data = {**_DATA[role](run), **more}
    return _message(role=role, outcome="Succeeded", reason="Succeeded", message="", **{role: data})


def failed(
    role: str, reason: str, message: str, *, retryable: bool = False, data: Mapping[str, Any] | None = None
) -> str:
    return _message(
        role=role,
        outcome="Failed",
        reason=reason,
        message=message,
        retryable=retryable,
        **({role: data} if data else {}),
    )


def preempted(step: int = 50) -> str:
    """What fit answers when it was told to go: it saved its state at `step`."""
    fit = {"training": {"steps": step, "loss": "0.9", "tokens": step * 1000, "seconds": step}, "checkpointStep": step}
    return _message(
        role="fit",
        outcome="Preempted",
        reason="Preempted",
        message=f"preempted at step {step}",
        retryable=True,
        fit=fit,
    )


def evaluated(run: Mapping[str, Any], *outcomes: str) -> str:
    """What the evaluator answers: one outcome per gate, the last one for all that follow."""
    gates = [outcomes[min(n, len(outcomes) - 1)] for n in range(len(run["gates"]))]
    bounds = {"Passed": ("0.97", "0.93", "0.99"), "Failed": ("0.10", "0.06", "0.15")}
    return _message(
        role="evaluate",
        outcome="Succeeded",
        reason="Succeeded",
        evaluate={
            "models": [(150, 0, 0, 0, 0, 9000, 900, "", "") for _ in run["models"]],
            "results": [(m, i, 150, "0.97", "0.93", "0.99") for m in range(len(run["metrics"])) for i in (0,)],
            "comparisons": [
                (m, i + 1, 150, "0.90", "0.85", "0.94", "0.001", "0.05")
                for m in range(len(run["metrics"]))
                for i in range(len(run["baselines"]))
            ],
            "gates": [
                (g, *bounds.get(g, ("0.86", "0.80", "0.91")), 430 if g == "Inconclusive" else None) for g in gates
            ],
            "report_uri": run["report"]["uri"],
            "report_digest": digest(json.dumps(run, sort_keys=True)),
        },
    )


#: SmolLM2-135M and short rows, as prepare sizes them.
SIZES: Json = {
    "model": {
        "family": "llama",
        "parameters": 134_515_008,
        "embeddingParameters": 28_311_552,
        "headParameters": 0,
        "vocabulary": 49_152,
        "hidden": 576,
        "layers": 30,
        "heads": 9,
        "queryWidth": 576,
        "keyWidth": 192,
        "valueWidth": 192,
        "outputWidth": 576,
        "intermediate": 1536,
        "linears": [
            ("down_proj", 1536, 576, 30),
            ("gate_proj", 576, 1536, 30),
            ("k_proj", 576, 192, 30),
            ("o_proj", 576, 576, 30),
            ("q_proj", 576, 576, 30),
            ("up_proj", 576, 1536, 30),
            ("v_proj", 576, 192, 30),
        ],
    },
    "rows": {"tokens": 60_000, "answerTokens": 12_000, "longest": 120, "squares": 3_600_000},
}


def _prepared(run: Mapping[str, Any]) -> Json:
    counts = {"read": 1350, "invalid": 0, "train": 1200, "heldOut": 150, "trainTokens": 60_000}
    return {
        "resolved": {"model": digest(run["model"]["uri"]), "sources": [digest(s["uri"]) for s in run["sources"]]},
        "model": {"digest": digest(run["model"]["uri"]), "chatTemplateHash": digest("template")},
        "dataset": {"digest": digest(run["sources"]), "testDigest": digest(run["split"]), "counts": counts},
        "sizes": SIZES,
    }


def _fitted(run: Mapping[str, Any]) -> Json:
    del run
    return {"training": {"steps": 100, "loss": "0.12", "tokens": 120_000, "seconds": 120}, "checkpointStep": 100}


def _published(run: Mapping[str, Any]) -> Json:
    found = digest((run["baseDigest"], run["testDigest"], run["output"]["uri"], run["trained"]["steps"]))
    folder = f"{run['output']['uri'].rstrip('/')}/{found.removeprefix('sha256:')[:16]}"
    return {
        "uri": folder,
        "digest": found,
        "sizeBytes": 10_000_000,
        "heldOutUri": f"{folder}/evaluation/held-out.jsonl",
        "heldOutCount": 150,
    }


def _evaluated(run: Mapping[str, Any]) -> Json:
    answer: Json = json.loads(evaluated(run, "Passed"))["evaluate"]
    return answer


_DATA = {"prepare": _prepared, "fit": _fitted, "publish": _published, "evaluate": _evaluated}
#: How long each role runs, in seconds.
SECONDS = {"prepare": 10.0, "fit": 120.0, "publish": 5.0, "evaluate": 30.0}


def all_goes_well(attempt: Attempt) -> Life:
    """The script in which every pod does what it is for."""
    role = attempt.run["role"]
    if role == "serve":
        return Life(ready_after=5.0)
    if role == "fit":
        return Life(SECONDS[role], message=succeeded(attempt.run, resumes=attempt.number), on_term=preempted())
    return Life(SECONDS[role], message=succeeded(attempt.run))


def ends(message: str, exit_code: int = 1, seconds: float = 5.0, reason: str = "") -> Life:
    """A pod that ends like this."""
    return Life(seconds, exit_code=exit_code, message=message, reason=reason)


def users_mistake(role: str, reason: str, message: str) -> Life:
    """A pod that finds something that only the user can put right."""
    return ends(failed(role, reason, message), EXIT_USER_MISTAKE)


def is_preempted(step: int = 50, seconds: float = 20.0) -> Life:
    """A fit pod that is told to go by its node, and saves its state."""
    return ends(preempted(step), EXIT_PREEMPTED, seconds)


def scripted(*answers: tuple[str, int, Life]) -> Script:
    """The script in which all goes well but for these (role, attempt, life)."""
    lives = {(role, number): life for role, number, life in answers}
    return lambda attempt: lives.get((attempt.run["role"], attempt.number)) or all_goes_well(attempt)


def judges(attempt: Attempt, *outcomes: str) -> Life:
    """The script in which all goes well and the evaluator finds these outcomes, one per gate."""
    if attempt.run["role"] != "evaluate":
        return all_goes_well(attempt)
    return Life(SECONDS["evaluate"], message=evaluated(attempt.run, *outcomes))
