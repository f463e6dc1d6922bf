"""Situations of a FineTuneJob, each with what should be said and done in it.

Read it as a table. What is recorded in status is one of START, PREPARED, TRAINED and PUBLISHED, in the order of a life.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from tests.support.builders import SIZES, as_stored, claim, digest, failed, fine_tune_job, preempted
from tests.unit.kinds.scenes import NOW, ago, condition, ended, live, pod, seen, terminated, waiting

from anneal.api.runs import ProgressReport
from anneal.kinds.contract import Object, Seen
from anneal.kinds.finetunejob.plan import plan
from anneal.kinds.finetunejob.reasons import Reason
from anneal.kinds.pods import PodReason
from anneal.kinds.results import ResultReason

Json = dict[str, Any]

STARTED: Json = {"startTime": ago(600), "activeSince": ago(600)}
#: The estimate of a training that its memory is too small for.
TOO_LARGE: Json = {
    "fit": "DoesNotFit",
    "parameters": 134_515_008,
    "trainableParameters": 4_884_480,
    "memory": {
        "weightsBytes": 538_060_032,
        "trainableBytes": 136_765_440,
        "activationsBytes": 19_000_000,
        "lossBytes": 14_000_000,
        "overheadBytes": 848_000_000,
        "totalBytes": 1_555_825_472,
        "availableBytes": 536_870_912,
    },
    "passTokens": 120,
    "recompute": "All",
    "message": "does not fit: spec.resources.memory is 0.5 GiB; ask for 2Gi in a new FineTuneJob",
}
PREPARED: Json = {
    **STARTED,
    "resolved": {"model": digest("base"), "sources": [digest("intents.jsonl")]},
    "model": {"digest": digest("base"), "chatTemplateHash": digest("template")},
    "dataset": {
        "digest": digest("rows"),
        "testDigest": digest("held out"),
        "counts": {"read": 1353, "invalid": 3, "train": 1200, "heldOut": 150, "trainTokens": 60_000},
    },
}
TRAINED: Json = {**PREPARED, "training": {"steps": 100, "loss": "0.12", "tokens": 120_000, "seconds": 120}}
ARTIFACT: Json = {
    "uri": "pvc://models/intents-v1/0123456789abcdef",
    "digest": digest("artifact"),
    "contents": "Adapter",
    "baseUri": "pvc://hub/base",
    "baseDigest": digest("base"),
    "chatTemplateHash": digest("template"),
    "sizeBytes": 10_000_000,
    "heldOutUri": "pvc://models/intents-v1/0123456789abcdef/evaluation/held-out.jsonl",
    "heldOutDigest": digest("held out"),
    "heldOutCount": 150,
}
PUBLISHED: Json = {**TRAINED, "artifact": ARTIFACT}

RESULTS: dict[str, Json] = {
    "prepare": {member: PREPARED[member] for member in ("resolved", "model", "dataset")},
    "fit": {"training": TRAINED["training"], "checkpointStep": 100, "resumes": 2},
    "publish": {
        "uri": ARTIFACT["uri"],
        "digest": ARTIFACT["digest"],
        "sizeBytes": ARTIFACT["sizeBytes"],
        "heldOutUri": ARTIFACT["heldOutUri"],
        "heldOutCount": 150,
    },
}


#: A pod that the builders' model is too large for.
SMALL: Json = {"spec": {"resources": {"memory": "512Mi"}}}


def message(role: str, data: Json | None = None, *, key: str | None = None) -> str:
    """The termination message of a pod that succeeded, by hand, so that it may be wrong."""
    said = RESULTS[role] if data is None else data
    return json.dumps({"role": role, "outcome": "Succeeded", "reason": "Succeeded", key or role: said})


def at(
    status: Json, *children: Object, generation: int = 1, claims: Sequence[Any] = ("hub", "models"), **more: Any
) -> Seen:
    """A FineTuneJob with that in its status; `spec` and `progress` by name."""
    obj = as_stored(fine_tune_job(**more.pop("spec", {})), generation=generation, **status)
    return seen(obj, *children, claims=claims, **more)


def children_of(status: Json, *, suspend: bool = False, job_status: Json | None = None, **more: Any) -> list[Json]:
    """The children that the step at hand asks for, as they are once they exist, with that status of the Job."""
    *others, job = plan(at(status, **more), NOW).apply
    made = live(job, **(job_status or {}))
    made["spec"]["suspend"] = suspend
    return [*(live(o, uid=f"uid-of-{o['kind']}") for o in others), made]


@dataclass(frozen=True)
class Case:
    """What is seen, and what a plan must make of it."""

    seen: Seen
    phase: str
    reason: str
    message: str
    """A part of status.message."""
    true: frozenset[str] = frozenset()
    """The conditions that are True."""
    applied: tuple[str, ...] = ()
    """Roles of the Jobs that are asked for."""
    requeue_after: float | None = None


MOVING = frozenset({"Reconciling"})
DATA = frozenset({"Reconciling", "DataReady"})
STUCK = frozenset({"Failed", "Stalled"})
REPORT = ProgressReport(
    percent=40,
    eta_seconds=90,
    step=40,
    total_steps=100,
    loss="0.8",
    tokens_per_second=900,
    checkpoint_step=25,
    resumes=1,
)
FULL_MEMORY = pod("Failed", containers=[terminated(137, reason="OOMKilled")], memory="2Gi")
LEFT = pod("Failed", containers=[terminated(75, preempted(50))])
MISTAKE = pod(
    "Failed", containers=[terminated(42, failed("prepare", "DataInvalid", "intents.jsonl line 17: not JSON"))]
)
DISK_FULL = pod("Failed", name="work-a", age=900, containers=[terminated(1, failed("fit", "IoError", "disk is full"))])


def succeeding(role: str, status: Json, said: str | None = None, **more: Any) -> Seen:
    """The Job of the step at hand is complete, and its pod left that."""
    children = children_of(status, job_status=ended("Complete"))
    return at(status, *children, pod("Succeeded", containers=[terminated(0, said or message(role))]), **more)


def failing(status: Json, *pods: Object, end: Json | None = None) -> Seen:
    return at(status, *children_of(status, job_status=end or ended("Failed", "PodFailurePolicy")), *pods)


def running(status: Json, *pods: Object, job_status: Json | None = None, **more: Any) -> Seen:
    return at(status, *children_of(status, job_status=job_status), *pods, **more)


def suspending(status: Json, *pods: Object, suspend: bool = True, job_status: Json | None = None, **more: Any) -> Seen:
    children = children_of(status, suspend=suspend, job_status=job_status) if "startTime" in status else []
    return at(status, *children, *pods, spec={"suspend": True}, **more)


def _with_deadline(given: Seen, seconds: int) -> Seen:
    spec = {**given.obj["spec"], "activeDeadlineSeconds": seconds}
    return replace(given, obj={**given.obj, "spec": spec})


CASES: dict[str, Case] = {
    # before the start
    "a learning rate of 0": Case(
        at({}, spec={"training": {"learningRate": "0"}}),
        "Pending",
        Reason.INVALID_SPEC,
        "spec.training.learningRate is '0': it must be more than 0 and at most 1",
        frozenset({"Stalled"}),
    ),
    "a claim does not exist": Case(
        at({}, claims=["hub"]),
        "Pending",
        Reason.CLAIM_NOT_FOUND,
        "PersistentVolumeClaim 'models', which spec.output.uri names, does not exist in namespace 'team'; create it",
        MOVING,
        requeue_after=15.0,
    ),
    "a claim has lost its volume": Case(
        at({}, claims=[{**claim("hub"), "status": {"phase": "Lost"}}, "models"]),
        "Pending",
        Reason.CLAIM_LOST,
        "PersistentVolumeClaim 'hub', which spec.model.uri names, has lost its volume",
        MOVING,
        requeue_after=15.0,
    ),
    "first sight": Case(at({}), "Pending", Reason.STARTING, "preparing the data is next", MOVING),
    # prepare
    "the start is recorded": Case(
        at(STARTED),
        "Preparing",
        Reason.POD_STARTING,
        "the pod for preparing the data is starting",
        MOVING,
        ("prepare",),
    ),
    "a quota refuses the pod": Case(
        running(STARTED), "Preparing", ResultReason.NO_POD, "a quota or an admission policy", MOVING, ("prepare",)
    ),
    "the data is being prepared": Case(
        running(STARTED, pod("Running")), "Preparing", Reason.PREPARING, "preparing the data", MOVING, ("prepare",)
    ),
    "the data is wrong": Case(
        failing(STARTED, MISTAKE), "Failed", "DataInvalid", "intents.jsonl line 17: not JSON", STUCK
    ),
    "the result is unreadable": Case(
        succeeding("prepare", STARTED, "all fine"), "Failed", PodReason.RESULT_UNREADABLE, "all fine", STUCK
    ),
    "the result is of another step": Case(
        succeeding("prepare", STARTED, message("fit")),
        "Failed",
        PodReason.RESULT_UNREADABLE,
        "the result of the prepare pod is wrong: 'prepare' is missing",
        STUCK,
    ),
    "the result is lost": Case(
        failing(STARTED, end=ended("Complete")), "Failed", ResultReason.RESULT_LOST, "its pod was deleted", STUCK
    ),
    "the data is ready": Case(
        succeeding("prepare", STARTED),
        "Preparing",
        Reason.PREPARED,
        "1200 rows to train on, 150 held out, 3 left out as invalid",
        DATA,
    ),
    "the model does not fit, which is recorded first": Case(
        succeeding("prepare", STARTED, message("prepare", {**RESULTS["prepare"], "sizes": SIZES}), **SMALL),
        "Preparing",
        Reason.PREPARED,
        "1200 rows to train on",
        DATA,
    ),
    "the model does not fit": Case(
        at({**PREPARED, "estimate": TOO_LARGE}, **SMALL),
        "Failed",
        Reason.DOES_NOT_FIT,
        "spec.resources.memory is 0.5 GiB; ask for 2Gi in a new FineTuneJob",
        STUCK | {"DataReady"},
    ),
    "the model does not fit, but is to be tried": Case(
        at({**PREPARED, "estimate": TOO_LARGE}, spec={"planner": {"policy": "Warn"}}),
        "Training",
        Reason.POD_STARTING,
        "the pod for training is starting",
        DATA,
        ("fit",),
    ),
    # fit
    "the model's claim is gone by now": Case(
        at(PREPARED, claims=["models"]), "Pending", Reason.CLAIM_NOT_FOUND, "'hub'", DATA, requeue_after=15.0
    ),
    "the output's claim is gone, but is not needed yet": Case(
        at(PREPARED, claims=["hub"]), "Training", Reason.POD_STARTING, "for training is starting", DATA, ("fit",)
    ),
    "the data's result is recorded": Case(
        at(PREPARED), "Training", Reason.POD_STARTING, "the pod for training is starting", DATA, ("fit",)
    ),
    "no node has an accelerator": Case(
        running(
            PREPARED,
            pod(conditions=[condition("PodScheduled", "False", "Unschedulable", "Insufficient nvidia.com/gpu")]),
        ),
        "Training",
        PodReason.UNSCHEDULABLE,
        "Insufficient nvidia.com/gpu",
        DATA,
        ("fit",),
    ),
    "the image is not there": Case(
        running(PREPARED, pod(containers=[waiting("ErrImagePull", "not found")])),
        "Training",
        PodReason.IMAGE_PULL_FAILED,
        "image trainer:1 for container trainer of pod work-x cannot be pulled: not found",
        DATA,
        ("fit",),
    ),
    "a volume is not there": Case(
        running(PREPARED, pod(conditions=[condition("PodScheduled", "True", since=600)])),
        "Training",
        PodReason.SLOW_START,
        "`kubectl describe pod work-x`",
        DATA,
        ("fit",),
    ),
    "a new pod starts": Case(
        running(PREPARED, pod()), "Training", Reason.POD_STARTING, "is starting", DATA, ("fit",), requeue_after=90.0
    ),
    "training": Case(
        running(PREPARED, pod("Running")), "Training", Reason.TRAINING, "training", DATA | {"Training"}, ("fit",)
    ),
    "a failed pod is about to be tried again": Case(
        running(PREPARED, DISK_FULL),
        "Training",
        Reason.RETRYING,
        "the fit pod failed and is tried again: disk is full",
        DATA,
        ("fit",),
    ),
    "training again after a failed pod": Case(
        running(PREPARED, DISK_FULL, pod("Running")),
        "Training",
        Reason.TRAINING,
        "training; tried again after a failed pod: disk is full",
        DATA | {"Training"},
        ("fit",),
    ),
    "training was preempted and goes on": Case(
        running(PREPARED, LEFT), "Training", Reason.POD_STARTING, "the pod for training is starting", DATA, ("fit",)
    ),
    "too little memory": Case(
        failing(PREPARED, FULL_MEMORY, end=ended("Failed", "BackoffLimitExceeded")),
        "Failed",
        PodReason.OUT_OF_MEMORY,
        "used more than its memory limit of 2Gi; raise spec.resources.memory",
        STUCK | {"DataReady"},
    ),
    "trained": Case(
        succeeding("fit", PREPARED), "Training", Reason.TRAINED, "trained for 100 steps in 120 s, loss 0.12", DATA
    ),
    # publish
    "the training's result is recorded": Case(
        at(TRAINED), "Publishing", Reason.POD_STARTING, "the pod for publishing the artifact", DATA, ("publish",)
    ),
    "publishing": Case(
        running(TRAINED, pod("Running")), "Publishing", Reason.PUBLISHING, "publishing", DATA, ("publish",)
    ),
    "the artifact is published": Case(
        succeeding("publish", TRAINED),
        "Publishing",
        Reason.PUBLISHED,
        "the artifact is at pvc://models/intents-v1/0123456789abcdef",
        DATA | {"Published"},
    ),
    "the artifact is said to be elsewhere": Case(
        succeeding("publish", TRAINED, message("publish", {**RESULTS["publish"], "uri": "pvc://other/x"})),
        "Failed",
        PodReason.RESULT_UNREADABLE,
        "the result of the publish pod is wrong: pvc://other/x is not below spec.output.uri",
        STUCK | {"DataReady"},
    ),
    "everything is recorded": Case(
        at(PUBLISHED),
        "Complete",
        Reason.COMPLETED,
        f"the artifact {ARTIFACT['digest']} is at {ARTIFACT['uri']}",
        frozenset({"Complete", "DataReady", "Published"}),
    ),
    "everything is recorded, and MLflow has it": Case(
        at({**PUBLISHED, "tracking": {"runUri": "https://m/#/experiments/1/runs/2", "message": "MLflow has it"}}),
        "Complete",
        Reason.COMPLETED,
        f"the artifact {ARTIFACT['digest']} is at {ARTIFACT['uri']}",
        frozenset({"Complete", "DataReady", "Published", "Tracked"}),
    ),
    "everything is recorded, and MLflow could not be told": Case(
        at({**PUBLISHED, "tracking": {"message": "MLflow could not be told"}}),
        "Complete",
        Reason.COMPLETED,
        f"the artifact {ARTIFACT['digest']} is at {ARTIFACT['uri']}",
        frozenset({"Complete", "DataReady", "Published"}),
    ),
    # suspend
    "suspended from the beginning": Case(
        suspending({}),
        "Suspended",
        Reason.SUSPENDED,
        "suspended before it started; set spec.suspend to false to go on",
        frozenset({"Suspended"}),
    ),
    "suspended while preparing": Case(
        suspending(STARTED, pod("Running"), job_status={"active": 1}),
        "Preparing",
        Reason.SUSPENDING,
        "its pod has 30 s to save its state and end",
        MOVING,
        ("prepare",),
    ),
    "at rest while preparing": Case(
        suspending(STARTED),
        "Suspended",
        Reason.SUSPENDED,
        "suspended; preparing the data will begin again; set spec.suspend to false to go on",
        frozenset({"Suspended"}),
        ("prepare",),
    ),
    "the job does not know yet that it is suspended": Case(
        suspending(PREPARED, suspend=False), "Training", Reason.SUSPENDING, "its pod has 120 s", DATA, ("fit",)
    ),
    "the pod is saving its state": Case(
        suspending(PREPARED, pod("Running"), job_status={"terminating": 1}),
        "Training",
        Reason.SUSPENDING,
        "suspended while training: its pod has 120 s to save its state and end",
        DATA,
        ("fit",),
    ),
    "at rest while training": Case(
        suspending(PREPARED, progress=REPORT),
        "Suspended",
        Reason.SUSPENDED,
        "preempted at step 25; set spec.suspend to false to go on",
        frozenset({"Suspended", "DataReady"}),
        ("fit",),
    ),
    "at rest before the first checkpoint": Case(
        suspending(PREPARED),
        "Suspended",
        Reason.SUSPENDED,
        "suspended before the first checkpoint; training will begin again",
        frozenset({"Suspended", "DataReady"}),
        ("fit",),
    ),
    "suspended between two steps": Case(
        at(PREPARED, spec={"suspend": True}),
        "Suspended",
        Reason.SUSPENDED,
        "suspended before the first checkpoint",
        frozenset({"Suspended", "DataReady"}),
    ),
    "suspended, but the pod was done before": Case(
        succeeding("fit", PREPARED, spec={"suspend": True}), "Training", Reason.TRAINED, "trained for 100 steps", DATA
    ),
    "resumed": Case(
        at({k: v for k, v in PREPARED.items() if k != "activeSince"}),
        "Training",
        Reason.RESUMING,
        "going on with training",
        DATA,
    ),
    # deadline
    "some time is left": Case(
        _with_deadline(running(PREPARED, pod("Running")), 1000),
        "Training",
        Reason.TRAINING,
        "training",
        DATA | {"Training"},
        ("fit",),
        requeue_after=400.0,
    ),
    "the deadline has passed": Case(
        _with_deadline(running(PREPARED, pod("Running"), job_status={"active": 1}), 600),
        "Failed",
        Reason.DEADLINE_EXCEEDED,
        f"still training 600 s (spec.activeDeadlineSeconds) after {ago(600)}; create a new FineTuneJob",
        STUCK | {"DataReady"},
    ),
    "the pod was done in time": Case(
        _with_deadline(succeeding("fit", PREPARED), 600), "Training", Reason.TRAINED, "trained for 100 steps", DATA
    ),
}
