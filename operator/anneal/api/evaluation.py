"""Evaluation: one artifact against baselines on the same held-out rows, and a verdict that gates promotion.

Where the numbers come from is told in `verdicts` (the decision) and in the evaluator image (the estimates).
"""

from __future__ import annotations

from typing import Self

from pydantic import Field, model_validator

from anneal.api.conditions import Conditions
from anneal.api.costs import CostBenefit, Costs
from anneal.api.gates import Comparison, Gate, GateResult, Outcome, Statistics
from anneal.api.guards import Guard, GuardResult
from anneal.api.judging import JudgeQuality, JudgeResult
from anneal.api.kind import Column, KindInfo
from anneal.api.metrics import Metric, MetricResult
from anneal.api.model import (
    ApiModel,
    Decimal,
    Digest,
    Sentence,
    Timestamp,
    cel,
    immutable_after_start,
)
from anneal.api.policy import Approval, Policy
from anneal.api.references import PvcUri, uri_stays_in_its_claim
from anneal.api.subjects import (
    CANDIDATE,
    Baseline,
    Budget,
    Candidate,
    Generation,
    Hosted,
    IncumbentStatus,
    ModelResult,
    Serving,
    TritonServing,
    times_asked,
)
from anneal.api.verdicts import baseline_of, claims_of
from anneal.api.workloads import Resources, Scheduling


class SealedRows(ApiModel):
    """Rows that are kept for the last gate: every candidate is judged by them once."""

    RULES = (uri_stays_in_its_claim("sealed.uri"),)

    uri: PvcUri = Field(
        description="JSON Lines file, pvc://claim/path, written like the file of status.heldOutUri. It must not be"
        " among any data that is trained on: name it in dataset.leakCheck.against of the FineTuneJob, which looks."
    )
    digest: Digest = Field(description="Digest that it must have, as sha256sum tells it.")


class EvaluationSpec(ApiModel):
    """Who is judged, against whom, by what, and what must hold."""

    candidate: Candidate = Field(description="The model under judgement.")
    baselines: list[Baseline] = Field(
        default_factory=list,
        max_length=4,
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]},
        description="Models to compare with. Default: none.",
    )
    sealed: SealedRows | None = Field(
        default=None,
        description="Judge by these rows, kept for the last gate. A second Evaluation of the same candidate by them is"
        " refused. Default: the rows that the FineTuneJob held out.",
    )
    serving: Serving = Field(
        default_factory=lambda: Serving(triton=TritonServing()),
        description="The runtime that answers. Default: triton.",
    )
    generation: Generation = Field(default_factory=Generation, description="How answers are generated.")
    metrics: list[Metric] = Field(
        min_length=1,
        max_length=4,
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]},
        description="How answers are scored.",
    )
    judge: Hosted | None = Field(
        default=None,
        description="The model that judges answers for the metrics judged, rubric, preference and noRefusal, of another"
        " family than every contestant; references are sent to it too. Default: none.",
    )
    guard: Guard | None = Field(
        default=None,
        description="The model that classifies answers for the metrics guard and noRefusal told by it. Default: none.",
    )
    judge_quality: JudgeQuality | None = Field(
        default=None, description="What the judge must show before its verdicts count. Default: nothing."
    )
    gates: list[Gate] = Field(
        min_length=1,
        max_length=8,
        json_schema_extra={"x-kubernetes-list-type": "atomic"},
        description="What must hold for the verdict Passed.",
    )
    statistics: Statistics = Field(default_factory=Statistics, description="How sure to be.")
    policy: Policy = Field(
        default_factory=Policy,
        description="What to do where answers could not be had, or rows cannot tell, and who has the last word.",
    )
    budget: Budget | None = Field(default=None, description="What hosted models may cost. Default: no limit.")
    serving_cost_per_hour: Decimal | None = Field(
        default=None,
        description="What serving the candidate costs in an hour, in the currency of the hosted prices, for cost gates"
        " and status.costBenefit. Default: it is not told.",
    )
    resources: Resources = Field(default_factory=Resources, description="What the serving container asks for.")
    scheduling: Scheduling = Field(default_factory=Scheduling, description="Where the pod may run.")
    active_deadline_seconds: int | None = Field(
        default=None,
        ge=1,
        le=31_536_000,
        description="The evaluation fails when it has run this long, in seconds. Default: none.",
    )
    backoff_limit: int = Field(default=2, ge=0, le=100, description="Failed pods before giving up. Default: 2.")
    ttl_seconds_after_finished: int | None = Field(
        default=None,
        ge=0,
        le=31_536_000,
        description="Children are deleted this long after the end, in seconds. Default: they stay with the object.",
    )


