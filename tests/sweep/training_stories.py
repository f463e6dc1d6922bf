"""Stories of FineTuneJobs and Evaluations: what goes well, what goes wrong, and what people do meanwhile."""

from __future__ import annotations

from tests.support import builders as b
from tests.support.kubelet import Life
from tests.support.memory_api import MemoryApi
from tests.sweep.simulation import Story
from tests.sweep.telling import (
    absent,
    at_once,
    both,
    change,
    create,
    delete,
    ends,
    evict,
    nothing_runs,
    pod_runs,
    step,
    when,
)

from anneal.api.runs import ProgressReport
from anneal.kinds.children import child_name

JOB, EVALUATION = ("FineTuneJob", "intents-v1"), ("Evaluation", "intents-v1")
PLUGIN = [{"name": "accuracy", "exactMatch": {}}, {"name": "tone", "plugin": {"image": "tone:1"}}]
CLAIMS = (b.claim("hub"), b.claim("models"))
SEALED = {"uri": "pvc://vault/rows.jsonl", "digest": b.digest("sealed")}
IS_TRAINING = pod_runs("fit")
CHILDREN = ("Job", "Pod", "ConfigMap")


def child_of(owner: tuple[str, str], role: str) -> str:
    """Name of a child of the first object of that name: a function of its uid, like everything else of it."""
    uid = MemoryApi().put(b.fine_tune_job() if owner == JOB else b.evaluation())["metadata"]["uid"]
    return child_name(owner[1], role, uid)


