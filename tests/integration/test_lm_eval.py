"""Rows and scores of lm-eval's tasks, beside what lm-eval itself asks and says of the same answers.

What passes between is written and read by the evaluator itself.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from tests.support.lm_eval_host import LmEval, prepare
from tests.support.lm_eval_tasks import ANSWERS, BY_LIKELIHOOD, REFUSED, documents, write
from tests.unit.evaluator.builders import answered, evaluate_run

from anneal.api.runs import EvaluateRun
from anneal_evaluator.errors import EvaluationError
from anneal_evaluator.held_out import HeldOutRow
from anneal_evaluator.plugins import plugin_scores, write_items
from anneal_evaluator.score import Answers
from anneal_trainer.prepare.formats import to_messages

pytestmark = pytest.mark.integration

MODELS = ("candidate", "base")
#: (task, filter, metric); None where the task has but one.
SCORED = [
    ("sums", "strict-match", None),
    ("sums", "flexible-extract", "exact_match"),
    ("reading", None, "em"),
    ("reading", None, "f1"),
    ("capitals", None, None),
    ("colours", "first-word", "share"),
]
SHOTS = {"sums": 2}


@dataclass(frozen=True)
class Made:
    """What one process of lm-eval's environment did."""

    host: LmEval
    tasks: Path
    rows: Mapping[str, list[HeldOutRow]]
    """Sealed ones, of each task."""
    reference: Mapping[tuple[str, str], dict[str, Any]]
    """What lm-eval says, by task and model."""
    turns: dict[str, Any]
    """The same of `sums`, with examples as turns and a limit."""
    told: Mapping[str, dict[str, Any]]
    """What the commands with these names said."""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    python, home = prepare(), tmp_path_factory.mktemp("lm-eval")
    (installed,) = (python.parents[1] / "lib").glob("python3*/site-packages/lm_eval/tasks")
    host, tasks = LmEval(python, home), write(home, installed)
    commands = row_commands(home, tasks)
    asked = [(task, model) for task in ANSWERS for model in MODELS]
    jobs = [{"task": t, "answers": ANSWERS[t][m], "shots": SHOTS.get(t), "tasks": str(tasks)} for t, m in asked]
    turns = {"task": "sums", "answers": [""] * 3, "multiturn": True, "limit": 3, "tasks": str(tasks)}
    found = host.drive([*({"command": command} for command in commands.values()), *jobs, turns])
    told = dict(zip(commands, found, strict=False))
    for task in [*ANSWERS, "turns"]:
        assert told[task]["code"] == 0, told[task]["told"]
    *references, of_turns = found[len(commands) :]
    lines = {task: (home / f"rows-{task}.jsonl").read_text().splitlines() for task in ANSWERS}
    sealed = {task: [HeldOutRow.model_validate_json(line) for line in lines[task]] for task in ANSWERS}
    return Made(host, tasks, sealed, dict(zip(asked, references, strict=True)), of_turns, told)


def row_commands(home: Path, tasks: Path) -> dict[str, list[str]]:
    def rows(task: str, *more: str) -> list[str]:
        output = str(home / f"rows-{task}.jsonl")
        return ["rows", "--task", task, "--include-path", str(tasks), "--output", output, *more]

    (home / "own.jsonl").write_text('{"prompt": "hi", "completion": "ho", "category": "own"}')
    own = ["--own", str(home / "own.jsonl"), "--category", "benchmark", "--task", "colours"]
    return {
        **{task: rows(task, "--sealed", *_shots(task)) for task in ANSWERS},
        "turns": rows("sums", *own, "--multiturn", "--limit", "3", "--output", str(home / "turns.jsonl")),
        **{name: rows(name) for name in REFUSED},
        "no shots": rows("colours", "--shots", "2"),
        "itself": rows("sums", "--own", str(home / "rows-sums.jsonl")),
        "no folder": rows("sums", "--include-path", str(home / "nowhere")),
        "bundled": rows("hellaswag"),
    }


def _shots(task: str) -> list[str]:
    return ["--shots", str(SHOTS[task])] if task in SHOTS else []