class CategoryRows(ApiModel):
    """Held-out rows of a category that a metric is about."""

    name: str = Field(max_length=24, description="The category.")
    rows: int = Field(ge=0, description="Held-out rows of it.")


class EvaluationStatus(ApiModel):
    """What the operator has seen."""

    observed_generation: int = Field(default=0, ge=0, description="metadata.generation that this status speaks of.")
    phase: str | None = Field(
        default=None, max_length=32, description="For printing only: Pending, Evaluating, Complete or Failed."
    )
    reason: str | None = Field(default=None, max_length=64, description="Why the object is in this phase, in a word.")
    message: Sentence | None = Field(default=None, description="Why the object is in this phase, in a sentence.")
    verdict: Outcome | None = Field(default=None, description="Passed, Failed or Inconclusive; absent until judged.")
    score: str | None = Field(
        default=None, max_length=16, description="For printing only: first metric of the candidate."
    )
    conditions: Conditions = Field(default_factory=list)
    start_time: Timestamp | None = Field(default=None, description="When the pod was asked for, RFC 3339.")
    completion_time: Timestamp | None = Field(default=None, description="When the verdict was recorded, RFC 3339.")
    subject_uri: PvcUri | None = Field(default=None, description="Directory of the judged artifact.")
    subject_digest: Digest | None = Field(default=None, description="Digest of the judged artifact.")
    base_uri: PvcUri | None = Field(default=None, description="Directory of the base model it needs.")
    base_digest: Digest | None = Field(default=None, description="Digest of that base model.")
    held_out_uri: PvcUri | None = Field(default=None, description="File of the rows that are asked.")
    dataset_digest: Digest | None = Field(default=None, description="Digest of that file.")
    held_out_count: int | None = Field(default=None, ge=0, description="Rows in that file.")
    held_out_categories: list[CategoryRows] | None = Field(
        default=None,
        max_length=64,
        json_schema_extra={"x-kubernetes-list-type": "atomic"},
        description="Of them those of the categories in metrics[].only, where the FineTuneJob's status tells.",
    )
    held_out_compared: bool | None = Field(
        default=None,
        description="Of sealed rows, whether the FineTuneJob compared what it trained on with that very file"
        " (dataset.leakCheck.against) by the digest in its status.",
    )
    dataset_uses: int | None = Field(
        default=None,
        ge=1,
        description="How many Evaluations of this namespace were started on the same rows, with this one, but for those"
        " that ended without a verdict.",
    )
    training_cost: str | None = Field(
        default=None, max_length=64, description="What training the candidate cost, by its FineTuneJob's status.usage."
    )
    incumbents: list[IncumbentStatus] | None = Field(
        default=None,
        max_length=4,
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]},
        description="What each incumbent baseline was when the evaluation started.",
    )
    percent: int | None = Field(default=None, ge=0, le=100, description="Answers had, in percent.")
    models: list[ModelResult] = Field(
        default_factory=list,
        max_length=5,
        json_schema_extra={"x-kubernetes-list-type": "atomic"},
        description="Answers of each model, counted.",
    )
    cost: str | None = Field(
        default=None, max_length=24, description="Spent on hosted models in all, in the currency of their prices."
    )
    costs: Costs | None = Field(
        default=None, description="What was spent on the candidate so far, and what a query to it costs."
    )
    cost_benefit: list[CostBenefit] | None = Field(
        default=None,
        max_length=4,
        json_schema_extra={"x-kubernetes-list-type": "atomic"},
        description="The candidate against each hosted baseline with a price, when spec.servingCostPerHour is there.",
    )
    judge: JudgeResult | None = Field(default=None, description="The judge's work, counted.")
    guard: GuardResult | None = Field(default=None, description="The guard's work, counted.")
    results: list[MetricResult] = Field(
        default_factory=list,
        max_length=20,
        json_schema_extra={"x-kubernetes-list-type": "atomic"},
        description="Every metric of every model.",
    )
    comparisons: list[Comparison] = Field(
        default_factory=list,
        max_length=16,
        json_schema_extra={"x-kubernetes-list-type": "atomic"},
        description="Candidate against each baseline on each metric.",
    )
    gates: list[GateResult] = Field(
        default_factory=list,
        max_length=8,
        json_schema_extra={"x-kubernetes-list-type": "atomic"},
        description="Every gate's outcome, in the order of the spec.",
    )
    approval: Approval | None = Field(default=None, description="Who let the verdict count, where policy asks for it.")
    report_uri: PvcUri | None = Field(default=None, description="Directory of answers, scores and the full report.")
    report_digest: Digest | None = Field(default=None, description="Digest of report.json in there.")


