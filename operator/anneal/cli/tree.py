"""The chain as a tree: a FineTuneJob, the Evaluations that judge it, the ModelDeployments that serve it.

Pure rendering: raw objects in, a rich renderable or plain lines out.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text
from rich.tree import Tree

Object = Mapping[str, Any]

_STYLES = {
    "Complete": "green",
    "Ready": "green",
    "Passed": "green",
    "Failed": "red",
    "Degraded": "red",
    "Inconclusive": "yellow",
    "Suspended": "yellow",
    "Pending": "dim",
}
_BAR_WIDTH = 28


def chain(objects: Iterable[Object]) -> list[tuple[Object, list[tuple[Object, list[Object]]]]]:
    """Objects by who builds on whom: jobs, below each its evaluations, below each the deployments that it gates.

    Whatever names nothing that is there stands alone at the top, so nothing is ever hidden.
    """
    objects = sorted(objects, key=lambda o: (o["metadata"].get("creationTimestamp", ""), o["metadata"]["name"]))
    jobs = [o for o in objects if o["kind"] == "FineTuneJob"]
    evaluations = [o for o in objects if o["kind"] == "Evaluation"]
    deployments = [o for o in objects if o["kind"] == "ModelDeployment"]
    placed: set[int] = set()
    rows: list[tuple[Object, list[tuple[Object, list[Object]]]]] = []

    def served_after(evaluation: Object) -> list[Object]:
        below = [d for d in deployments if _proof_of(d) == evaluation["metadata"]["name"] and id(d) not in placed]
        placed.update(map(id, below))
        return below

    for job in jobs:
        judged = [e for e in evaluations if _candidate_of(e) == job["metadata"]["name"]]
        placed.update(map(id, judged))
        rows.append((job, [(e, served_after(e)) for e in judged]))
    rows += [(o, []) for o in (*evaluations, *deployments) if id(o) not in placed]
    return rows


def _candidate_of(evaluation: Object) -> str | None:
    reference = evaluation["spec"].get("candidate", {}).get("fineTuneJobRef", {})
    name: str | None = reference.get("name")
    return name


def _proof_of(deployment: Object) -> str | None:
    status = deployment.get("status", {})
    named: str | None = deployment["spec"].get("gate", {}).get("evaluationRef", {}).get("name")
    current = status.get("targetRevision") or status.get("servingRevision")
    served: Object = next((r for r in status.get("revisions", ()) if r["name"] == current), {})
    return named or served.get("evaluation")


def percent(obj: Object) -> int | None:
    """How far the object is, 0 to 100, or None where that has no meaning."""
    status = obj.get("status", {})
    if obj["kind"] == "FineTuneJob" and status.get("progress"):
        return int(status["progress"].get("percent", 0))
    value = status.get("percent")
    return int(value) if value is not None else None


def details(obj: Object) -> str:
    """The numbers worth a glance, in one short line."""
    status = obj.get("status", {})
    if obj["kind"] == "FineTuneJob":
        progress = status.get("progress") or {}
        parts = [
            f"step {progress['step']}/{progress['totalSteps']}" if progress.get("totalSteps") else "",
            f"loss {progress['loss']}" if progress.get("loss") else "",
            f"{progress['tokensPerSecond']} tokens/s" if progress.get("tokensPerSecond") else "",
            f"ETA {progress['etaSeconds']} s"
            if progress.get("etaSeconds") and status.get("phase") == "Training"
            else "",
            (status.get("artifact") or {}).get("digest", "")[:19],
        ]
    elif obj["kind"] == "Evaluation":
        scores = (
            f"{r['metric']} of {r['model']} {r['value']} ({r['lower']}-{r['upper']})" for r in status.get("results", ())
        )
        parts = [status.get("verdict") or "", *scores]
    else:
        parts = [
            f"{status.get('readyReplicas', 0)}/{obj['spec'].get('replicas', 1)} ready",
            f"gate {status['gate']}" if status.get("gate") else "",
            f"revision {status['servingRevision']}" if status.get("servingRevision") else "",
        ]
    return ", ".join(p for p in parts if p)


def line(obj: Object) -> str:
    """The object in one plain line, for logs."""
    status = obj.get("status", {})
    how_far = percent(obj)
    shown = f" {how_far:3d} %" if how_far is not None and status.get("phase") not in ("Complete", "Failed") else ""
    text = f"{obj['kind']}/{obj['metadata']['name']}: {status.get('phase') or 'Pending'}{shown}"
    numbers = details(obj)
    message = status.get("message") or ""
    return text + (f" | {numbers}" if numbers else "") + (f" | {message}" if message else "")


def render(objects: Iterable[Object], title: str) -> Tree:
    """The chain as a tree with bars, for a terminal."""
    tree = Tree(Text(title, style="bold"))
    for job, evaluations in chain(objects):
        branch = tree.add(_label(job))
        for evaluation, deployments in evaluations:
            twig = branch.add(_label(evaluation))
            for deployment in deployments:
                twig.add(_label(deployment))
    return tree


def _label(obj: Object) -> Table:
    status = obj.get("status", {})
    phase = status.get("verdict") or status.get("phase") or "Pending"
    grid = Table.grid(padding=(0, 1))
    head = [
        Text(f"{obj['kind']}/{obj['metadata']['name']}", style="bold"),
        Text(phase, style=_STYLES.get(phase, "cyan")),
    ]
    how_far = percent(obj)
    if how_far is not None:
        grid.add_row(*head, ProgressBar(total=100, completed=how_far, width=_BAR_WIDTH), Text(f"{how_far} %"))
    else:
        grid.add_row(*head)
    outer = Table.grid()
    outer.add_row(grid)
    for text in (details(obj), status.get("message") or ""):
        if text:
            outer.add_row(Text(f"  {text}", style="dim"))
    return outer
