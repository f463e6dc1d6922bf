"""`python -m anneal_lm_eval rows`: a task's documents as rows to hold out; `… score`: a plugin that scores answers.

Both say in a sentence what keeps them from it, and end with 1.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from anneal_lm_eval.errors import TaskError
from anneal_lm_eval.items import as_line, read_items, write_scores, write_whole


def main(arguments: Sequence[str] | None = None) -> int:
    """Does what the arguments say. Returns the exit code."""
    options = options_of(arguments)
    os.environ.setdefault("TQDM_DISABLE", "1")
    logging.getLogger("lm_eval").setLevel(logging.ERROR)  # the last words of a plugin are what a user reads
    try:
        said = _rows(options) if options.command == "rows" else _score(options)
    except (TaskError, OSError) as error:
        print(f"{error}.", file=sys.stderr, flush=True)
        return 1
    print(said, flush=True)
    return 0


def _rows(options: argparse.Namespace) -> str:
    """Writes the rows. Returns what to tell. Raises TaskError, OSError."""
    if options.own is not None and options.own.resolve() == options.output.resolve():
        raise TaskError("--own and --output are one file, which would grow with every run")
    own = options.own.read_text(encoding="utf-8") if options.own is not None else ""
    from anneal_lm_eval.rows import Choice, rows_of
    from anneal_lm_eval.tasks import config_of

    choice = Choice(options.shots, options.multiturn, options.limit, options.seed, options.sealed)
    lines, told = [own + "\n" if own and not own.endswith("\n") else own], []
    for name in options.task:
        config = config_of(name, options.include_path)
        made = [as_line(row) for row in rows_of(name, config, choice, options.category or name)]
        filters = [one["name"] for one in config.get("filter_list") or []]
        told.append(f"{len(made)} rows of {name}" + (f" (filters: {', '.join(filters)})" if filters else ""))
        lines += made
    write_whole(options.output, "".join(lines))
    return f"{options.output}: {'; '.join(told)}."


def _score(options: argparse.Namespace) -> str:
    """Writes the scores of the answers to the task's rows. Returns what to tell. Raises TaskError, OSError."""
    # A plugin fetches nothing: what a task needs beside its rows is in the image, or missing.
    os.environ |= {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}
    found = read_items(options.answers)
    items = [item for item in found if item.origin.task == options.task]
    if not items:
        others = sorted({item.origin.task for item in found})
        there = f"there are rows of {', '.join(others)}" if others else "none was made by the command rows"
        raise TaskError(f"No answer is to a row of task {options.task}: {there}")
    from anneal_lm_eval.score import scores_of
    from anneal_lm_eval.tasks import config_of

    config = config_of(options.task, options.include_path)
    scores = scores_of(options.task, config, items, options.filter, options.metric)
    write_scores(options.scores, scores)
    return f"{len(scores)} answers scored, {sum(scores.values()) / len(scores):.4f} on average."


def options_of(arguments: Sequence[str] | None) -> argparse.Namespace:
    """What the arguments say; those of the process without any. Ends the process where they are none."""
    parser = argparse.ArgumentParser(prog="anneal_lm_eval", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    files = argparse.ArgumentParser(add_help=False)
    files.add_argument(
        "--include-path", action="append", type=Path, default=[], metavar="DIR", help="folder with task files of yours"
    )

    rows = commands.add_parser("rows", parents=[files], help="write the documents of tasks as rows")
    rows.add_argument("--task", action="append", required=True, help="name of a task; may be repeated")
    rows.add_argument("--output", type=Path, required=True, metavar="FILE", help="JSON Lines; replaced if it exists")
    rows.add_argument("--own", type=Path, metavar="FILE", help="rows of your own, which come first")
    rows.add_argument("--category", help="category of the rows; default: the name of their task")
    rows.add_argument("--limit", type=_positive, help="the first so many documents of each task; default: all")
    rows.add_argument("--shots", type=_count, help="solved examples before each question; default: the task's own")
    rows.add_argument("--multiturn", action="store_true", help="examples as turns of the chat")
    rows.add_argument("--seed", type=int, default=1234, help="of the choice of examples; default: 1234, lm-eval's own")
    rows.add_argument("--sealed", action="store_true", help="for spec.sealed of an Evaluation")

    score = commands.add_parser("score", parents=[files], help="score stored answers to the rows of a task")
    score.add_argument("--task", required=True, help="name of the task")
    score.add_argument("--filter", help="name of one of its filters; needed where it has several")
    score.add_argument("--metric", help="name of one of its metrics; needed where it has several")
    answers, scores = os.environ.get("ANNEAL_ANSWERS"), os.environ.get("ANNEAL_SCORES")
    score.add_argument("--answers", type=Path, default=answers or "/answers/answers.jsonl", help="default: as handed")
    score.add_argument("--scores", type=Path, default=scores or "/scores/scores.jsonl", help="default: as handed")
    return parser.parse_args(arguments)


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("must be 1 or more")
    return number


def _count(text: str) -> int:
    number = int(text)
    if number < 0:
        raise argparse.ArgumentTypeError("must be 0 or more")
    return number


if __name__ == "__main__":
    sys.exit(main())