@dataclass(frozen=True)
class Handed:
    """Rows of all tasks with one of the user's own, and what both models say to them, where plugins read it."""

    run: EvaluateRun
    rows: list[HeldOutRow]
    answers: Answers

    @property
    def items(self) -> Path:
        return Path(self.run.plugins) / "answers/answers.jsonl"

    def scores(self, metric: str) -> Path:
        path = Path(self.run.plugins) / "scores" / metric / "scores.jsonl"
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def command(self, metric: str, *more: str) -> list[str]:
        return ["score", "--answers", str(self.items), "--scores", str(self.scores(metric)), *more]


def hand(directory: Path, made: Made, tasks: Sequence[str]) -> Handed:
    """With a metric for each of `tasks`, named by its place."""
    own = HeldOutRow.model_validate({"id": "own", "messages": [{"role": "user", "content": "hi"}], "reference": "ho"})
    rows = [own, *(row for task in ANSWERS for row in made.rows[task])]
    texts = {model: ["ho", *(text for task in ANSWERS for text in ANSWERS[task][model])] for model in MODELS}
    answers = {m: [answered(row.id, text) for row, text in zip(rows, texts[m], strict=True)] for m in MODELS}
    metrics = [
        {"name": f"m{n}", "plugin": {"image": "lm-eval:1"}, "only": {"categories": [task]}}
        for n, task in enumerate(tasks)
    ]
    run = evaluate_run(metrics=metrics, plugins=str(directory))
    write_items(run, rows, answers)
    return Handed(run, rows, answers)


@pytest.fixture(scope="module")
def scored(made: Made, tmp_path_factory: pytest.TempPathFactory) -> tuple[Handed, Mapping[int, Any]]:
    """The scores [models, rows] of each of SCORED: of the first by the program as a pod starts it."""
    handed = hand(tmp_path_factory.mktemp("plugins"), made, [task for task, *_ in SCORED])
    which = [
        ["--task", task, "--include-path", str(made.tasks), *_named("--filter", by), *_named("--metric", metric)]
        for task, by, metric in SCORED
    ]
    jobs = [{"command": handed.command(f"m{n}", *words)} for n, words in enumerate(which) if n > 0]
    for done in made.host.drive(jobs):
        assert done["code"] == 0, done["told"]
    files = {"ANNEAL_ANSWERS": str(handed.items), "ANNEAL_SCORES": str(handed.scores("m0"))}
    started = made.host.plugin("score", *which[0], **files)
    assert (started.returncode, started.stderr) == (0, "")
    assert "answers scored" in started.stdout
    return handed, plugin_scores(handed.run, handed.rows, handed.answers)


def _named(option: str, value: str | None) -> list[str]:
    return [option, value] if value else []


@pytest.mark.parametrize("number", range(len(SCORED)))
def test_scores_are_those_of_lm_eval_on_the_same_answers(
    made: Made, scored: tuple[Handed, Mapping[int, Any]], number: int
) -> None:
    (task, by, metric), (handed, scores) = SCORED[number], scored
    covered = [i for i, row in enumerate(handed.rows) if row.category == task]
    seen = set()
    for k, model in enumerate(MODELS):
        theirs = made.reference[task, model]["scores"][by or "none"]
        wanted = theirs[metric or "exact_match"]
        assert scores[number][k, covered].tolist() == wanted
        seen |= set(wanted)
    assert len(seen) > 1, "a constant would prove nothing"


def test_rows_ask_what_lm_eval_asks(made: Made) -> None:
    for task in ANSWERS:
        asked = [[message.to_json() for message in row.messages] for row in made.rows[task]]
        assert asked == made.reference[task, "candidate"]["asked"]
    assert made.rows["sums"][0].messages[0].content.count("Question:") == 1 + SHOTS["sums"]