UNKNOWN_METRIC = "every gate must name a metric of spec.metrics"
UNKNOWN_BASELINE = "every gate that compares must name a baseline of spec.baselines"
UNKNOWN_COST = "a cost gate needs spec.servingCostPerHour, and its 'to' must name a hosted baseline with a price"
UNTIMED = "a latency gate's 'to' cannot name a baseline whose requests are Batch: their answers took nobody's time"
UNPRICED = "spec.budget needs the price of every hosted baseline, of the judge and of the guard"
UNJUDGED = "a judged, rubric or preference metric, or noRefusal told by Judge, and spec.judge need each other"
UNGUARDED = "a guard metric, or noRefusal told by Guard, and spec.guard need each other"
SILENT_GUARD = "noRefusal told by Guard needs spec.guard.qwen3Guard: Llama Guard tells of no refusals"
UNCHECKED = "spec.judgeQuality needs spec.judge"
UNKNOWN_OPPONENT = "every preference metric must name a baseline of spec.baselines"
OTHER_OPPONENT = "a gate on a preference metric must compare with the baseline that the metric names"
SAMPLED_BY_VLLM = (
    "generation.temperature above 0 needs serving.vllm: Triton's runtime decodes greedily, in production too"
)
SAME_AGAIN = (
    "generation.epochs above 1 would get the same answers again: generation.temperature is 0, and there is no hosted"
    " baseline with another temperature"
)
RESERVED_NAME = "a baseline cannot be named 'candidate': that is the model under judgement"


class Evaluation(ApiModel):
    """Judges an artifact against baselines on held-out rows, with statistics, and says Passed or not."""

    spec: EvaluationSpec = Field(description="What is wanted.")
    status: EvaluationStatus | None = Field(default=None, description="What is. Written by the operator.")

    @model_validator(mode="after")
    def _names_are_known(self) -> Self:
        metrics = {m.name for m in self.spec.metrics}
        baselines = {b.name for b in self.spec.baselines}
        if len(metrics) < len(self.spec.metrics) or len(baselines) < len(self.spec.baselines):
            raise ValueError("names of metrics and of baselines must be unique")
        if CANDIDATE in baselines:
            raise ValueError(RESERVED_NAME)
        claims = [claim for gate in self.spec.gates for claim in claims_of(gate)]
        if any(c.metric is not None and c.metric not in metrics for c in claims):
            raise ValueError(UNKNOWN_METRIC)
        if not {name for c in claims if (name := baseline_of(c)) is not None} <= baselines:
            raise ValueError(UNKNOWN_BASELINE)
        priced = {b.name for b in self.spec.baselines if b.hosted and b.hosted.price}
        costs = [g.cost for g in self.spec.gates if g.cost]
        if costs and (self.spec.serving_cost_per_hour is None or not {c.to for c in costs if c.to} <= priced):
            raise ValueError(UNKNOWN_COST)
        untimed = {b.name for b in self.spec.baselines if b.hosted and b.hosted.requests == "Batch"}
        if any(g.latency and g.latency.to in untimed for g in self.spec.gates):
            raise ValueError(UNTIMED)
        hosted = [*(b.hosted for b in self.spec.baselines), self.spec.judge, self.spec.guard]
        if self.spec.budget and any(h is not None and h.price is None for h in hosted):
            raise ValueError(UNPRICED)
        if any(m.needs_judge for m in self.spec.metrics) != (self.spec.judge is not None):
            raise ValueError(UNJUDGED)
        if self.spec.judge_quality is not None and self.spec.judge is None:
            raise ValueError(UNCHECKED)
        return self

    @model_validator(mode="after")
    def _epochs_differ(self) -> Self:
        generation, asked = self.spec.generation, [None, *(b.hosted for b in self.spec.baselines if b.hosted)]
        if float(generation.temperature) > 0 and self.spec.serving.vllm is None:
            raise ValueError(SAMPLED_BY_VLLM)
        if generation.epochs > max(times_asked(generation, hosted) for hosted in asked):
            raise ValueError(SAME_AGAIN)
        return self

    @model_validator(mode="after")
    def _guard_is_used(self) -> Self:
        if any(m.needs_guard for m in self.spec.metrics) != (self.spec.guard is not None):
            raise ValueError(UNGUARDED)
        told = any(m.no_refusal and m.needs_guard for m in self.spec.metrics)
        if told and self.spec.guard is not None and self.spec.guard.qwen3_guard is None:
            raise ValueError(SILENT_GUARD)
        return self

    @model_validator(mode="after")
    def _opponents_are_known(self) -> Self:
        over = {m.name: m.preference.over for m in self.spec.metrics if m.preference}
        if not set(over.values()) <= {b.name for b in self.spec.baselines}:
            raise ValueError(UNKNOWN_OPPONENT)
        claims = [claim for gate in self.spec.gates for claim in claims_of(gate)]
        if any(c.metric in over and baseline_of(c) not in (None, over[c.metric]) for c in claims):
            raise ValueError(OTHER_OPPONENT)
        return self


