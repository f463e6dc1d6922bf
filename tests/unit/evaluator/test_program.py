"""Every end of the program leaves a result for the kubelet and an exit code that says whether to try again."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.unit.evaluator.builders import evaluate_run, write_rows

from anneal.api.artifacts import digest_of_bytes
from anneal.api.runs import EvaluateRun, RunResult, parse_result
from anneal_evaluator import evaluate as module
from anneal_evaluator import program


class Container:
    """A run document and the files it names."""

    def __init__(self, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.directory, self.held_out = directory, directory / "held-out.jsonl"
        monkeypatch.setenv("ANNEAL_RUN_FILE", str(directory / "run.json"))
        monkeypatch.setenv("ANNEAL_TERMINATION_FILE", str(directory / "termination"))
        monkeypatch.setattr("signal.signal", lambda *_: None)

    def run(self, rows: int = 3, **changes: object) -> EvaluateRun:
        digest = write_rows(self.held_out, rows)
        files = {
            "heldOut": {"uri": "pvc://m/held-out.jsonl", "path": str(self.held_out)},
            "heldOutDigest": digest,
            "report": {"uri": "pvc://m/report", "path": str(self.directory / "report")},
        }
        return evaluate_run(**(files | changes))

    def end(self, document: str) -> tuple[int, RunResult]:
        (self.directory / "run.json").write_text(document)
        code = program.do([])
        return code, parse_result((self.directory / "termination").read_text())


@pytest.fixture
def container(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Container:
    return Container(tmp_path, monkeypatch)


def as_json(run: EvaluateRun) -> str:
    return json.dumps(run.to_json())


SERVE = '{"role": "serve", "object": {"kind": "k", "namespace": "n", "name": "n", "uid": "u"}, "models": []}'


@pytest.mark.parametrize("document", ["{", "{}", '{"role": "evaluate"}', SERVE])
def test_a_bad_run_document(container: Container, document: str) -> None:
    code, result = container.end(document)
    assert (code, result.reason, result.retryable) == (42, "InvalidRun", False)


def test_empty_held_out_rows(container: Container) -> None:
    code, result = container.end(as_json(container.run(rows=0)))
    assert (code, result.reason) == (42, "HeldOutEmpty")
    assert not (container.directory / "report").exists()


def test_changed_held_out_rows(container: Container) -> None:
    run = container.run(heldOutDigest=digest_of_bytes(b"other"))
    code, result = container.end(as_json(run))
    assert (code, result.reason) == (42, "DigestMismatch")


@pytest.mark.parametrize(
    ("changes", "reason", "sentence"),
    [
        ({"gates": [{"metric": "speed", "absolute": {"minLowerBound": "0"}}]}, "InvalidRun", "names the metric speed"),
        (
            {"gates": [{"metric": "accuracy", "superiority": {"over": "incumbent"}}]},
            "InvalidRun",
            "names the baseline incumbent",
        ),
        ({"models": ["candidate"]}, "InvalidRun", "1 models were named for 1 baselines"),
        ({"metrics": [{"name": "accuracy", "regex": {"pattern": "("}}]}, "MetricUnusable", "not a regular expression"),
        (
            {"metrics": [{"name": "accuracy", "jsonField": {"path": "intent"}}]},
            "MetricUnusable",
            "does not fit the reference answer of held-out row 'row-0'",
        ),
    ],
)
def test_what_cannot_work_is_told_before_anybody_is_asked(
    container: Container, changes: dict[str, object], reason: str, sentence: str
) -> None:
    code, result = container.end(as_json(container.run(**changes)))
    assert (code, result.reason) == (42, reason)
    assert sentence in result.message


def test_a_server_that_is_not_there_can_be_tried_again(container: Container, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("anneal_hosted.asking.RETRY_SECONDS", 0.01)
    monkeypatch.setattr(program, "evaluate", lambda run: module.evaluate(run, patience_seconds=0.05))
    code, result = container.end(as_json(container.run()))
    assert (code, result.reason, result.retryable) == (1, "ServerUnreachable", True)
    assert "127.0.0.1:1" in result.message


def test_a_full_disk_can_be_tried_again(container: Container) -> None:
    (container.directory / "report").write_text("a file where the directory should be")
    code, result = container.end(as_json(container.run()))
    assert (code, result.reason, result.retryable) == (1, "StorageFailed", True)
