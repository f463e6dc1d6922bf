"""Where the candidate comes from, by the report that training left beside it: what became of its rows, what it took.

The artifact's digest does not cover that report, so it is shown and never decided on.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from anneal.api.dataset import DatasetStatus
from anneal.api.runs import EvaluateRun
from anneal.api.training import TrainingStatus

REPORT_FILE = "report.json"
_MOST_BYTES = 16 * 1024 * 1024


def origin(run: EvaluateRun) -> dict[str, Any]:
    """Of the candidate's training: `data` and `trained` as its report has them, or `unknown`, why they are missing."""
    told: dict[str, Any] = {"cost": run.training_cost, "data": None, "trained": None, "unknown": None}
    try:
        return told | _read(run)
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        return told | {"unknown": _sentence(error)}


def _read(run: EvaluateRun) -> dict[str, Any]:
    if run.artifact is None:
        raise ValueError("nobody said where the artifact lies")
    with (Path(run.artifact.path) / REPORT_FILE).open("rb") as stream:
        content = stream.read(_MOST_BYTES + 1)
    if len(content) > _MOST_BYTES:
        raise ValueError(f"it is larger than {_MOST_BYTES} bytes")
    report = json.loads(content)
    if report["digest"] != run.candidate_digest:
        raise ValueError(f"it is the report of {str(report['digest'])[:80]}")
    return {
        "data": DatasetStatus.model_validate(report["data"]["dataset"]).to_json(),
        "trained": TrainingStatus.model_validate(report["trained"]).to_json(),
    }


def _sentence(error: Exception) -> str:
    why = "it is not what training writes" if isinstance(error, ValidationError | KeyError | TypeError) else str(error)
    return f"The {REPORT_FILE} beside the artifact cannot be read: {why[:300]}."