_KNOWN_METRIC = cel(
    "self.spec.gates.all(g, (!has(g.metric) || self.spec.metrics.exists(m, m.name == g.metric)) &&"
    " (!has(g.anyOf) || g.anyOf.all(c, self.spec.metrics.exists(m, m.name == c.metric))))",
    UNKNOWN_METRIC,
)
#: (test, the member of it that names a baseline)
_COMPARED = (("superiority", "over"), ("nonInferiority", "to"))
_ANY_OF_KNOWN_BASELINE = cel(
    "self.spec.gates.all(g, !has(g.anyOf) || g.anyOf.all(c, "
    + " && ".join(
        f"(!has(c.{test}) || (has(self.spec.baselines) && self.spec.baselines.exists(b, b.name == c.{test}.{name})))"
        for test, name in _COMPARED
    )
    + "))",
    UNKNOWN_BASELINE,
)
_KNOWN_BASELINE = cel(
    "self.spec.gates.all(g, "
    + " && ".join(
        f"(!has(g.{test}) || {optional}(has(self.spec.baselines) &&"
        f" self.spec.baselines.exists(b, b.name == g.{test}.{name})))"
        for test, name, optional in (
            ("superiority", "over", ""),
            ("nonInferiority", "to", ""),
            ("latency", "to", "!has(g.latency.to) || "),
            ("cost", "to", "!has(g.cost.to) || "),
        )
    )
    + ")",
    UNKNOWN_BASELINE,
)
_KNOWN_COST = cel(
    "self.spec.gates.all(g, !has(g.cost) || (has(self.spec.servingCostPerHour) && (!has(g.cost.to) ||"
    " (has(self.spec.baselines) && self.spec.baselines.exists(b, b.name == g.cost.to && has(b.hosted) &&"
    " has(b.hosted.price))))))",
    UNKNOWN_COST,
)
_TIMED = cel(
    "self.spec.gates.all(g, !has(g.latency) || !has(g.latency.to) || !has(self.spec.baselines) ||"
    " self.spec.baselines.all(b, b.name != g.latency.to || !has(b.hosted) || !has(b.hosted.requests) ||"
    " b.hosted.requests != 'Batch'))",
    UNTIMED,
)
_RESERVED_NAME = cel(
    f"!has(self.spec.baselines) || self.spec.baselines.all(b, b.name != '{CANDIDATE}')",
    RESERVED_NAME,
)
_PRICED = cel(
    "!has(self.spec.budget) || ((!has(self.spec.baselines) ||"
    " self.spec.baselines.all(b, !has(b.hosted) || has(b.hosted.price))) &&"
    " (!has(self.spec.judge) || has(self.spec.judge.price)) && (!has(self.spec.guard) || has(self.spec.guard.price)))",
    UNPRICED,
)
_TOLD_BY_GUARD = "(has(m.noRefusal) && has(m.noRefusal.toldBy) && m.noRefusal.toldBy == 'Guard')"
_JUDGED = cel(
    "self.spec.metrics.exists(m, has(m.judged) || has(m.rubric) || has(m.preference) ||"
    f" (has(m.noRefusal) && !{_TOLD_BY_GUARD})) == has(self.spec.judge)",
    UNJUDGED,
)
_GUARDED = cel(
    f"self.spec.metrics.exists(m, has(m.guard) || {_TOLD_BY_GUARD}) == has(self.spec.guard)",
    UNGUARDED,
)
_GUARD_TELLS = cel(
    f"!has(self.spec.guard) || has(self.spec.guard.qwen3Guard) || self.spec.metrics.all(m, !{_TOLD_BY_GUARD})",
    SILENT_GUARD,
)
_CHECKED = cel("!has(self.spec.judgeQuality) || has(self.spec.judge)", UNCHECKED)
_KNOWN_OPPONENT = cel(
    "self.spec.metrics.all(m, !has(m.preference) || (has(self.spec.baselines) &&"
    " self.spec.baselines.exists(b, b.name == m.preference.over)))",
    UNKNOWN_OPPONENT,
)
_SAMPLES = "(has(self.spec.generation.temperature) && double(self.spec.generation.temperature) > 0.0)"
_SAMPLED_BY_VLLM = cel(
    f"!has(self.spec.generation) || !{_SAMPLES} || (has(self.spec.serving) && has(self.spec.serving.vllm))",
    SAMPLED_BY_VLLM,
)
_IS_GREEDY = " || ".join(
    f"(has(b.hosted.{protocol}) && has(b.hosted.{protocol}.temperature) &&"
    f" double(b.hosted.{protocol}.temperature) == 0.0)"
    for protocol in Hosted.ONE_OF
)
_SAME_AGAIN = cel(
    f"!has(self.spec.generation) || !has(self.spec.generation.epochs) || self.spec.generation.epochs == 1 || {_SAMPLES}"
    f" || (has(self.spec.baselines) && self.spec.baselines.exists(b, has(b.hosted) && !({_IS_GREEDY})))",
    SAME_AGAIN,
)
_SAME_OPPONENT = cel(
    "self.spec.gates.all(g, !has(g.metric) || self.spec.metrics.all(m, m.name != g.metric || !has(m.preference) ||"
    " ((!has(g.superiority) || g.superiority.over == m.preference.over) &&"
    " (!has(g.nonInferiority) || g.nonInferiority.to == m.preference.over))))",
    OTHER_OPPONENT,
)

