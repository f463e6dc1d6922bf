"""Hosted answers of earlier evaluations, taken over instead of paid for again.

A hosted model's answer to a held-out row does not depend on the candidate, so every evaluation of the same data asks
the same. Reports of one FineTuneJob's evaluations lie side by side; whatever has the same key in there is the answer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from anneal_hosted.answers import AnswerFile, read_answers
from anneal_hosted.asking import Question


def reuse_answers(directory: Path, asked: Sequence[Question], files: Mapping[str, AnswerFile]) -> None:
    """Copies into `files` what evaluations beside `directory` were answered by the same hosted models.

    Only text is taken over: a failure of then may not be one of now.
    """
    missing = {q.key: q for q in asked if q.hosted is not None and not files[q.model].has(q.key)}
    if not missing:
        return
    for path in sorted(directory.parent.glob("*/responses-*.jsonl")):
        if path.parent == directory or path.is_symlink():
            continue
        for answer in read_answers(path):
            if answer.outcome == "answered" and (question := missing.pop(answer.key, None)) is not None:
                files[question.model].append(answer.model_copy(update={"reused": True}))
