"""From the numbers in a pod's result to what status tells: names instead of indices, sentences instead of outcomes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Any

from anneal.api.costs import CostBenefit, Costs, amount, cost_benefit, costs_of, price_of_a_query
from anneal.api.evaluation import EvaluationSpec, EvaluationStatus
from anneal.api.gates import Comparison, Gate, GateResult, Outcome
from anneal.api.guards import GuardResult, HazardCount
from anneal.api.judging import JudgedMetric, JudgeResult
from anneal.api.metrics import MetricResult
from anneal.api.runs import EvaluateData, GateRow, ModelRow
from anneal.api.subjects import CANDIDATE, Baseline, ModelResult, times_asked
from anneal.api.verdicts import claims_of, gate_name, required, sentence, verdict
from anneal.kinds.evaluation.children import Subject


@dataclass(frozen=True)
class Judgement:
    """The verdict, in one sentence, and everything that it rests on as fields of status."""

    verdict: Outcome
    message: str
    fields: dict[str, Any]


def judge(spec: EvaluationSpec, subject: Subject, data: EvaluateData, training_cost: str | None = None) -> Judgement:
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
        judged = _judge(spec, data)
    except IndexError as error:
        raise ValueError("the result speaks of a metric or a model that the spec does not have") from error
    models = _models(spec, subject, data)
    outcome = verdict((g.outcome for g in gates), spec.policy.on_inconclusive)
    spent = _cost(data)
    costs = costs_of(spec.serving_cost_per_hour, data.queries_per_hour, training_cost, spent)
    status = EvaluationStatus(
        verdict=outcome,
        score=next((r.value for r in results if (r.metric, r.model) == (spec.metrics[0].name, CANDIDATE)), None),
        models=models,
        cost=spent,
        costs=costs if costs.to_json() else None,
        cost_benefit=_cost_benefit(spec.serving_cost_per_hour, costs, models) or None,
        judge=judged,
        guard=_guard(spec, data),
        results=results,
        comparisons=comparisons,
        gates=gates,
        report_uri=data.report_uri,
        report_digest=data.report_digest,
    )
    fields = status.to_json()
    told = (
        "verdict",
        "score",
        "models",
        "cost",
        "costs",
        "costBenefit",
        "judge",
        "guard",
        "results",
        "comparisons",
        "gates",
        "reportUri",
        "reportDigest",
    )
    return Judgement(outcome, _summary(outcome, gates, _asked(models)), {f: fields[f] for f in told if f in fields})


def _models(spec: EvaluationSpec, subject: Subject, data: EvaluateData) -> list[ModelResult]:
    baselines: list[Baseline | None] = [None, *spec.baselines]
    return [_model(spec, baseline, subject, row) for baseline, row in zip(baselines, data.models, strict=True)]


def _model(spec: EvaluationSpec, baseline: Baseline | None, subject: Subject, row: ModelRow) -> ModelResult:
    """The candidate where `baseline` is None."""
    asked, errors, truncated, declined, empty, read, written, spent, beyond = row
    hosted = baseline.hosted if baseline is not None else None
    return ModelResult(
        name=CANDIDATE if baseline is None else baseline.name,
        digest=_digest(baseline, subject) if hosted is None else None,
        model=_called(hosted.model, beyond) if hosted is not None else None,
        n=asked,
        epochs=times_asked(spec.generation, hosted),
        errors=errors,
        truncated=truncated,
        declined=declined if hosted is not None else None,
        empty=empty if hosted is not None else None,
        input_tokens=read,
        output_tokens=written,
        cost=spent or None,
        cost_per_query=price_of_a_query(hosted.price, read, written, asked) if hosted is not None else None,
    )


def _digest(baseline: Baseline | None, subject: Subject) -> str:
    """Of what answered in our own server."""
    return (
        subject.subject_digest
        if baseline is None
        else subject.incumbent_digests.get(baseline.name, subject.base_digest)
    )


def _called(asked: str, beyond: str) -> str:
    """What a hosted model called itself: the name asked for, or the dated snapshot behind it."""
    return asked.removesuffix("-latest") + beyond if beyond else asked


def _judge(spec: EvaluationSpec, data: EvaluateData) -> JudgeResult | None:
    if spec.judge is None or data.judge is None:
        return None
    asked, errors, spent, beyond = data.judge
    metrics = [JudgedMetric.of(spec.metrics[row[0]].name, row) for row in data.judged]
    return JudgeResult(
        model=_called(spec.judge.model, beyond), n=asked, errors=errors, cost=spent or None, metrics=metrics
    )


def _guard(spec: EvaluationSpec, data: EvaluateData) -> GuardResult | None:
    if spec.guard is None or data.guard is None:
        return None
    asked, errors, spent, beyond = data.guard
    hazards = [HazardCount(category=category, answers=answers) for category, answers in data.hazards]
    model = _called(spec.guard.open_ai.model, beyond)
    return GuardResult(model=model, n=asked, errors=errors, cost=spent or None, categories=hazards or None)


def _cost(data: EvaluateData) -> str | None:
    """Spent on all models, the judge and the guard; None when none has a price."""
    rows: list[tuple[object, ...]] = [*data.models, *(row for row in (data.judge, data.guard) if row)]
    spent = [str(cost) for *_, cost, _ in rows if cost]
    try:
        return amount(sum(map(Decimal, spent), Decimal(0))) if spent else None
    except InvalidOperation as error:
        raise ValueError(f"the result speaks of costs that are no numbers: {spent}") from error


def _cost_benefit(per_hour: str | None, costs: Costs, models: Sequence[ModelResult]) -> list[CostBenefit]:
    """Against each hosted model with a price; empty where nobody told what serving costs."""
    if per_hour is None:
        return []
    return [cost_benefit(per_hour, costs, m.name, m.cost_per_query) for m in models if m.cost_per_query]


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
    claims = data.claims or [""] * len(data.gates)
    return [_gate(spec, *told) for told in zip(spec.gates, data.gates, claims, strict=True)]


def _gate(spec: EvaluationSpec, gate: Gate, row: GateRow, digits: str) -> GateResult:
    """`digits` are the indices of the claims that the outcome rests on, the surest first; '' without several claims."""
    if (gate.any_of is None) != (digits == ""):
        raise ValueError(f"the result speaks of the claims {digits!r} of the gate '{gate_name(gate)}'")
    outcome, observed, lower, upper, needed = row
    claims = [int(digit) for digit in digits] or [0]
    told = [claims_of(gate)[claim] for claim in claims]
    return GateResult(
        gate=gate_name(gate),
        outcome=outcome,
        observed=observed,
        lower=lower,
        upper=upper,
        required=required(told[0]),
        rows_needed=needed,
        passed=[gate_name(claim) for claim in told] if gate.any_of and outcome == "Passed" else None,
        message=sentence(gate, outcome, observed, lower, upper, spec.statistics.confidence, needed, claims),
    )


def _asked(models: Sequence[ModelResult]) -> str:
    """Such as '150 held-out rows', and how often those that sample were asked them."""
    times = max(model.epochs for model in models)
    said = f"{models[0].n // models[0].epochs} held-out rows"
    return said if times == 1 else f"{said}, asked {times} times each"


def _summary(outcome: Outcome, gates: Sequence[GateResult], rows: str) -> str:
    """One sentence on the whole, then the sentences of the gates that decided it."""
    total = "the gate" if len(gates) == 1 else f"all {len(gates)} gates"
    if outcome == "Passed":
        return f"The candidate passed {total} on {rows}."
    failed = [g for g in gates if g.outcome == "Failed"]
    deciding = failed or [g for g in gates if g.outcome == "Inconclusive"]
    verb = "failed" if failed else "could not be shown to pass"
    return f"The candidate {verb} {len(deciding)} of {len(gates)} gates: " + " ".join(g.message for g in deciding)