OUT_OF_MEMORY = b.ends("", exit_code=137, reason="OOMKilled")
#: Its last report is of step 80, but its newest checkpoint is older.
REPORTING = Life(
    60.0,
    message=b.succeeded({"role": "fit"}, checkpointStep=50),
    reports=tuple(
        (seconds, ProgressReport(percent=step, step=step, total_steps=100, loss="0.5", checkpoint_step=step // 50 * 50))
        for seconds, step in ((5.0, 10), (30.0, 50), (48.0, 80))
    ),
)
TAKEN = {
    "apiVersion": "v1",
    "kind": "ConfigMap",
    "metadata": {"name": child_of(JOB, "prepare"), "namespace": b.NAMESPACE},
    "data": {"mine": "keep it"},
}

STORIES = (
    Story(
        "sealed rows judge a candidate once",
        (*CLAIMS, b.claim("vault"), b.trained(), b.evaluation(sealed=SEALED)),
        b.all_goes_well,
        (step(when(*EVALUATION, Complete=True), create(b.evaluation("again", "intents-v1", sealed=SEALED))),),
        both(
            ends(*EVALUATION, verdict="Passed", datasetUses=1),
            ends("Evaluation", "again", Failed=True, reason="SealedRowsUsed"),
        ),
    ),
    Story(
        "a chain is trained and passes",
        (*CLAIMS, b.fine_tune_job(), b.evaluation()),
        b.all_goes_well,
        seen=both(ends(*JOB, Complete=True, phase="Complete"), ends(*EVALUATION, Complete=True, verdict="Passed")),
    ),
    Story(
        "the data is the user's mistake",
        (*CLAIMS, b.fine_tune_job(), b.evaluation()),
        b.scripted(("prepare", 0, b.users_mistake("prepare", "InvalidRows", "line 17 is not JSON"))),
        seen=both(
            ends(*JOB, Failed=True, reason="InvalidRows", message="line 17 is not JSON"),
            ends(*EVALUATION, Failed=True, reason="CandidateFailed"),
        ),
    ),
    Story(
        "the model is too large for its pod",
        (*CLAIMS, b.fine_tune_job(resources={"memory": "512Mi"})),
        b.all_goes_well,
        seen=ends(*JOB, Failed=True, reason="DoesNotFit"),
    ),
    Story(
        "training is preempted twice and goes on",
        (*CLAIMS, b.fine_tune_job(backoffLimit=0)),
        b.scripted(("fit", 0, b.is_preempted(25)), ("fit", 1, b.is_preempted(75))),
        seen=ends(*JOB, Complete=True, usage={"preemptions": 2, "acceleratorSeconds": 0}),
    ),
    Story(
        "training tells how far it is",
        (*CLAIMS, b.fine_tune_job()),
        b.scripted(("fit", 0, REPORTING)),
        seen=ends(*JOB, Complete=True, checkpoint={"step": 50, "time": "2026-01-01T00:00:42Z"}),
        seen_late=ends(*JOB, Complete=True),
    ),
    Story(
        "training loses its node",
        (*CLAIMS, b.fine_tune_job(backoffLimit=0)),
        b.all_goes_well,
        (step(IS_TRAINING, evict("fit")),),
        ends(*JOB, Complete=True),
    ),
    Story(
        "training is suspended and resumed",
        (*CLAIMS, b.fine_tune_job()),
        b.all_goes_well,
        (
            step(IS_TRAINING, change(*JOB, suspend=True)),
            step(when(*JOB, Suspended=True), change(*JOB, suspend=False)),
        ),
        ends(*JOB, Complete=True, Suspended=False),
        seen_late=ends(*JOB, Complete=True),
    ),
    Story(
        "a job is suspended from the start and stays so",
        (*CLAIMS, b.fine_tune_job(suspend=True)),
        b.all_goes_well,
        seen=both(ends(*JOB, Suspended=True, phase="Suspended"), absent("Job", "Pod")),
    ),
    Story(
        "preparing is suspended and resumed",
        (*CLAIMS, b.fine_tune_job()),
        b.all_goes_well,
        (
            step(pod_runs("prepare"), change(*JOB, suspend=True)),
            step(when(*JOB, Suspended=True), change(*JOB, suspend=False)),
        ),
        ends(*JOB, Complete=True),
        seen_late=ends(*JOB, Complete=True),
    ),
    Story(
        "training takes longer than its deadline",
        (*CLAIMS, b.fine_tune_job(activeDeadlineSeconds=60)),
        b.all_goes_well,
        seen=both(ends(*JOB, Failed=True, reason="DeadlineExceeded"), nothing_runs),
        seen_late=both(ends(*JOB, Failed=True, reason="DeadlineExceeded"), nothing_runs),
    ),
    Story(
        "training runs out of memory once",
        (*CLAIMS, b.fine_tune_job()),
        b.scripted(("fit", 0, OUT_OF_MEMORY)),
        seen=ends(*JOB, Complete=True),
    ),
    Story(
        "training runs out of memory until its retries are used up",
        (*CLAIMS, b.fine_tune_job(backoffLimit=1)),
        b.scripted(("fit", 0, OUT_OF_MEMORY), ("fit", 1, OUT_OF_MEMORY)),
        seen=ends(*JOB, Failed=True, reason="OutOfMemory"),
    ),
    Story(
        "a pod ends without a readable result",
        (*CLAIMS, b.fine_tune_job()),
        b.scripted(("publish", 0, Life(5.0, message="Killed"))),
        seen=ends(*JOB, Failed=True, reason="ResultUnreadable"),
    ),
    Story(
        "a claim appears later",
        (b.claim("hub"), b.fine_tune_job()),
        b.all_goes_well,
        (step(when(*JOB, reason="ClaimNotFound"), create(b.claim("models"))),),
        ends(*JOB, Complete=True),
    ),
    Story(
        "a name is taken and given free",
        (*CLAIMS, TAKEN, b.fine_tune_job()),
        b.all_goes_well,
        (step(when(*JOB, reason="NameTaken"), delete("ConfigMap", TAKEN["metadata"]["name"])),),
        ends(*JOB, Complete=True, Stalled=False),
    ),
    Story(
        "a job is deleted while it trains",
        (*CLAIMS, b.fine_tune_job()),
        b.all_goes_well,
        (step(IS_TRAINING, delete(*JOB)),),
        absent("FineTuneJob", *CHILDREN),
    ),
    Story(
        "a job is deleted and made again under its name",
        (*CLAIMS, b.fine_tune_job()),
        b.all_goes_well,
        (step(IS_TRAINING, delete(*JOB)), step(at_once, create(b.fine_tune_job(training={"epochs": 3})))),
        ends(*JOB, Complete=True),
    ),
    Story(
        "children go when their time is over",
        (*CLAIMS, b.fine_tune_job(ttlSecondsAfterFinished=30), b.evaluation(ttlSecondsAfterFinished=100)),
        b.all_goes_well,
        seen=both(ends(*JOB, Complete=True), ends(*EVALUATION, Complete=True), absent(*CHILDREN)),
    ),
    Story(
        "the candidate comes after its evaluation",
        (*CLAIMS, b.evaluation()),
        b.all_goes_well,
        (step(when(*EVALUATION, reason="CandidateNotFound"), create(b.fine_tune_job())),),
        ends(*EVALUATION, Complete=True, verdict="Passed"),
    ),
    Story(
        "the candidate is deleted while it is judged",
        (*CLAIMS, b.fine_tune_job(), b.evaluation()),
        b.all_goes_well,
        (step(pod_runs("evaluate"), delete(*JOB)),),
        ends(*EVALUATION, Complete=True, verdict="Passed"),
    ),
    Story(
        "the evaluation fails the candidate",
        (*CLAIMS, b.fine_tune_job(), b.evaluation()),
        lambda a: b.judges(a, "Passed", "Failed"),
        seen=ends(*EVALUATION, Complete=True, verdict="Failed", reason="GatesFailed"),
    ),
    Story(
        "the evaluation cannot tell",
        (*CLAIMS, b.fine_tune_job(), b.evaluation()),
        lambda a: b.judges(a, "Inconclusive", "Passed"),
        seen=ends(*EVALUATION, Complete=True, verdict="Inconclusive"),
    ),
    Story(
        "the evaluator is the user's mistake",
        (*CLAIMS, b.fine_tune_job(), b.evaluation()),
        b.scripted(("evaluate", 0, b.users_mistake("evaluate", "TooManyErrors", "9 of 150 answers were cut off"))),
        seen=ends(*EVALUATION, Failed=True, reason="TooManyErrors"),
    ),
    Story(
        "a plugin scores the answers",
        (*CLAIMS, b.fine_tune_job(), b.evaluation(metrics=PLUGIN)),
        b.all_goes_well,
        seen=ends(*EVALUATION, Complete=True, verdict="Passed"),
    ),
    Story(
        "a plugin fails",
        (*CLAIMS, b.fine_tune_job(), b.evaluation(metrics=PLUGIN)),
        b.scripted(("evaluate", 0, Life(5.0, exit_code=3, message="KeyError: 'answer'", guest="plugin-tone"))),
        seen=ends(*EVALUATION, Failed=True, reason="PluginFailed"),
    ),
    Story(
        "the evaluation takes longer than its deadline",
        (*CLAIMS, b.fine_tune_job(), b.evaluation(activeDeadlineSeconds=20)),
        b.all_goes_well,
        seen=both(ends(*EVALUATION, Failed=True, reason="DeadlineExceeded"), nothing_runs),
        seen_late=nothing_runs,  # a verdict that came too late but before anybody looked counts
    ),
)
