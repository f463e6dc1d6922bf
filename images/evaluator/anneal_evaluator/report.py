"""The judgement as documents: report.json for machines, compact rows for the termination message.

report.json is in canonical form, so that its digest, which travels in the pod's result, is that of the file.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np

from anneal.api.artifacts import digest_of_file
from anneal.api.costs import amount
from anneal.api.runs import EvaluateData, EvaluateRun
from anneal.api.subjects import CANDIDATE, Hosted
from anneal.api.verdicts import baseline_of, bound, gate_name, is_ceiling, measure_of, required, sentence
from anneal_evaluator.decide import ClaimDecision, Comparison, Estimate, GateDecision, Judgement
from anneal_evaluator.epochs import each_once
from anneal_evaluator.score import Answers
from anneal_hosted.answers import StoredAnswer, write_atomically
from anneal_hosted.endpoints.names import snapshot

REPORT_FILE = "report.json"
#: Spent on each model in this evaluation, in the currency of the prices.
Spent = Mapping[str, Decimal]


def number(value: float) -> str:
    """A number in results: four decimals, a thousandth of what any bound here can mean."""
    return f"{value:.4f}"


def gate_numbers(decision: GateDecision) -> tuple[str, str, str]:
    """(estimate, lower, upper) with the decimals that its unit needs; 'inf' where nothing bounds it from above."""
    decimals = {"Milliseconds": 1, "Cost": 6}.get(measure_of(decision.gate), 4)
    estimate = decision.estimate
    value, lower, upper = (f"{x:.{decimals}f}" for x in (estimate.value, estimate.bounds.lower, estimate.bounds.upper))
    return value, lower, upper


def gate_sentence(run: EvaluateRun, decision: GateDecision) -> str:
    """The gate's outcome for people."""
    return sentence(
        decision.gate,
        decision.outcome,
        *gate_numbers(decision),
        run.statistics.confidence,
        decision.rows_needed,
        decision.rests_on,
    )


def document(
    run: EvaluateRun,
    answers: Answers,
    judgement: Judgement,
    server: str,
    spent: Spent,
    files: Mapping[str, str],
) -> dict[str, Any]:
    """report.json: what was judged, by what, and everything found. `files` are the digests of those beside it."""
    return {
        "evaluation": run.object.to_json(),
        "verdict": judgement.verdict,
        "candidateDigest": run.candidate_digest,
        "baseDigest": run.base_digest,
        "heldOut": {
            "uri": run.held_out.uri,
            "digest": run.held_out_digest,
            "rows": _rows(run, answers),
            **({"compared": run.held_out_compared} if run.held_out_compared is not None else {}),
        },
        "server": server,
        "generation": run.generation.to_json(),
        "statistics": run.statistics.to_json(),
        "policy": run.policy.to_json(),
        "models": [_model(run, index, answers, spent) for index in range(len(run.models))],
        "results": [
            {"metric": run.metrics[m].name, "model": label(run, k), **_estimate(estimate)}
            for (m, k), estimate in judgement.results.items()
        ],
        "comparisons": [_comparison(run, comparison) for comparison in judgement.comparisons],
        "gates": [_gate(run, decision) for decision in judgement.gates],
        "files": dict(files),
    }


def _rows(run: EvaluateRun, answers: Answers) -> int:
    return len(answers[run.models[0]]) // run.generation.epochs


def categories(run: EvaluateRun, found: Mapping[str, Judgement]) -> list[dict[str, Any]]:
    """The scores of every metric and model by category."""
    models = range(len(run.models))
    return [
        {
            "category": category,
            "metric": metric.name,
            "n": max(judgement.results[m, k].n for k in models if (m, k) in judgement.results),
            "scores": {
                label(run, k): _estimate(judgement.results[m, k]) for k in models if (m, k) in judgement.results
            },
        }
        for m, metric in enumerate(run.metrics)
        for category, judgement in found.items()
        if metric.covers(category)
    ]