_ANY_OF_SAME_OPPONENT = cel(
    "self.spec.gates.all(g, !has(g.anyOf) || g.anyOf.all(c, self.spec.metrics.all(m, m.name != c.metric ||"
    " !has(m.preference) || ("
    + " && ".join(f"(!has(c.{test}) || c.{test}.{name} == m.preference.over)" for test, name in _COMPARED)
    + "))))",
    OTHER_OPPONENT,
)

KIND = KindInfo(
    kind="Evaluation",
    plural="evaluations",
    singular="evaluation",
    short_names=("eval",),
    model=Evaluation,
    rules=(
        _KNOWN_METRIC,
        _KNOWN_BASELINE,
        _KNOWN_COST,
        _TIMED,
        _RESERVED_NAME,
        _PRICED,
        _JUDGED,
        _CHECKED,
        _GUARDED,
        _GUARD_TELLS,
        _KNOWN_OPPONENT,
        _SAME_OPPONENT,
        _ANY_OF_KNOWN_BASELINE,
        _ANY_OF_SAME_OPPONENT,
        _SAMPLED_BY_VLLM,
        _SAME_AGAIN,
        *immutable_after_start(
            "candidate",
            "baselines",
            "sealed",
            "serving",
            "generation",
            "metrics",
            "judge",
            "judgeQuality",
            "guard",
            "gates",
            "statistics",
            "policy",
            "budget",
            "servingCostPerHour",
            "resources",
            "scheduling",
        ),
    ),
    columns=(
        Column("Phase", ".status.phase"),
        Column("Verdict", ".status.verdict"),
        Column("Score", ".status.score", description="First metric of the candidate, 0 to 1."),
        Column("Candidate", ".spec.candidate.fineTuneJobRef.name"),
        Column("Reason", ".status.reason"),
        Column("Approved", ".status.approval.by", priority=1, description="Who approved, where policy asks for it."),
        Column(
            "Uses", ".status.datasetUses", "integer", priority=1, description="Evaluations on the same rows, so far."
        ),
        Column("Digest", ".status.subjectDigest", priority=1),
        Column("Message", ".status.message", priority=1),
        Column("Age", ".metadata.creationTimestamp", "date"),
    ),
    selectable_fields=(".spec.candidate.fineTuneJobRef.name", ".status.verdict"),
)
