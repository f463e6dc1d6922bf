"""Situations of an Evaluation, each with what should be said and done in it. Read it as a table."""

from __future__ import annotations

from dataclasses import dataclass

from tests.support.builders import failed
from tests.unit.kinds.evaluation.objects import (
    ABSOLUTE,
    ARTIFACT,
    DONE,
    HOSTED,
    KEY_MISSING,
    LOAD_ERROR,
    MARGIN,
    MISMATCH,
    NOTHING_TO_TELL,
    RECORDED,
    REFUSED,
    SCORED,
    SERVING,
    at,
    at_work,
    candidate,
    judged_by,
    running,
    server,
    succeeded,
    told,
    with_incumbent,
)
from tests.unit.kinds.scenes import condition, ended, pod, terminated

from anneal.api.runs import ProgressReport
from anneal.kinds.contract import Seen
from anneal.kinds.evaluation.reasons import Reason
from anneal.kinds.pods import PodReason
from anneal.kinds.results import ResultReason


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
    makes: bool = False
    """Whether the children are asked for."""
    requeue_after: float | None = None


WAITING = frozenset({"Reconciling"})
READY = frozenset({"Reconciling", "CandidateReady"})
STUCK = frozenset({"Failed", "Stalled"})
FAILED = frozenset({"Failed", "Stalled", "CandidateReady"})
JUDGED = frozenset({"Complete", "CandidateReady"})