def write_report(directory: Path, report: dict[str, Any]) -> str:
    """Writes report.json in canonical form and returns its digest."""
    path = directory / REPORT_FILE
    write_atomically(path, json.dumps(report, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode())
    return digest_of_file(path)


def data(
    run: EvaluateRun,
    answers: Answers,
    judgement: Judgement,
    spent: Spent,
    report_digest: str,
    queries_per_hour: int | None = None,
) -> EvaluateData:
    """The judgement as it fits into a termination message."""
    return EvaluateData(
        models=[_counts(run, index, answers, spent) for index in range(len(run.models))],
        results=[
            (m, k, e.n, number(e.value), number(e.bounds.lower), number(e.bounds.upper))
            for (m, k), e in judgement.results.items()
        ],
        comparisons=[
            (
                c.metric,
                c.model,
                c.difference.n,
                number(c.difference.value),
                number(c.difference.bounds.lower),
                number(c.difference.bounds.upper),
                None if c.mid_p is None else f"{c.mid_p:.2g}",
                number(c.mde),
            )
            for c in judgement.comparisons
        ],
        gates=[(d.outcome, *gate_numbers(d), d.rows_needed) for d in judgement.gates],
        claims=_claims(judgement),
        queries_per_hour=queries_per_hour,
        report_uri=run.report.uri,
        report_digest=report_digest,
    )


def _claims(judgement: Judgement) -> list[str]:
    found = ["".join(map(str, decision.rests_on)) for decision in judgement.gates]
    return found if any(found) else []


def label(run: EvaluateRun, model: int) -> str:
    """What results call a model: 'candidate', or the baseline's name."""
    return CANDIDATE if model == 0 else run.baselines[model - 1].name


def _hosted(run: EvaluateRun, model: int) -> Hosted | None:
    return None if model == 0 else run.baselines[model - 1].hosted


def _counts(
    run: EvaluateRun, model: int, answers: Answers, spent: Spent
) -> tuple[int, int, int, int, int, int, int, str, str]:
    """A model's row of EvaluateData."""
    given, hosted = each_once(run, answers[run.models[model]]), _hosted(run, model)
    outcomes = [answer.outcome for answer in given]
    cost = amount(spent[run.models[model]]) if hosted is not None and hosted.price is not None else ""
    beyond = snapshot(hosted.model, called_by(given)) if hosted is not None else ""
    return (
        len(outcomes),
        len(outcomes) - outcomes.count("answered"),
        outcomes.count("truncated"),
        outcomes.count("declined"),
        outcomes.count("empty"),
        sum(answer.input_tokens for answer in given),
        sum(answer.output_tokens for answer in given),
        cost,
        beyond or "",
    )


def called_by(given: Sequence[StoredAnswer]) -> str:
    """What the hosted model that answered called itself; '' when it never said."""
    return next((answer.model for answer in given if answer.model), "")


def _model(run: EvaluateRun, index: int, answers: Answers, spent: Spent) -> dict[str, Any]:
    all_epochs, hosted = answers[run.models[index]], _hosted(run, index)
    given = each_once(run, all_epochs)
    was_answered = np.array([answer.outcome == "answered" for answer in all_epochs])
    asked, errors, truncated, declined, empty, read, written, cost, _ = _counts(run, index, answers, spent)
    seconds = [answer.seconds for answer in given if answer.outcome == "answered"]
    p50, p95 = np.percentile(seconds, [50, 95]) if seconds else (0.0, 0.0)
    ours = {"digest": run.digest_of(index)}
    return {
        "name": label(run, index),
        **(ours if hosted is None else {"hosted": hosted.to_json(), "model": called_by(given)}),
        "asked": asked,
        "epochs": run.times_asked(index),
        "rowsAnswered": int(was_answered.reshape(-1, run.generation.epochs).any(axis=1).sum()),
        "errors": errors,
        "truncated": truncated,
        "declined": declined,
        "empty": empty,
        "reused": sum(1 for answer in given if answer.reused),
        "inputTokens": read,
        "outputTokens": written,
        **({"cost": cost} if cost else {}),
        "secondsP50": number(float(p50)),
        "secondsP95": number(float(p95)),
    }


def _gate(run: EvaluateRun, decision: GateDecision) -> dict[str, Any]:
    value, lower, upper = gate_numbers(decision)
    return {
        "gate": gate_name(decision.gate),
        "measure": measure_of(decision.gate),
        "baseline": baseline_of(decision.told),
        "bound": f"{bound(decision.told):g}",
        "isCeiling": is_ceiling(decision.told),
        "outcome": decision.outcome,
        "required": required(decision.told),
        "claims": [_claim(claim) for claim in decision.claims],
        "message": gate_sentence(run, decision),
        "rowsNeeded": decision.rows_needed,
        **_estimate(decision.estimate),
        "value": value,
        "lower": lower,
        "upper": upper,
    }


def _claim(decision: ClaimDecision) -> dict[str, Any]:
    return {
        "claim": gate_name(decision.claim),
        "outcome": decision.outcome,
        "required": required(decision.claim),
        "confidence": f"{decision.confidence:.6g}",
        "mde": number(decision.mde),
        **_estimate(decision.estimate),
    }


def _estimate(estimate: Estimate) -> dict[str, Any]:
    return {
        "n": estimate.n,
        "value": number(estimate.value),
        "lower": number(estimate.bounds.lower),
        "upper": number(estimate.bounds.upper),
        "method": estimate.method,
    }


def _comparison(run: EvaluateRun, comparison: Comparison) -> dict[str, Any]:
    return {
        "metric": run.metrics[comparison.metric].name,
        "baseline": label(run, comparison.model),
        **_estimate(comparison.difference),
        "mcnemarMidP": comparison.mid_p,
        "mde": number(comparison.mde),
    }
