"""The chain as people see it."""

from __future__ import annotations

from typing import Any

from rich.console import Console

from anneal.cli.tree import chain, line, render


def obj(kind: str, name: str, spec: dict[str, Any], **status: Any) -> dict[str, Any]:
    return {"kind": kind, "metadata": {"name": name, "uid": f"{kind}-{name}"}, "spec": spec, "status": status}


JOB = obj(
    "FineTuneJob",
    "v1",
    {},
    phase="Training",
    message="training",
    progress={"percent": 42, "step": 21, "totalSteps": 50, "loss": "0.31", "tokensPerSecond": 210, "etaSeconds": 80},
)
EVALUATION = obj(
    "Evaluation",
    "v1",
    {"candidate": {"fineTuneJobRef": {"name": "v1"}}},
    phase="Complete",
    verdict="Passed",
    results=[{"metric": "accuracy", "model": "candidate", "value": "0.97", "lower": "0.93", "upper": "0.99"}],
)
DEPLOYMENT = obj(
    "ModelDeployment",
    "app",
    {"replicas": 2, "gate": {"evaluationRef": {"name": "v1"}}},
    phase="Ready",
    readyReplicas=2,
)
STRAY = obj("Evaluation", "stray", {"candidate": {"fineTuneJobRef": {"name": "gone"}}})


def test_deployments_hang_below_their_proof_and_strays_are_shown() -> None:
    rows = chain([STRAY, DEPLOYMENT, EVALUATION, JOB])
    assert rows == [(JOB, [(EVALUATION, [DEPLOYMENT])]), (STRAY, [])]


def test_a_deployment_that_follows_a_selector_hangs_below_the_evaluation_of_its_revision() -> None:
    following = obj(
        "ModelDeployment",
        "app",
        {"replicas": 1},
        servingRevision="abc",
        revisions=[{"name": "abc", "evaluation": "v1"}],
    )
    assert chain([following, EVALUATION, JOB]) == [(JOB, [(EVALUATION, [following])])]


def test_the_tree_shows_bars_numbers_and_verdicts() -> None:
    console = Console(width=120, record=True, force_terminal=False)
    console.print(render([JOB, EVALUATION, DEPLOYMENT], "namespace demo"))
    text = console.export_text()
    assert "42 %" in text
    assert "step 21/50, loss 0.31, 210 tokens/s, ETA 80 s" in text
    assert "accuracy of candidate 0.97 (0.93-0.99)" in text
    assert "2/2 ready" in text


def test_a_line_of_a_fresh_object_says_pending() -> None:
    assert line({"kind": "FineTuneJob", "metadata": {"name": "new"}, "spec": {}}) == "FineTuneJob/new: Pending"
