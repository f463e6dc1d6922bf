"""Evaluation: one artifact against baselines on the same held-out rows, and a verdict that gates promotion.

Where the numbers come from is told in `verdicts` (the decision) and in the evaluator image (the estimates).
"""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from anneal.api.conditions import Conditions
from anneal.api.kind import Column, KindInfo
from anneal.api.model import (
    ApiModel,
    Decimal,
    Digest,
    EntryName,
    Sentence,
    Timestamp,
    cel,
    immutable_after_start,
)
from anneal.api.references import LocalReference, PvcUri
from anneal.api.workloads import Resources, Scheduling

METRICS = ("exactMatch", "normalizedMatch", "f1", "regex", "jsonField")
TESTS = ("absolute", "superiority", "nonInferiority")
RUNTIMES = ("triton",)

Outcome = Literal["Passed", "Failed", "Inconclusive"]
#: The name that results use for the model under judgement.
CANDIDATE = "candidate"


class Candidate(ApiModel):
    """The model under judgement."""

    fine_tune_job_ref: LocalReference = Field(description="FineTuneJob whose artifact is judged.")


class FromCandidate(ApiModel):
    """The base model that the candidate was tuned from."""


class Baseline(ApiModel):
    """A model that answers the same rows, to compare with."""

    ONE_OF = ("fromCandidate",)

    name: EntryName = Field(description="Name that gates use for it; not 'candidate'.")
    from_candidate: FromCandidate | None = Field(
        default=None, description="Take the base model that the candidate was tuned from."
    )


class ExactMatch(ApiModel):
    """1 where the answer, stripped of surrounding white space, equals the reference."""


class NormalizedMatch(ApiModel):
    """1 where answer and reference are equal after NFKC, case folding, and dropping punctuation and articles."""


class TokenF1(ApiModel):
    """Harmonic mean of word precision and recall of the normalised answer (as in SQuAD, Rajpurkar et al. 2016)."""


class Regex(ApiModel):
    """1 where what the pattern finds in the answer equals what it finds in the reference."""

    pattern: str = Field(
        min_length=1,
        max_length=512,
        description="Regular expression with at most one group; its last match counts, in answer and reference.",
    )


class JsonField(ApiModel):
    """1 where a field of the JSON object in the answer equals that of the reference."""

    path: str = Field(
        pattern=r"^[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*$",
        max_length=256,
        description="Field names joined by dots, such as order.status.",
    )


class Metric(ApiModel):
    """How an answer is scored against its reference, 0 to 1, higher is better. Exactly one kind is set."""

    ONE_OF = METRICS

    name: EntryName = Field(description="Name that gates use for it.")
    exact_match: ExactMatch | None = Field(default=None, description=ExactMatch.__doc__)
    normalized_match: NormalizedMatch | None = Field(default=None, description=NormalizedMatch.__doc__)
    f1: TokenF1 | None = Field(default=None, description=TokenF1.__doc__)
    regex: Regex | None = Field(default=None, description=Regex.__doc__)
    json_field: JsonField | None = Field(default=None, description=JsonField.__doc__)


class Absolute(ApiModel):
    """The metric itself must be high enough: decided on its confidence bounds, never on the point."""

    min_lower_bound: Decimal = Field(description="The lower confidence bound must be at least this, 0 to 1.")


class Superiority(ApiModel):
    """The candidate must beat a baseline on the same rows."""

    over: EntryName = Field(description="Name of the baseline.")
    min_effect: Decimal = Field(
        default="0",
        description="The lower bound of the paired difference must be above this, 0 to 1. Default: 0.",
    )


class NonInferiority(ApiModel):
    """The candidate must not be worse than a baseline by more than a margin."""

    to: EntryName = Field(description="Name of the baseline.")
    margin: Decimal = Field(description="Largest loss that is acceptable, 0 to 1.")


class Gate(ApiModel):
    """One demand on one metric. Exactly one test is set; all gates must pass."""

    ONE_OF = TESTS

    metric: EntryName = Field(description="Name of a metric of this object.")
    absolute: Absolute | None = Field(default=None, description=Absolute.__doc__)
    superiority: Superiority | None = Field(default=None, description=Superiority.__doc__)
    non_inferiority: NonInferiority | None = Field(default=None, description=NonInferiority.__doc__)


class TritonServing(ApiModel):
    """Serve with NVIDIA Triton Inference Server."""


class Serving(ApiModel):
    """The runtime that answers: what is judged is what will be served."""

    ONE_OF = RUNTIMES

    triton: TritonServing | None = Field(default=None, description=TritonServing.__doc__)


class Generation(ApiModel):
    """How answers are generated, for every model alike. Decoding is greedy, so that runs repeat."""

    max_tokens: int = Field(
        default=256,
        ge=1,
        le=32_768,
        description="Longest answer, in tokens; an answer cut off here is an error, not a wrong answer. Default: 256.",
    )
    concurrency: int = Field(default=8, ge=1, le=256, description="Requests under way at once. Default: 8.")
    timeout_seconds: int = Field(
        default=120, ge=1, le=3600, description="Longest wait for one answer, in seconds. Default: 120."
    )


class Statistics(ApiModel):
    """How sure to be."""

    confidence: Literal["0.90", "0.95", "0.99"] = Field(
        default="0.95", description="Confidence of every interval, two-sided. Default: 0.95."
    )
    resamples: int = Field(default=10_000, ge=1000, le=100_000, description="Bootstrap resamples. Default: 10000.")
    seed: int = Field(default=0, ge=0, le=2_147_483_647, description="Seed of the resampling. Default: 0.")


