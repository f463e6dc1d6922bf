"""What passes between rows, evaluator and scores, in files of one JSON object a line.

A row carries its own document of the task, so that scoring needs neither the data set nor the network. It carries no
code: a task's functions are those of the image that scores; the digest says whether they are those that made the row.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from anneal_lm_eval.errors import TaskError

#: The key of `scoring` that is this program's.
KEY = "lmEval"


@dataclass(frozen=True)
class Origin:
    """Where a row came from, as much as scoring needs."""

    task: str
    doc_id: int
    """Number of the document in the task's split, from 0."""
    doc: dict[str, Any]
    """The document, as the task's `process_docs` left it."""
    multiple_target: int
    """Of the task, more than 0 where documents have several right answers: lm-eval looks at its first one alone."""
    digest: str
    """Of what the task scores by; equal digests, equal scores."""

    def to_json(self) -> dict[str, Any]:
        return {
            "task": self.task,
            "docId": self.doc_id,
            "doc": self.doc,
            "multipleTarget": self.multiple_target,
            "digest": self.digest,
        }


@dataclass(frozen=True)
class Item:
    """One answer to one row of a task."""

    id: str
    answer: str
    origin: Origin


def read_items(path: Path) -> list[Item]:
    """The answers to rows of tasks; those to other rows are left out. Raises TaskError, OSError."""
    found = []
    for number, line in enumerate(path.read_bytes().split(b"\n"), 1):
        if not line.strip():
            continue
        try:
            document = json.loads(line)
            origin = (document.get("scoring") or {}).get(KEY)
            if origin is not None:
                found.append(Item(str(document["id"]), str(document["answer"]), _origin(origin)))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise TaskError(f"Line {number} of {path} is no answer to a row of this program's: {error!r}") from error
    return found


def write_scores(path: Path, scores: Mapping[str, float]) -> None:
    """One line for each id. Raises OSError."""
    write_whole(path, "".join(json.dumps({"id": name, "score": score}) + "\n" for name, score in scores.items()))


def row(
    messages: Sequence[Mapping[str, str]], answer: str, category: str, origin: Origin, *, sealed: bool
) -> dict[str, Any]:
    """A row for `dataset.split.heldOutSource`, or for `sealed` of an Evaluation. Raises TaskError."""
    about = {"category": category, "scoring": {KEY: origin.to_json()}}
    if sealed:
        name = f"{origin.task}-{origin.doc_id}"
        return {"id": name, "messages": [dict(m) for m in messages], "reference": answer, **about}
    if not answer.strip():
        raise TaskError(
            f"Document {origin.doc_id} of task {origin.task} has an empty answer, which rows of"
            " dataset.split.heldOutSource cannot have; write it for spec.sealed of an Evaluation (--sealed)"
        )
    return {"messages": [*map(dict, messages), {"role": "assistant", "content": answer}], **about}


def as_line(row: Mapping[str, Any]) -> str:
    return json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n"


def write_whole(path: Path, text: str) -> None:
    """The whole new text or nothing of it. Raises OSError."""
    temporary = path.with_name(f".{path.name}.new")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(path)


def cut(answer: str, until: Sequence[str]) -> str:
    """The answer up to the first of these texts: lm-eval's models end there, a chat server knows nothing of them."""
    return answer[: min((at for text in until if text and (at := answer.find(text)) >= 0), default=len(answer))]


def _origin(document: Mapping[str, Any]) -> Origin:
    return Origin(
        task=document["task"],
        doc_id=document["docId"],
        doc=dict(document["doc"]),
        multiple_target=document["multipleTarget"],
        digest=document["digest"],
    )
