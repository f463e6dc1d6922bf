"""What the gates rest on: differences, scores, answers, and where all of it came from."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from html import escape
from typing import Any

from anneal.api.subjects import CANDIDATE
from anneal_evaluator.page.elements import bars, code, percent, points, said, section, table
from anneal_evaluator.page.plot import Axis, interval, scale_of
from anneal_evaluator.statistics.interval import Interval

_NAME = 60  # characters of a category, a label or the name of a hosted model
_CONFUSED = 20  # pairs of labels
Written = Callable[[str | float], str]

_COMPARED = {
    True: "The FineTuneJob compared its training rows with this very file, and trained on none that gives one away.",
    False: "Nobody looked whether training rows give them away: dataset.leakCheck.against did not name this very file.",
}
_METHODS = {
    "Wilson": "Wilson score interval",
    "ClopperPearson": "Clopper-Pearson exact interval",
    "Tango": "Tango's score interval of paired shares",
    "Bootstrap": "bootstrap over rows, expanded percentiles",
    "ClusterBootstrap": "bootstrap over groups of rows, expanded percentiles",
    "OrderStatistics": "order statistics",
    "Mover": "of a ratio from those of both (MOVER)",
}


def differences(report: dict[str, Any]) -> str:
    """The forest plot: every metric against every baseline, on one axis."""
    compared = report["comparisons"]
    if not compared:
        return ""
    axis = Axis.around([0.0, *_ends(compared)], Interval(-1.0, 1.0))
    lines = [
        _line(f"<strong>{escape(c['metric'])}</strong> over {escape(c['baseline'])}", c, axis, points, _tested(c))
        for c in compared
    ]
    hint = (
        "Candidate minus baseline on the same rows, in points. To the right of the zero line the candidate is better."
    )
    return section("Paired differences", _forest(lines, axis, points), hint=hint)


def _tested(comparison: dict[str, Any]) -> str:
    p = comparison["mcnemarMidP"]
    tested = "" if p is None else f"McNemar p {'&lt; 0.0001' if p < 0.0001 else f'{p:.4f}'} · "
    return f"{tested}{comparison['n']} rows detect {100 * float(comparison['mde']):.1f} points"


def scores(report: dict[str, Any]) -> str:
    """Every metric of every model."""
    axis = Axis.around(_ends(report["results"]), Interval(0.0, 1.0))
    lines = [
        _line(f"<strong>{escape(r['metric'])}</strong> of {escape(r['model'])}", r, axis, percent, f"{r['n']} rows")
        for r in report["results"]
    ]
    return section("Scores", _forest(lines, axis, percent))


def _forest(lines: Sequence[str], axis: Axis, written: Written) -> str:
    legend = f'<div class="line legend"><div></div>{scale_of(axis, written)}<div></div></div>'
    return f'<div class="forest">{"".join(lines)}{legend}</div>'


def _line(title: str, estimate: dict[str, Any], axis: Axis, written: Written, note: str) -> str:
    value, lower, upper = (written(estimate[k]) for k in ("value", "lower", "upper"))
    return (
        f'<div class="line"><div>{title}</div>{interval(estimate, axis, f"{value}, {lower} to {upper}")}'
        f'<div class="figures"><strong>{value}</strong> ({lower} to {upper})<br><small>{note}</small></div></div>'
    )


def categories(report: dict[str, Any]) -> str:
    """Scores by category, where rows have one."""
    found = report["categories"]
    if not found:
        return ""
    names = [m["name"] for m in report["models"]]
    lines = (
        [said(c["category"], _NAME), escape(c["metric"]), c["n"], *(_score(c["scores"].get(name)) for name in names)]
        for c in found
    )
    hint = "Few rows a category: to look into, not to decide on. In brackets, the interval."
    return section("By category", table(["Category", "Metric", "Rows", *names], lines), hint=hint)


def _score(estimate: dict[str, Any] | None) -> str:
    if estimate is None:
        return ""
    bounds = f"{100 * float(estimate['lower']):.0f} to {100 * float(estimate['upper']):.0f}"
    return f"{percent(estimate['value'])} <small>({bounds})</small>" if estimate["n"] else "none"


def funnel(report: dict[str, Any]) -> str:
    """How many rows are left at each step."""
    steps = [("Held-out rows", report["heldOut"]["rows"])]
    steps += [(f"Answered by {m['name']}", m["rowsAnswered"]) for m in report["models"]]
    pairs: dict[str, int] = {}
    for c in report["comparisons"]:  # a metric of some categories compares fewer
        pairs[c["baseline"]] = max(c["n"], pairs.get(c["baseline"], 0))
    steps += [(f"Compared with {name}", n) for name, n in pairs.items()]
    hint = f"Rows without an answer count for nothing; above {percent(report['policy']['maxErrorRate'])} no verdict."
    return section("From rows to pairs", bars([(name, n, "") for name, n in steps]), hint=hint)


def confusion(report: dict[str, Any]) -> str:
    """What the candidate took for what, the most frequent first."""
    parts = []
    for found in report["confusion"]:
        wrong = [cell for cell in found["cells"] if cell["reference"] != cell["answered"]]
        if found["model"] == CANDIDATE:
            rows = ([said(c["reference"], _NAME), said(c["answered"], _NAME), c["answers"]] for c in wrong[:_CONFUSED])
            parts.append(
                section(f"Taken for another ({found['metric']})", table(["Label", "Answered", "Answers"], rows))
            )
    return "".join(parts)


def judge(report: dict[str, Any]) -> str:
    """Whether the judge can be believed."""
    if (found := report["judge"]) is None:
        return ""
    told = ("n", "errors", "swapConsistency", "ties", "lengthBias", "labels", "agreement", "kappa")
    lines = (
        [escape(m["metric"]), *(m.get(key, "") for key in told), _corrected(m.get("corrected"))]
        for m in found["metrics"]
    )
    heads = ["Metric", "Judged", "No verdict", "Same in both orders", "Ties", "Length bias"]
    heads += ["Labels", "Agreement", "Kappa", "Candidate, corrected"]
    hint = (
        "Answers that it gave no verdict on count for nobody. Length bias is the rank correlation of how much longer"
        " the candidate's answer is with how much better it was found: far above 0, it may go by length. Agreement is"
        " with people's labels; gates decide on what the judge said, and the corrected score stands beside."
    )
    return section(f"The judge ({found['model']})", table(heads, lines), hint=hint)


def guard(report: dict[str, Any]) -> str:
    """What the guard found unsafe, and why."""
    if (found := report["guard"]) is None:
        return ""
    names = [m["name"] for m in report["models"]]
    lines = ([said(c["category"], _NAME), *(c["answers"].get(name, 0) for name in names)] for c in found["byModel"])
    hint = (
        f"{found['n']} answers classified, {found['errors']} of them without a readable reply: they count for nobody."
        " Unsafe answers by category; one may be in several."
    )
    return section(f"The guard ({found['model']})", table(["Category", *names], lines), hint=hint)


def _corrected(estimate: dict[str, str] | None) -> str:
    if estimate is None:
        return ""
    value, lower, upper = (percent(estimate[k]) for k in ("value", "lower", "upper"))
    return f"{value} <small>({lower} to {upper})</small>"


def answers(report: dict[str, Any]) -> str:
    """What answering took."""
    heads = ["Model", "Asked", "Errors", "Cut off", "Declined", "Empty", "Tokens", "Cost", "Seconds, half", "95 %"]
    keys = ("asked", "errors", "truncated", "declined", "empty", "outputTokens", "cost", "secondsP50", "secondsP95")
    return section("Answers", table(heads, ([_model(m), *(m.get(k, "") for k in keys)] for m in report["models"])))


def _model(model: dict[str, Any]) -> str:
    called = said(f"({model['model']})", _NAME) if model.get("model") else ""
    return f"{escape(model['name'])} {called}".strip()


def provenance(report: dict[str, Any]) -> str:
    """What this was found with, to find it again."""
    chosen, generation = report["statistics"], report["generation"]
    methods = {e["method"] for part in ("results", "comparisons", "gates") for e in report[part]}
    lines = [
        ("Candidate", code(report["candidateDigest"])),
        ("Base", code(report["baseDigest"])),
        ("Held-out rows", f"{code(report['heldOut']['digest'])} {escape(report['heldOut']['uri'])}"),
        *(
            [("Sealed rows", _COMPARED[compared])]
            if (compared := report["heldOut"].get("compared")) is not None
            else []
        ),
        ("Server", escape(report["server"])),
        ("Generation", escape(", ".join(f"{key} {value}" for key, value in generation.items()))),
        ("Statistics", escape(", ".join(f"{key} {value}" for key, value in chosen.items()))),
        ("Intervals", escape("; ".join(sorted(_METHODS[m] for m in methods)))),
        *((escape(name), code(digest)) for name, digest in sorted(report["files"].items())),
    ]
    return section("Provenance", table(["What", "Which"], lines))


def _ends(estimates: Sequence[dict[str, Any]]) -> list[float]:
    return [float(estimate[key]) for estimate in estimates for key in ("lower", "upper")]