def test_rows_for_a_fine_tune_job_are_chats_that_follow_those_of_ones_own(made: Made) -> None:
    own, *rows = map(json.loads, (made.host.home / "turns.jsonl").read_text().splitlines())
    assert own == {"prompt": "hi", "completion": "ho", "category": "own"}
    chats = [[message.to_json() for message in to_messages(row, "Auto")] for row in rows]
    assert [chat[:-1] for chat in chats[:3]] == made.turns["asked"]
    assert [turn["role"] for turn in chats[0]] == ["user", "assistant"] * 6, "GSM8K's five examples"
    assert chats[0][-1]["content"] == documents()["sums"][0]["answer"]
    assert [row["category"] for row in rows] == ["benchmark"] * 6, "three documents of each task"
    assert [row["scoring"]["lmEval"]["task"] for row in rows] == ["sums"] * 3 + ["colours"] * 3
    assert "3 rows of sums (filters: strict-match, flexible-extract)" in made.told["turns"]["said"]


@pytest.mark.parametrize("name", REFUSED)
def test_tasks_that_have_no_place_here_are_refused_in_a_sentence(made: Made, name: str) -> None:
    assert made.told[name]["code"] == 1
    assert made.told[name]["told"].startswith(f"Task {name} ")
    assert REFUSED[name][1] in made.told[name]["told"]
    assert not (made.host.home / f"rows-{name}.jsonl").exists()


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("bundled", f"Task hellaswag {BY_LIKELIHOOD} multiple_choice)"),
        ("no shots", "Task colours is one without examples (num_fewshot: 0 in its file), so --shots has no place."),
        ("itself", "--own and --output are one file"),
        ("no folder", "nowhere, which --include-path names"),
    ],
)
def test_senseless_arguments_are_told(made: Made, name: str, said: str) -> None:
    assert made.told[name]["code"] == 1
    assert said in made.told[name]["told"]


def test_what_cannot_be_scored_ends_in_a_sentence_and_without_scores(made: Made, tmp_path: Path) -> None:
    handed = hand(tmp_path, made, ["sums"])
    changed = tmp_path / "changed"
    changed.mkdir()
    for file in made.tasks.iterdir():
        (changed / file.name).write_text(file.read_text() + ("# another\n" if file.suffix == ".py" else ""))
    items = [json.loads(line) | {"answer": "fail"} for line in handed.items.read_text().splitlines()]
    (tmp_path / "failing").write_text("".join(json.dumps(item) + "\n" for item in items))
    (tmp_path / "own").write_text('{"id": "1", "messages": [], "reference": "", "answer": ""}\n')
    (tmp_path / "torn").write_text('{"id": "1", "scoring": {"lmEval": {"task": "sums"}}, "answer": ""}\n')

    def command(task: str, *more: str, tasks: Path = made.tasks, answers: str = "answers/answers.jsonl") -> list[str]:
        files = ["--include-path", str(tasks), "--answers", str(tmp_path / answers)]
        return handed.command("m0", "--task", task, *files, *more)

    every = ("--filter", "all", "--metric")
    wanted = {
        "reads answers by strict-match, flexible-extract: --filter must say by which": command("sums"),
        "it has no filter 'lenient'": command("sums", "--filter", "lenient"),
        "Task reading measures em, f1: --metric must say which": command("reading"),
        "Task reading measures em, f1: it has no metric 'acc'": command("reading", "--metric", "acc"),
        "Metric said of task colours is no mean": command("colours", *every, "said"),
        "Of metric missed of task colours less is better": command("colours", *every, "missed"),
        "Metric odds of task colours has no number for answer": command("colours", *every, "odds"),
        "ValueError: no score for this": command("colours", *every, "share", answers="failing"),
        "was made from other task files": command("colours", *every, "share", tasks=changed),
        "No answer is to a row of task letters: there are rows of capitals, colours": command("letters"),
        "none was made by the command rows": command("sums", answers="own"),
        "Line 1 of": command("sums", answers="torn"),
    }
    for said, done in zip(wanted, made.host.drive([{"command": c} for c in wanted.values()]), strict=True):
        assert (done["code"], said in done["told"]) == (1, True), done["told"]
    with pytest.raises(EvaluationError, match=r"ended well but wrote no /scores/scores\.jsonl"):
        plugin_scores(handed.run, handed.rows, handed.answers)