class Policy(ApiModel):
    """What to do with answers that could not be had."""

    max_error_rate: Decimal = Field(
        default="0.02",
        description="Share of failed or cut-off answers of any model above which the evaluation fails instead of"
        " judging, 0 to 1. Default: 0.02.",
    )


class EvaluationSpec(ApiModel):
    """Who is judged, against whom, by what, and what must hold."""

    candidate: Candidate = Field(description="The model under judgement.")
    baselines: list[Baseline] = Field(
        default_factory=list,
        max_length=4,
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]},
        description="Models to compare with. Default: none.",
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
    gates: list[Gate] = Field(
        min_length=1,
        max_length=8,
        json_schema_extra={"x-kubernetes-list-type": "atomic"},
        description="What must hold for the verdict Passed.",
    )
    statistics: Statistics = Field(default_factory=Statistics, description="How sure to be.")
    policy: Policy = Field(default_factory=Policy, description="What to do with answers that could not be had.")
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


class ModelResult(ApiModel):
    """One model's answers, counted."""

    name: str = Field(max_length=40, description="'candidate' or the name of the baseline.")
    digest: Digest = Field(description="Digest of what answered.")
    n: int = Field(ge=0, description="Rows asked.")
    errors: int = Field(default=0, ge=0, description="Rows without an answer.")
    truncated: int = Field(default=0, ge=0, description="Answers cut off at maxTokens; they count as errors too.")


class MetricResult(ApiModel):
    """One metric of one model, with its bounds."""

    metric: str = Field(max_length=40, description="Name of the metric.")
    model: str = Field(max_length=40, description="Name of the model.")
    n: int = Field(ge=0, description="Rows scored.")
    value: str = Field(max_length=16, description="Mean score, 0 to 1.")
    lower: str = Field(max_length=16, description="Lower confidence bound.")
    upper: str = Field(max_length=16, description="Upper confidence bound.")


class Comparison(ApiModel):
    """Candidate against one baseline on one metric, paired by row."""

    metric: str = Field(max_length=40, description="Name of the metric.")
    baseline: str = Field(max_length=40, description="Name of the baseline.")
    n: int = Field(ge=0, description="Rows that both answered.")
    delta: str = Field(max_length=16, description="Mean paired difference, candidate minus baseline.")
    lower: str = Field(max_length=16, description="Lower confidence bound of the difference.")
    upper: str = Field(max_length=16, description="Upper confidence bound of the difference.")
    p: str | None = Field(default=None, max_length=16, description="McNemar mid-p; only for 0/1 metrics.")
    mde: str = Field(max_length=16, description="Smallest true difference that this many rows detect with power 0.8.")
    n_needed: int | None = Field(
        default=None, ge=0, description="Rows that would settle the inconclusive gate, with power 0.8."
    )


class GateResult(ApiModel):
    """One gate's outcome."""

    gate: str = Field(max_length=160, description="The gate in words, such as 'accuracy superiority over base'.")
    outcome: Outcome = Field(description="Passed, Failed or Inconclusive.")
    observed: str = Field(max_length=16, description="Point estimate.")
    lower: str = Field(max_length=16, description="Lower confidence bound.")
    upper: str = Field(max_length=16, description="Upper confidence bound.")
    required: str = Field(max_length=40, description="What the gate demands.")
    message: Sentence = Field(description="The outcome in one sentence.")


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
    percent: int | None = Field(default=None, ge=0, le=100, description="Answers had, in percent.")
    models: list[ModelResult] = Field(
        default_factory=list,
        max_length=5,
        json_schema_extra={"x-kubernetes-list-type": "atomic"},
        description="Answers of each model, counted.",
    )
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
    report_uri: PvcUri | None = Field(default=None, description="Directory of answers, scores and the full report.")
    report_digest: Digest | None = Field(default=None, description="Digest of report.json in there.")


UNKNOWN_METRIC = "every gate must name a metric of spec.metrics"
UNKNOWN_BASELINE = "every superiority or nonInferiority gate must name a baseline of spec.baselines"
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
        if any(g.metric not in metrics for g in self.spec.gates):
            raise ValueError(UNKNOWN_METRIC)
        compared = {g.superiority.over for g in self.spec.gates if g.superiority}
        compared |= {g.non_inferiority.to for g in self.spec.gates if g.non_inferiority}
        if not compared <= baselines:
            raise ValueError(UNKNOWN_BASELINE)
        return self


_KNOWN_METRIC = cel(
    "self.spec.gates.all(g, self.spec.metrics.exists(m, m.name == g.metric))",
    UNKNOWN_METRIC,
)
_KNOWN_BASELINE = cel(
    "self.spec.gates.all(g, (!has(g.superiority) || (has(self.spec.baselines) &&"
    " self.spec.baselines.exists(b, b.name == g.superiority.over))) && (!has(g.nonInferiority) ||"
    " (has(self.spec.baselines) && self.spec.baselines.exists(b, b.name == g.nonInferiority.to))))",
    UNKNOWN_BASELINE,
)
_RESERVED_NAME = cel(
    f"!has(self.spec.baselines) || self.spec.baselines.all(b, b.name != '{CANDIDATE}')",
    RESERVED_NAME,
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
        _RESERVED_NAME,
        *immutable_after_start(
            "candidate",
            "baselines",
            "serving",
            "generation",
            "metrics",
            "gates",
            "statistics",
            "policy",
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
        Column("Digest", ".status.subjectDigest", priority=1),
        Column("Message", ".status.message", priority=1),
        Column("Age", ".metadata.creationTimestamp", "date"),
    ),
    selectable_fields=(".spec.candidate.fineTuneJobRef.name", ".status.verdict"),
)
