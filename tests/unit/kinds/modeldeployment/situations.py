"""One way into every situation of a ModelDeployment, by the reason that tells of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.support.builders import as_stored, digest, evaluation, fine_tune_job, merged
from tests.unit.kinds.modeldeployment.stage import Json, Stage, judged, stage, trained, true

from anneal.kinds.modeldeployment.reasons import Reason

SELECTOR: dict[str, Any] = {"selector": {"matchLabels": {"app": "intents"}}, "fineTuneJobRef": None}
REF: dict[str, Any] = {"evaluationRef": {"name": "intents-v1"}}


def settled(made: Stage) -> Stage:
    made.settle()
    return made


def serving(made: Stage) -> Stage:
    made.serve()
    return made


def foreign_service(name: str = "intents") -> Json:
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "namespace": "team", "uid": "theirs"}}


def _invalid() -> Stage:
    made = serving(stage())
    made.edit(triton=None)
    return settled(made)


def _unknown_pin() -> Stage:
    made = serving(stage())
    made.edit(revision="0123abcd")
    return settled(made)


def _without_claims() -> Stage:
    made = stage()
    made.remove("PersistentVolumeClaim")
    return settled(made)


def _switching() -> Stage:
    made = settled(stage())
    made.pods_answer(made.revisions[0])
    made.step()
    return made


def _recorded() -> Stage:
    made = stage()
    made.step()
    return made


def _given_up() -> Stage:
    made = settled(stage())
    made.wait(600)
    return settled(made)


def _draining() -> Stage:
    made = serving(stage())
    made.replace(trained("intents-v2"), judged("intents-v2"))
    made.edit(model={"fineTuneJobRef": {"name": "intents-v2"}})
    made.settle()
    made.pods_answer(made.status["targetRevision"])
    return settled(made)


def _scaled(replicas: int) -> Stage:
    made = serving(stage())
    made.edit(replicas=replicas)
    made.settle()
    if replicas == 0:
        made.pods_answer(made.revisions[0])
    return settled(made)


def _silent() -> Stage:
    made = serving(stage())
    made.pods_answer(made.revisions[0], ready=0)
    return settled(made)


def job(*conditions: Json, **status: Any) -> Json:
    return as_stored(fine_tune_job(labels={"app": "intents"}), conditions=list(conditions), **status)


def unjudged(*conditions: Json, **status: Any) -> Json:
    return as_stored(evaluation(), conditions=list(conditions), **status)


SITUATIONS: dict[Reason, Callable[[], Stage]] = {
    Reason.INVALID_SPEC: _invalid,
    Reason.NAME_TAKEN: lambda: settled(stage(trained(), judged(), foreign_service())),
    Reason.REVISION_NOT_FOUND: _unknown_pin,
    Reason.FINE_TUNE_JOB_NOT_FOUND: lambda: settled(stage(judged())),
    Reason.FINE_TUNE_JOB_NOT_FINISHED: lambda: settled(stage(job(phase="Training"), judged())),
    Reason.FINE_TUNE_JOB_FAILED: lambda: settled(stage(job(true("Failed", "line 17: not JSON")))),
    Reason.NOTHING_SELECTED: lambda: settled(stage(job(phase="Training"), model=SELECTOR)),
    Reason.CLAIM_NOT_FOUND: _without_claims,
    Reason.EVALUATION_PASSED: lambda: settled(stage()),
    Reason.GATE_SKIPPED: lambda: settled(stage(trained(), gate={"skip": True})),
    Reason.EVALUATION_NOT_FOUND: lambda: settled(stage(trained(), gate=REF)),
    Reason.EVALUATION_NOT_FINISHED: lambda: settled(stage(trained(), unjudged(), gate=REF)),
    Reason.EVALUATION_FAILED: lambda: settled(
        stage(trained(), unjudged(true("Failed", "the server did not stay up"), subjectDigest=digest("intents-v1")))
    ),
    Reason.AWAITING_APPROVAL: lambda: settled(
        stage(trained(), merged(judged(), {"spec": {"policy": {"approval": "Required"}}}))
    ),
    Reason.EVALUATION_TOO_OLD: lambda: settled(stage(trained(), judged(age=1800), gate={"maxAgeSeconds": 1799})),
    Reason.VERDICT_FAILED: lambda: settled(stage(trained(), judged(verdict="Failed"))),
    Reason.VERDICT_INCONCLUSIVE: lambda: settled(stage(trained(), judged(verdict="Inconclusive"))),
    Reason.DIGEST_MISMATCH: lambda: settled(stage(trained(), judged("intents-v0", name="intents-v1"), gate=REF)),
    Reason.REVISION_RECORDED: _recorded,
    Reason.ROLLING_OUT: lambda: settled(stage()),
    Reason.REVISION_NOT_READY: _given_up,
    Reason.SWITCHING: _switching,
    Reason.DRAINING: _draining,
    Reason.SCALED_TO_ZERO: lambda: _scaled(0),
    Reason.SCALING: lambda: _scaled(2),
    Reason.NOT_ANSWERING: _silent,
    Reason.SERVING: lambda: serving(stage()),
}