CASES: dict[str, Case] = {
    # the spec
    "a gate names an unknown metric": Case(
        at({}, job=DONE, spec={"gates": [{"metric": "f1", "absolute": {"minLowerBound": "0.5"}}]}),
        "Pending",
        Reason.INVALID_SPEC,
        "every gate must name a metric of spec.metrics; correct it and apply again",
        frozenset({"Stalled"}),
    ),
    "a gate names an unknown baseline": Case(
        at({}, spec={"gates": [ABSOLUTE, {"metric": "accuracy", "nonInferiority": {"to": "gpt", "margin": "0.1"}}]}),
        "Pending",
        Reason.INVALID_SPEC,
        "every gate that compares must name a baseline of spec.baselines",
        frozenset({"Stalled"}),
    ),
    "a gate has no test": Case(
        at({}, spec={"gates": [{"metric": "accuracy"}]}),
        "Pending",
        Reason.INVALID_SPEC,
        "spec.gates[0]: exactly one of absolute, superiority, nonInferiority, latency, cost, anyOf must be set",
        frozenset({"Stalled"}),
    ),
    "a schema that reaches out": Case(
        at({}, spec={"metrics": [{"name": "accuracy", "jsonSchema": {"schema": '{"$ref": "https://a.test"}'}}]}),
        "Pending",
        Reason.INVALID_SPEC,
        "spec.metrics[0].jsonSchema.schema cannot be used: $ref 'https://a.test' leaves the schema; bring what it",
        frozenset({"Stalled"}),
    ),
    "a baseline is named like the candidate": Case(
        at({}, spec={"baselines": [{"name": "candidate", "fromCandidate": {}}], "gates": [ABSOLUTE]}),
        "Pending",
        Reason.INVALID_SPEC,
        "a baseline cannot be named 'candidate'",
        frozenset({"Stalled"}),
    ),
    "a spec that the schema should have refused": Case(
        at({}, spec={"gates": []}),
        "Pending",
        Reason.INVALID_SPEC,
        "spec.gates: List should have at least 1 item",
        frozenset({"Stalled"}),
    ),
    "a budget without a price": Case(
        at({}, spec={"baselines": [HOSTED], "gates": [ABSOLUTE], "budget": {"cost": "5"}}),
        "Pending",
        Reason.INVALID_SPEC,
        "spec.budget needs the price of every hosted baseline",
        frozenset({"Stalled"}),
    ),
    "a latency gate on answers that took nobody's time": Case(
        at(
            {},
            spec={
                "baselines": [{**HOSTED, "hosted": {**HOSTED["hosted"], "requests": "Batch"}}],
                "gates": [{"latency": {"maxRatio": "1", "to": HOSTED["name"]}}],
            },
        ),
        "Pending",
        Reason.INVALID_SPEC,
        "a latency gate's 'to' cannot name a baseline whose requests are Batch",
        frozenset({"Stalled"}),
    ),
    # the candidate
    "the candidate does not exist": Case(
        at({}),
        "Pending",
        Reason.CANDIDATE_NOT_FOUND,
        "There is no FineTuneJob 'intents-v1' in this namespace",
        WAITING,
    ),
    "the candidate is not finished": Case(
        at({}, job=candidate()),
        "Pending",
        Reason.CANDIDATE_NOT_FINISHED,
        "has no artifact yet (phase Training)",
        WAITING,
    ),
    "the candidate's artifact cannot be read": Case(
        at({}, job=candidate("Complete", published={**ARTIFACT, "uri": "pvc://models/../x"}, phase="Complete")),
        "Pending",
        Reason.CANDIDATE_NOT_FINISHED,
        "has no artifact yet (phase Complete)",
        WAITING,
    ),
    "the candidate failed": Case(
        at({}, job=candidate("Failed", "intents.jsonl line 17: not JSON")),
        "Failed",
        Reason.CANDIDATE_FAILED,
        "FineTuneJob 'intents-v1' failed, so there is nothing to judge: intents.jsonl line 17: not JSON",
        STUCK,
    ),
    "nothing was held out": Case(
        at({}, job=candidate("Complete", published={**ARTIFACT, "heldOutCount": 0})),
        "Failed",
        Reason.HELD_OUT_EMPTY,
        "set spec.dataset.split.heldOut of a new FineTuneJob",
        STUCK,
    ),
    "too few rows for a gate, and that is to fail": Case(
        at({}, job=candidate(), spec={"gates": [MARGIN], "policy": {"onUnderPowered": "Fail"}}),
        "Failed",
        Reason.UNDER_POWERED,
        "150 held-out rows are too few to decide: accuracy non-inferiority to base needs about 314. Hold out more rows",
        STUCK | {"UnderPowered"},
    ),
    "too few rows for a gate, which is only said": Case(
        at({}, job=DONE, spec={"gates": [MARGIN]}),
        "Pending",
        Reason.CANDIDATE_RECORDED,
        "is recorded",
        READY | {"UnderPowered"},
        requeue_after=1.0,
    ),
    "the candidate is complete": Case(
        at({}, job=DONE),
        "Pending",
        Reason.CANDIDATE_RECORDED,
        "The artifact of FineTuneJob 'intents-v1' is recorded",
        READY,
        requeue_after=1.0,
    ),
    "the incumbent does not exist": Case(
        with_incumbent(None),
        "Pending",
        Reason.INCUMBENT_NOT_FOUND,
        "There is no ModelDeployment 'intents' (baseline 'champion') in this namespace; the evaluation starts when",
        WAITING,
    ),
    "the incumbent serves something unknown": Case(
        with_incumbent({**SERVING, "servingRevision": "1" * 8}),
        "Pending",
        Reason.INCUMBENT_NOT_FOUND,
        "its status does not say what its serving revision 11111111 is",
        WAITING,
    ),
    "the incumbent's status cannot be read": Case(
        with_incumbent({"replicas": -1}),
        "Pending",
        Reason.INCUMBENT_NOT_FOUND,
        "its status cannot be read",
        WAITING,
    ),
    "the judge is of a contestant's family": Case(
        at({}, job=DONE, spec={"baselines": [HOSTED], **judged_by("openai/gpt-5-mini")}),
        "Pending",
        Reason.JUDGE_IS_CONTESTANT,
        "The judge openai/gpt-5-mini and gpt (gpt-5) are of one family, OpenAI, and judges prefer their own",
        frozenset({"Stalled"}),
    ),
    "the judge is of the candidate's family": Case(
        at(
            {},
            job={**DONE, "spec": {**DONE["spec"], "model": {"uri": "hf://Qwen/Qwen2.5-7B:main"}}},
            spec=judged_by("qwen3-max"),
        ),
        "Pending",
        Reason.JUDGE_IS_CONTESTANT,
        "of one family, Alibaba",
        frozenset({"Stalled"}),
    ),
    "the judge is of no contestant's family": Case(
        at({}, job=DONE, spec={"baselines": [HOSTED], **judged_by("claude-sonnet-4")}),
        "Pending",
        Reason.CANDIDATE_RECORDED,
        "is recorded",
        READY,
        requeue_after=1.0,
    ),
    "the judge is of the family of what is served now": Case(
        with_incumbent(
            {**SERVING, "revisions": [{**r, "baseUri": "pvc://hub/gpt-oss-20b"} for r in SERVING["revisions"]]},
            judge="gpt-5",
        ),
        "Pending",
        Reason.JUDGE_IS_CONTESTANT,
        "The judge gpt-5 and champion (pvc://hub/gpt-oss-20b) are of one family, OpenAI",
        frozenset({"Stalled"}),
    ),
    "a judged metric without a judge": Case(
        at({}, spec={"metrics": [{"name": "accuracy", "judged": {}}]}),
        "Pending",
        Reason.INVALID_SPEC,
        "a judged, rubric or preference metric, or noRefusal told by Judge, and spec.judge need each other",
        frozenset({"Stalled"}),
    ),
    # the pod
    "a claim does not exist": Case(
        at(RECORDED, claims=["models"]),
        "Pending",
        Reason.CLAIM_NOT_FOUND,
        "PersistentVolumeClaim 'hub' does not exist",
        READY,
        requeue_after=15.0,
    ),
    "the candidate was deleted after it was recorded": Case(
        at(RECORDED), "Pending", Reason.STARTING, "pod is being created", READY, makes=True
    ),
    "a quota refuses the pod": Case(
        running(), "Pending", ResultReason.NO_POD, "a quota or an admission policy", READY, makes=True
    ),
    "the pod has no node": Case(
        running(pod(conditions=[condition("PodScheduled", "False", message="0/1 nodes: Insufficient memory")])),
        "Pending",
        PodReason.UNSCHEDULABLE,
        "Insufficient memory",
        READY,
        makes=True,
    ),
    "the server loads": Case(
        running(pod()), "Pending", Reason.SERVER_STARTING, "loads the models", READY, makes=True, requeue_after=90.0
    ),
    "the server failed once": Case(
        running(pod(init=[server(restarts=1, message=LOAD_ERROR)], sidecars=["server"])),
        "Evaluating",
        Reason.RETRYING,
        "The server failed and is started again: container server of pod work-x ended with exit code 1: Model base"
        " cannot be loaded: no such tensor",
        READY,
        makes=True,
    ),
    "the server keeps failing": Case(
        running(pod(init=[server(restarts=3, message=LOAD_ERROR)], sidecars=["server"])),
        "Failed",
        Reason.SERVER_FAILED,
        "started again 3 times: container server of pod work-x ended with exit code 1: Model base cannot be loaded",
        FAILED,
    ),
    "the server needs more memory": Case(
        running(
            pod(init=[{**server(restarts=4), "lastState": terminated(137, reason="OOMKilled")["state"]}]),
        ),
        "Failed",
        Reason.SERVER_FAILED,
        "used more than the memory of its node; raise spec.resources.memory in a new Evaluation",
        FAILED,
    ),
    "the pod failed by a mistake, and its Job has not seen it": Case(
        running(
            pod(
                "Failed",
                containers=[terminated(42, failed("evaluate", "HeldOutInvalid", "line 3 is no JSON"))],
            )
        ),
        "Pending",
        Reason.RETRYING,
        "The last try failed: line 3 is no JSON",
        READY,
        makes=True,
    ),
    "the last pod failed": Case(
        running(
            pod(
                "Failed",
                name="work-a",
                age=200,
                containers=[terminated(1, failed("evaluate", "IoError", "disk full", retryable=True))],
            ),
            pod(name="work-b"),
        ),
        "Pending",
        Reason.RETRYING,
        "The last try failed and the next one begins: disk full",
        READY,
        makes=True,
        requeue_after=90.0,
    ),
    "an API key is missing": Case(
        running(
            pod("Failed", name="work-a", age=200, init=[terminated(1, KEY_MISSING, name="keys")]), pod(name="work-b")
        ),
        "Pending",
        Reason.RETRYING,
        "The last try failed and the next one begins: Secret 'openai' does not exist",
        READY,
        makes=True,
        requeue_after=90.0,
    ),
    "the digest is not the published one": Case(
        running(REFUSED, job_status=ended("Failed", "PodFailurePolicy")), "Failed", "DigestMismatch", MISMATCH, FAILED
    ),
    "the rows are asked": Case(
        running(pod("Running"), progress=ProgressReport(percent=40)),
        "Evaluating",
        Reason.EVALUATING,
        "The held-out rows are asked of the candidate and baseline 'base'",
        READY,
        makes=True,
    ),
    "the rows are asked before plugins score": Case(
        running(at_work("respond", 400), spec=SCORED),
        "Evaluating",
        Reason.EVALUATING,
        "The held-out rows are asked",
        READY,
        makes=True,
        requeue_after=90.0,
    ),
    "a plugin scores": Case(
        running(at_work("plugin-tone", 20), spec=SCORED),
        "Evaluating",
        Reason.SCORING,
        "All rows are asked; the plugin of metric tone scores the answers.",
        READY,
        makes=True,
        requeue_after=40.0,
    ),
    "a plugin is late": Case(
        running(at_work("plugin-tone", 60), spec=SCORED),
        "Failed",
        Reason.PLUGIN_TIMED_OUT,
        "The plugin of metric tone was not done after 60 s, so nothing is judged; allow more (timeoutSeconds",
        FAILED,
    ),
    "a plugin fails": Case(
        running(
            pod("Failed", init=[terminated(3, "KeyError: 'answer'", name="plugin-tone")]),
            job_status=ended("Failed", "PodFailurePolicy"),
            spec=SCORED,
        ),
        "Failed",
        PodReason.PLUGIN_FAILED,
        "container plugin-tone of pod work-x ended with exit code 3, so nothing is judged: KeyError: 'answer'",
        FAILED,
    ),
    "the deadline is near": Case(
        running(pod("Running"), spec={"activeDeadlineSeconds": 700}),
        "Evaluating",
        Reason.EVALUATING,
        "held-out rows",
        READY,
        makes=True,
        requeue_after=100.0,
    ),
    "the deadline is over while rows are asked": Case(
        running(pod("Running"), status={**RECORDED, "percent": 40}, spec={"activeDeadlineSeconds": 500}),
        "Failed",
        Reason.DEADLINE_EXCEEDED,
        "Not done 500 s after the start (spec.activeDeadlineSeconds); 40 % of the answers were there",
        FAILED,
    ),
    "the deadline is over while the pod waits": Case(
        running(
            pod(conditions=[condition("PodScheduled", "False", message="no node fits")]),
            spec={"activeDeadlineSeconds": 500},
        ),
        "Failed",
        Reason.DEADLINE_EXCEEDED,
        "no node fits",
        FAILED,
    ),
    # the result
    "costs are no numbers": Case(
        succeeded(told(models=[(150, 0, 0, 0, 0, 1, 1, "a lot", "")] * 2)),
        "Failed",
        Reason.RESULT_UNREADABLE,
        "speaks of costs that are no numbers",
        FAILED,
    ),
    "all gates pass": Case(
        succeeded(told()),
        "Complete",
        Reason.GATES_PASSED,
        "The candidate passed all 2 gates on 150 held-out rows.",
        JUDGED,
    ),
    "a gate fails": Case(
        succeeded(told(gates=[("Failed", "0.70", "0.62", "0.77", None), ("Inconclusive", "0.2", "0.1", "0.3", 430)])),
        "Complete",
        Reason.GATES_FAILED,
        "The candidate failed 1 of 2 gates: accuracy absolute failed: score 0.70 (95% interval 0.62 to 0.77),"
        " demanded >= 0.85.",
        JUDGED,
    ),
    "a gate is undecided": Case(
        succeeded(
            told(gates=[("Passed", "0.97", "0.93", "0.99", None), ("Inconclusive", "0.25", "0.15", "0.35", 430)])
        ),
        "Complete",
        Reason.GATES_INCONCLUSIVE,
        "could not be shown to pass 1 of 2 gates: accuracy superiority over base is undecided: difference 0.25 (95%"
        " interval 0.15 to 0.35), demanded > 0.20. The rows cannot tell; about 430 held-out rows would.",
        JUDGED,
    ),
    "a gate is undecided, and that counts as failed": Case(
        succeeded(
            told(gates=[("Passed", "0.97", "0.93", "0.99", None), ("Inconclusive", "0.25", "0.15", "0.35", 430)]),
            spec={"policy": {"onInconclusive": "Fail"}},
        ),
        "Complete",
        Reason.GATES_FAILED,
        "could not be shown to pass 1 of 2 gates: accuracy superiority over base is undecided",
        JUDGED,
    ),
    "the only gate passes": Case(
        succeeded(told(gates=[("Passed", "0.97", "0.93", "0.99", None)]), spec={"gates": [ABSOLUTE]}),
        "Complete",
        Reason.GATES_PASSED,
        "The candidate passed the gate on 150 held-out rows.",
        JUDGED,
    ),
    "the result is about other gates": Case(
        succeeded(told(gates=[])),
        "Failed",
        Reason.RESULT_UNREADABLE,
        "the result speaks of 2 models and 0 gates, the spec of 2 and 2",
        FAILED,
    ),
    "the result is about a metric that there is not": Case(
        succeeded(told(results=[(7, 0, 149, "0.97", "0.93", "0.99")])),
        "Failed",
        Reason.RESULT_UNREADABLE,
        "speaks of a metric or a model that the spec does not have",
        FAILED,
    ),
    "the result does not fit into status": Case(
        succeeded(told(results=[(0, 0, 149, "0." + "9" * 40, "0.93", "0.99")])),
        "Failed",
        Reason.RESULT_UNREADABLE,
        "does not fit this object",
        FAILED,
    ),
    "the evaluator judged nothing": Case(
        succeeded(NOTHING_TO_TELL),
        "Failed",
        Reason.NOT_JUDGED,
        "The evaluator ended well but judged nothing: all is well",
        FAILED,
    ),
    "the result is lost": Case(
        running(job_status=ended("Complete")),
        "Failed",
        ResultReason.RESULT_LOST,
        "its pod was deleted",
        FAILED,
    ),
}
