"""Run documents and stored answers for the evaluator's tests."""

from __future__ import annotations

import json
from pathlib import Path

from anneal.api.artifacts import digest_of_bytes
from anneal.api.runs import EvaluateRun
from anneal_hosted.answers import StoredAnswer

CANDIDATE_DIGEST = digest_of_bytes(b"candidate")
BASE_DIGEST = digest_of_bytes(b"base")


def evaluate_run(**changes: object) -> EvaluateRun:
    """Candidate against its base by exact match; `changes` replace members of the document."""
    document: dict[str, object] = {
        "role": "evaluate",
        "object": {"kind": "Evaluation", "namespace": "team", "name": "intents", "uid": "1"},
        "serverUrl": "127.0.0.1:1",
        "candidateDigest": CANDIDATE_DIGEST,
        "baseDigest": BASE_DIGEST,
        "models": ["candidate", "base"],
        "baselines": [{"name": "untuned", "fromCandidate": {}}],
        "heldOut": {"uri": "pvc://models/held-out.jsonl", "path": "/nowhere"},
        "heldOutDigest": digest_of_bytes(b"rows"),
        "generation": {"maxTokens": 32, "concurrency": 4, "timeoutSeconds": 5},
        "metrics": [{"name": "accuracy", "exactMatch": {}}],
        "gates": [{"metric": "accuracy", "absolute": {"minLowerBound": "0.8"}}],
        "statistics": {"resamples": 2000},
        "policy": {},
        "report": {"uri": "pvc://models/report", "path": "/nowhere"},
    }
    return EvaluateRun.model_validate(document | changes)


def write_rows(path: Path, count: int) -> str:
    """A held-out file; returns its digest."""
    rows = [
        {"id": f"row-{i}", "messages": [{"role": "user", "content": f"question {i}"}], "reference": f"answer {i}"}
        for i in range(count)
    ]
    content = "".join(json.dumps(row) + "\n" for row in rows).encode()
    path.write_bytes(content)
    return digest_of_bytes(content)


def answered(row: str, text: str = "yes", outcome: str = "answered", **more: object) -> StoredAnswer:
    document = {"key": digest_of_bytes(row.encode()), "row": row, "outcome": outcome, "text": text}
    return StoredAnswer.model_validate(document | more)
