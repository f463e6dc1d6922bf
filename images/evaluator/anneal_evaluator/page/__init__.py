"""report.html: the judgement for people, on one page that loads nothing and runs nothing.

What decides comes first: the verdict, then the gates, then the evidence. Every text that came from data or a model is
escaped; behind that stands a content policy that allows the page's own style sheet by its digest and nothing else.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Sequence
from hashlib import sha256
from html import escape
from importlib.resources import files
from typing import Any

from anneal.api.runs import EvaluateRun
from anneal_evaluator.decide import Scores
from anneal_evaluator.held_out import HeldOutRow
from anneal_evaluator.page import evidence, examples
from anneal_evaluator.page.costs import costs
from anneal_evaluator.page.elements import SYMBOLS, code
from anneal_evaluator.page.gates import gates
from anneal_evaluator.page.training import training_data
from anneal_evaluator.score import Answers

_SUMMARY = {
    "Passed": "Every gate passed: the candidate may be promoted.",
    "Failed": "At least one gate failed, or undecided gates count as failed: the candidate must not be promoted.",
    "Inconclusive": "No gate failed, but the rows cannot tell whether all would pass.",
}


def page(run: EvaluateRun, report: dict[str, Any], rows: Sequence[HeldOutRow], answers: Answers, scores: Scores) -> str:
    """The whole page as HTML. `report` is what report.json holds."""
    style = files(__name__).joinpath("style.css").read_text(encoding="utf-8")
    policy = f"default-src 'none'; style-src 'sha256-{_digest(style)}'; base-uri 'none'; form-action 'none'"
    name = f"{run.object.namespace}/{run.object.name}"
    body = "".join(
        (
            _header(run, report, len(rows)),
            "<main>",
            gates(report),
            evidence.differences(report),
            evidence.scores(report),
            evidence.categories(report),
            evidence.confusion(report),
            examples.wins_and_losses(run, rows, answers, scores),
            evidence.judge(report),
            evidence.guard(report),
            training_data(report),
            evidence.funnel(report),
            evidence.answers(report),
            examples.errors(run, answers),
            costs(report),
            evidence.provenance(report),
            "</main>",
        )
    )
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="color-scheme" content="light dark">'
        f"<title>{escape(report['verdict'])}: {escape(name)}</title><style>{style}</style></head>"
        f"<body>{body}</body></html>\n"
    )


def _header(run: EvaluateRun, report: dict[str, Any], rows: int) -> str:
    verdict = report["verdict"]
    times = max(model["epochs"] for model in report["models"])
    often = "" if times == 1 else f", asked {times} times each"
    baselines = " and ".join(m["name"] for m in report["models"][1:]) or "no other model"
    return (
        f'<header class="{verdict}"><p class="over">Evaluation {escape(run.object.namespace)}/'
        f"{escape(run.object.name)}</p>"
        f"<h1>{SYMBOLS[verdict]} {verdict}</h1>"
        f'<p class="lead">{_SUMMARY[verdict]}</p>'
        f"<p>Candidate {code(run.candidate_digest)} against {escape(baselines)}, on {rows} held-out rows{often}."
        "</p></header>"
    )


def _digest(style: str) -> str:
    return b64encode(sha256(style.encode()).digest()).decode()
