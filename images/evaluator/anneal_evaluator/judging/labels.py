"""What people say of some answers, to hold the judge against: a file of the user, read before anybody is asked.

A line says what a person finds in the words that the judge must use, so that one reader serves both.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pydantic import Field, JsonValue, ValidationError

from anneal.api.model import ApiModel
from anneal.api.runs import EvaluateRun
from anneal_evaluator.errors import LABELS_INVALID, mistake
from anneal_evaluator.held_out import HeldOutRow, Message
from anneal_evaluator.judging.protocols import Protocol, protocols_of

#: Labels of a metric below which agreement says nothing.
LEAST_LABELS = 20
MAX_BYTES = 64 * 1024 * 1024
_WORDS = ("verdict", "grade", "better")


class _Line(ApiModel):
    metric: str
    messages: list[Message] = Field(min_length=1)
    reference: str = ""
    answer: str | None = None
    answers: tuple[str, str] | None = None
    verdict: JsonValue = None
    grade: JsonValue = None
    better: JsonValue = None


@dataclass(frozen=True)
class Label:
    """What a person says of one answer, or of two."""

    metric: int
    row: HeldOutRow
    texts: tuple[str, ...]
    score: float
    """Of the first text, 0 to 1."""


def read_labels(run: EvaluateRun) -> list[Label]:
    """All labels, in the order of the file; none where the spec has no file.

    Raises EvaluationError, naming the line, when one cannot be used or a metric has too few.
    """
    if run.human_labels is None:
        return []
    path, uri = Path(run.human_labels.path), run.human_labels.uri
    if not path.is_file():
        raise mistake(LABELS_INVALID, f"The human labels {uri} (spec.judgeQuality.humanLabels) are not a file.")
    if path.stat().st_size > MAX_BYTES:
        raise mistake(LABELS_INVALID, f"The human labels {uri} have more than {MAX_BYTES} bytes; 50 rows suffice.")
    protocols, numbers = protocols_of(run.metrics), {metric.name: m for m, metric in enumerate(run.metrics)}
    found = []
    for number, line in enumerate(path.read_bytes().split(b"\n"), 1):
        if not line.strip():
            continue
        try:
            found.append(_label(line, number, protocols, numbers))
        except ValueError as error:
            raise mistake(LABELS_INVALID, f"Line {number} of the human labels {uri}: {_shown(error)}.") from error
    for m in protocols:
        _refuse_too_few(run, m, sum(1 for label in found if label.metric == m))
    return found


def _label(line: bytes, number: int, protocols: Mapping[int, Protocol], numbers: Mapping[str, int]) -> Label:
    read = _Line.model_validate_json(line)
    if (m := numbers.get(read.metric, -1)) not in protocols:
        raise ValueError(f"{read.metric[:40]!r} is no metric that needs the judge")
    protocol = protocols[m]
    texts = read.answers if protocol.over is not None else (read.answer,) if read.answer is not None else None
    if texts is None:
        raise ValueError("a preference needs answers, two of them" if protocol.over else "it has no answer")
    said = {word: value for word in _WORDS if (value := getattr(read, word)) is not None}
    score = protocol.score_of(json.dumps(said))
    if score is None:
        raise ValueError(f"{json.dumps(said)[:80]} is nothing that the judge could say for {read.metric}")
    document = {"id": f"label-{number}", "messages": [m.to_json() for m in read.messages], "reference": read.reference}
    return Label(m, HeldOutRow.model_validate(document), texts, score)


def _shown(error: ValueError) -> str:
    if not isinstance(error, ValidationError):
        return str(error)
    problem = error.errors()[0]
    return f"{'.'.join(map(str, problem['loc'])) or 'it'}: {problem['msg']}"


def _refuse_too_few(run: EvaluateRun, metric: int, count: int) -> None:
    is_demanded = run.judge_quality is not None and run.judge_quality.min_agreement is not None
    if count >= LEAST_LABELS or (count == 0 and not is_demanded):
        return
    raise mistake(
        LABELS_INVALID,
        f"Metric {run.metrics[metric].name} has {count} human labels, too few to tell agreement by; label at least"
        f" {LEAST_LABELS} answers, better 50.",
    )
