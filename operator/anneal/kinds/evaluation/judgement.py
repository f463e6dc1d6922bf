"""From the numbers in a pod's result to what status tells: names instead of indices, sentences instead of outcomes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from anneal.api.evaluation import EvaluationSpec, EvaluationStatus
from anneal.api.gates import Comparison, GateResult, Outcome
from anneal.api.metrics import MetricResult
from anneal.api.runs import EvaluateData
from anneal.api.subjects import CANDIDATE, ModelResult
from anneal.api.verdicts import gate_name, required, sentence, verdict
from anneal.kinds.evaluation.children import Subject


@dataclass(frozen=True)
class Judgement:
    """The verdict, in one sentence, and everything that it rests on as fields of status."""

    verdict: Outcome
    message: str
    fields: dict[str, Any]


def judge(spec: EvaluationSpec, subject: Subject, data: EvaluateData) -> Judgement:
    """What the numbers of a pod mean for this spec. Raises ValueError when they cannot be about it."""
    names = [CANDIDATE, *[b.name for b in spec.baselines]]
    if len(data.models) != len(names) or len(data.gates) != len(spec.gates):
        raise ValueError(
            f"the result speaks of {len(data.models)} models and {len(data.gates)} gates,"
            f" the spec of {len(names)} and {len(spec.gates)}"
        )
    try:
        comparisons = _comparisons(spec, names, data)
        results = _results(spec, names, data)
        gates = _gates(spec, data)
    except IndexError as error:
        raise ValueError("the result speaks of a metric or a model that the spec does not have") from error
    outcome = verdict(g.outcome for g in gates)
    status = EvaluationStatus(
        verdict=outcome,
        score=next((r.value for r in results if (r.metric, r.model) == (spec.metrics[0].name, CANDIDATE)), None),
        models=_models(names, subject, data),
        results=results,
        comparisons=comparisons,
        gates=gates,
        report_uri=data.report_uri,
        report_digest=data.report_digest,
    )
    fields = status.to_json()
    told = ("verdict", "score", "models", "results", "comparisons", "gates", "reportUri", "reportDigest")
    return Judgement(outcome, _summary(outcome, gates, data.models[0][0]), {f: fields[f] for f in told if f in fields})


def _models(names: Sequence[str], subject: Subject, data: EvaluateData) -> list[ModelResult]:
    return [
        ModelResult(
            name=name,
            digest=subject.subject_digest if name == CANDIDATE else subject.base_digest,
            n=asked,
            errors=errors,
            truncated=truncated,
        )
        for name, (asked, errors, truncated) in zip(names, data.models, strict=True)
    ]


def _results(spec: EvaluationSpec, names: Sequence[str], data: EvaluateData) -> list[MetricResult]:
    return [
        MetricResult(metric=spec.metrics[metric].name, model=names[model], n=n, value=value, lower=lower, upper=upper)
        for metric, model, n, value, lower, upper in data.results
    ]


def _comparisons(spec: EvaluationSpec, names: Sequence[str], data: EvaluateData) -> list[Comparison]:
    return [
        Comparison(
            metric=spec.metrics[metric].name,
            baseline=names[model],
            n=n,
            delta=delta,
            lower=lower,
            upper=upper,
            p=p,
            mde=mde,
        )
        for metric, model, n, delta, lower, upper, p, mde in data.comparisons
    ]


def _gates(spec: EvaluationSpec, data: EvaluateData) -> list[GateResult]:
    confidence = spec.statistics.confidence
    return [
        GateResult(
            gate=gate_name(gate),
            outcome=outcome,
            observed=observed,
            lower=lower,
            upper=upper,
            required=required(gate),
            rows_needed=needed,
            message=sentence(gate, outcome, observed, lower, upper, confidence, needed),
        )
        for gate, (outcome, observed, lower, upper, needed) in zip(spec.gates, data.gates, strict=True)
    ]


def _summary(outcome: Outcome, gates: Sequence[GateResult], rows: int) -> str:
    """One sentence on the whole, then the sentences of the gates that decided it."""
    total = "the gate" if len(gates) == 1 else f"all {len(gates)} gates"
    if outcome == "Passed":
        return f"The candidate passed {total} on {rows} held-out rows."
    deciding = [g for g in gates if g.outcome == outcome]
    verb = "failed" if outcome == "Failed" else "could not be shown to pass"
    return f"The candidate {verb} {len(deciding)} of {len(gates)} gates: " + " ".join(g.message for g in deciding)
