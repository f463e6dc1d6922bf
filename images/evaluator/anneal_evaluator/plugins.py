"""Scores of the user's own containers: what they are handed, and what is demanded of what they hand back.

A plugin is not told who answered: an item is a row with one answer to it, named by a digest of both and listed in the
order of these names, and equal answers to one row are one item, scored once. A score belongs to exactly the text that
was scored, whoever reads it and whenever.

Whatever a plugin leaves is taken whole or not at all: a missing, surplus or senseless score is an error of the run,
never a zero. Of rows that its metric does not cover (`only`) no score is demanded.
"""

from __future__ import annotations

import errno
import json
import math
import os
import stat
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, ValidationError

from anneal.api.artifacts import digest_of_json
from anneal.api.plugins import Plugin
from anneal.api.runs import ANSWERS_DIR, ANSWERS_FILE, SCORES_DIR, SCORES_FILE, EvaluateRun
from anneal_evaluator.errors import PLUGIN_SCORES_INVALID, mistake
from anneal_evaluator.held_out import HeldOutRow
from anneal_evaluator.score import Answers
from anneal_hosted.answers import write_atomically

#: A line with an id and a score has less than a hundred bytes; more than this for each item is no file of scores.
MAX_LINE_BYTES = 256
_SHOWN = 120


class _Score(BaseModel):
    """One line of a plugin's scores."""

    model_config = ConfigDict(extra="forbid", strict=True)

    id: str
    score: float


def write_items(run: EvaluateRun, rows: Sequence[HeldOutRow], answers: Answers) -> None:
    """Leaves the items where plugins read them, one JSON line each. Raises OSError.

    `rows` has the row of each answer.
    """
    items = {
        item_id(row, text): {
            "messages": [m.to_json() for m in row.messages],
            "reference": row.reference,
            "answer": text,
            **({"scoring": row.scoring} if row.scoring is not None else {}),
        }
        for _, _, row, text in _answered(run, rows, answers)
    }
    lines = [json.dumps({"id": name, **items[name]}, ensure_ascii=False) + "\n" for name in sorted(items)]
    directory = Path(run.plugins) / ANSWERS_DIR
    directory.mkdir(parents=True, exist_ok=True)
    write_atomically(directory / ANSWERS_FILE, "".join(lines).encode())


def plugin_scores(run: EvaluateRun, rows: Sequence[HeldOutRow], answers: Answers) -> dict[int, NDArray[np.float64]]:
    """By plugin metric: scores of shape [models, answers], 0 to 1, NaN without an answer. Raises EvaluationError."""
    found = {}
    items = {(k, i): item_id(row, text) for k, i, row, text in _answered(run, rows, answers)}
    for m, metric in enumerate(run.metrics):
        if metric.plugin is None:
            continue
        path = Path(run.plugins) / SCORES_DIR / metric.name / SCORES_FILE
        demanded = frozenset(item for (_, i), item in items.items() if metric.covers(rows[i].category))
        try:
            given = _read(path, frozenset(items.values()), demanded, metric.plugin)
        except ValueError as error:
            raise mistake(
                PLUGIN_SCORES_INVALID,
                f"Nothing is judged: the plugin of metric {metric.name} ({metric.plugin.image}) {error}.",
            ) from error
        found[m] = np.full((len(run.models), len(rows)), np.nan)
        for place, item in items.items():
            found[m][place] = given.get(item, np.nan)
    return found


def item_id(row: HeldOutRow, answer: str) -> str:
    """The name of an answer to a row: the same for everybody who gave it."""
    return digest_of_json({"row": row.id, "answer": answer}).removeprefix("sha256:")[:16]


def _answered(
    run: EvaluateRun, rows: Sequence[HeldOutRow], answers: Answers
) -> Iterator[tuple[int, int, HeldOutRow, str]]:
    """(model, answer, its row, the text) of everything that is an answer."""
    for k, model in enumerate(run.models):
        for i, (row, answer) in enumerate(zip(rows, answers[model], strict=True)):
            if answer.outcome == "answered":
                yield k, i, row, answer.text


def _read(path: Path, items: frozenset[str], demanded: frozenset[str], options: Plugin) -> Mapping[str, float]:
    """The scores of `items`, 0 to 1: of all that are `demanded`, and of others that it scored, too.

    Raises ValueError: a sentence that has the plugin for its subject.
    """
    found: dict[str, float] = {}
    content = _content(path, MAX_LINE_BYTES * (len(items) + 1))
    for number, line in enumerate(content.split(b"\n"), 1):
        if not line.strip():
            continue
        try:
            score = _Score.model_validate_json(line)
        except ValidationError as error:
            shown = line[:_SHOWN].decode(errors="replace")
            raise ValueError(
                f'wrote {shown!r} in line {number}; demanded is {{"id": "…", "score": a number}} and nothing else'
            ) from error
        if score.id not in items:
            raise ValueError(f"scored {score.id[:_SHOWN]!r} in line {number}, which is the id of no answer")
        if score.id in found:
            raise ValueError(f"scored {score.id!r} twice, the second time in line {number}")
        found[score.id] = _unit(score.score, options, number)
    if missing := sorted(demanded - found.keys()):
        scored = len(demanded) - len(missing)
        raise ValueError(
            f"wrote {scored} scores for {len(demanded)} answers, the first without one being {missing[0]!r}"
        )
    return found


def _unit(score: float, options: Plugin, number: int) -> float:
    """The score on the scale from 0 to 1. Raises ValueError where it is not on the declared one."""
    lowest, highest = float(options.lowest), float(options.highest)
    if not math.isfinite(score) or not lowest <= score <= highest:
        raise ValueError(f"wrote the score {score:g} in line {number}; declared is {lowest:g} to {highest:g}")
    if options.values == "Binary" and score not in (lowest, highest):
        raise ValueError(
            f"wrote the score {score:g} in line {number}; a Binary metric has {lowest:g} and {highest:g} alone"
        )
    return (score - lowest) / (highest - lowest)


def _content(path: Path, most: int) -> bytes:
    """The file that a plugin left, which may be anything: a link out of its directory, a pipe, endless."""
    try:
        # Without O_NONBLOCK, opening a pipe would wait for ever.
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError:
        raise ValueError(f"ended well but wrote no /scores/{path.name}") from None
    except OSError as error:
        if error.errno not in (errno.ELOOP, errno.ENXIO, errno.EACCES):
            raise
        raise ValueError(f"left /scores/{path.name} as something that is no file to read") from error
    about = os.fstat(handle)
    if not stat.S_ISREG(about.st_mode):
        os.close(handle)
        raise ValueError(f"left /scores/{path.name} as something that is no file to read")
    with os.fdopen(handle, "rb") as stream:
        if about.st_size > most:
            raise ValueError(f"wrote {about.st_size} bytes of scores, more than the {most} that its answers can need")
        return stream.read()
