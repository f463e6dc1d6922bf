"""report.html: the judgement for people, on one page that loads nothing and runs nothing.

Every text that came from data or a model is escaped; a strict content policy stands behind that.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from typing import Any

from anneal.api.runs import EvaluateRun
from anneal.api.subjects import CANDIDATE
from anneal_evaluator.decide import Judgement, Scores
from anneal_evaluator.held_out import HeldOutRow
from anneal_evaluator.report import label
from anneal_evaluator.score import Answers

#: Rows shown of each kind, and characters of each text.
_ROWS = 20
_CHARACTERS = 400
_WIDTH = 360  # of a picture, in pixels
_STYLE = """
body{font:15px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#222}
table{border-collapse:collapse;margin:1rem 0}td,th{padding:.3rem .7rem;border-bottom:1px solid #ddd;text-align:left;
vertical-align:top}.Passed{color:#176b2c}.Failed{color:#a11}.Inconclusive{color:#8a5a00}code{font-size:90%}
td{overflow-wrap:anywhere}
"""


def page(
    run: EvaluateRun,
    report: dict[str, Any],
    judgement: Judgement,
    rows: Sequence[HeldOutRow],
    answers: Answers,
    scores: Scores,
) -> str:
    """The whole page as HTML."""
    title = f"{run.object.namespace}/{run.object.name}: {judgement.verdict}"
    subjects = (
        f"Candidate <code>{run.candidate_digest}</code>",
        f"Base <code>{run.base_digest}</code>",
        f"{len(rows)} held-out rows <code>{run.held_out_digest}</code>, {escape(report['server'])}",
    )
    body = "".join(
        [
            f"<h1>{escape(run.object.name)}: {_outcome(judgement.verdict)}</h1>",
            f"<p>{'<br>'.join(subjects)}</p>",
            "<h2>Gates</h2>",
            "".join(f"<p>{_outcome(gate['outcome'])} {escape(gate['message'])}</p>" for gate in report["gates"]),
            "<h2>Scores</h2>",
            _table(
                ["Metric", "Model", "Rows", "Mean", f"{float(run.statistics.confidence):.0%} interval"],
                (
                    [escape(r["metric"]), escape(r["model"]), r["n"], r["value"], _picture(r, 0.0, 1.0)]
                    for r in report["results"]
                ),
            ),
            "<h2>Candidate minus baseline, on the same rows</h2>",
            _table(
                ["Metric", "Baseline", "Rows", "Difference", "Interval", "McNemar mid-p", "Detectable", "Rows needed"],
                (
                    [escape(c["metric"]), escape(c["baseline"]), c["n"], c["value"], _picture(c, -1.0, 1.0)]
                    + ["" if c[k] is None else str(c[k]) for k in ("mcnemarMidP", "mde")]
                    for c in report["comparisons"]
                ),
            ),
            "<h2>Answers</h2>",
            _table(
                ["Model", "Asked", "Errors", "Cut off", "Declined", "Empty", "Tokens", "Cost", "Seconds p50, p95"],
                (
                    [escape(f"{m['name']} ({m['model']})" if m.get("model") else m["name"])]
                    + [m[k] for k in ("asked", "errors", "truncated", "declined", "empty", "outputTokens")]
                    + [m.get("cost", ""), f"{m['secondsP50']}, {m['secondsP95']}"]
                    for m in report["models"]
                ),
            ),
            *(_confusion(found) for found in report.get("confusion", ()) if found["model"] == CANDIDATE),
            _wrong_answers(run, rows, answers, scores),
            _errors(run, answers),
        ]
    )
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">"
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head><body>{body}</body></html>\n"
    )


def _outcome(outcome: str) -> str:
    return f'<strong class="{escape(outcome)}">{escape(outcome)}</strong>'


def _table(heads: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A table; cells are HTML already."""
    head = "".join(f"<th>{escape(text)}</th>" for text in heads)
    lines = "".join("<tr>" + "".join(f"<td>{value}</td>" for value in row) + "</tr>" for row in rows)
    return f"<table><tr>{head}</tr>{lines}</table>" if lines else "<p>None.</p>"


def _picture(estimate: dict[str, Any], low: float, high: float) -> str:
    """A bar from the zero of the scale to the value, and the interval as a line over it."""

    def x(value: float) -> float:
        return round((value - low) / (high - low) * _WIDTH, 1)

    value, lower, upper = (float(estimate[k]) for k in ("value", "lower", "upper"))
    start, end = sorted((x(0.0), x(value)))
    text = f"{estimate['lower']} to {estimate['upper']}"
    return (
        f'<svg width="{_WIDTH}" height="20" role="img" aria-label="{text}">'
        f'<rect width="{_WIDTH}" height="20" fill="#f2f2f2"/>'
        f'<rect x="{start}" y="5" width="{max(1.0, end - start)}" height="10" fill="#8fb8de"/>'
        f'<path d="M{x(lower)} 4v12m0-6H{x(upper)}m0-6v12" stroke="#123" fill="none"/>'
        f'<path d="M{x(0.0)} 0v20" stroke="#999"/></svg><br>{text}'
    )


def _confusion(found: dict[str, Any]) -> str:
    """What the candidate took for what, the most frequent first."""
    wrong = [cell for cell in found["cells"] if cell["reference"] != cell["answered"]]
    rows = ([_said(cell["reference"]), _said(cell["answered"]), cell["rows"]] for cell in wrong[:_ROWS])
    return f"<h2>Taken for another ({escape(found['metric'])})</h2>{_table(['Label', 'Answered', 'Rows'], rows)}"


def _wrong_answers(run: EvaluateRun, rows: Sequence[HeldOutRow], answers: Answers, scores: Scores) -> str:
    """Where the candidate loses most by the first metric, beside what the baselines said."""
    own = scores[0, 0]
    worst = sorted((i for i in range(len(rows)) if own[i] < 1), key=lambda i: float(own[i]))[:_ROWS]
    table = _table(
        ["Row", "Question", "Reference", *(label(run, k) for k in range(len(run.models)))],
        (
            [
                _said(text)
                for text in (
                    rows[i].id,
                    rows[i].messages[-1].content,
                    rows[i].reference,
                    *(answers[model][i].text for model in run.models),
                )
            ]
            for i in worst
        ),
    )
    return f"<h2>Where the candidate is not right ({escape(run.metrics[0].name)})</h2>{table}"


def _errors(run: EvaluateRun, answers: Answers) -> str:
    errors = [
        (label(run, k), answer)
        for k, model in enumerate(run.models)
        for answer in answers[model]
        if answer.outcome != "answered"
    ]
    table = _table(
        ["Model", "Row", "Error", "Said"],
        ([_said(name), _said(e.row), _said(f"{e.outcome}: {e.detail}"), _said(e.text)] for name, e in errors[:_ROWS]),
    )
    return f"<h2>Errors ({len(errors)})</h2>{table}"


def _said(text: str) -> str:
    """Text from data or a model, bounded and escaped."""
    return escape(text if len(text) <= _CHARACTERS else text[:_CHARACTERS] + "…")
