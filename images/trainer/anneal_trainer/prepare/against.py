"""Files that must not be in what is trained on: sealed rows, benchmarks. Read to compare, and for nothing else.

Of each of their rows the question is kept, as numbers of words, and where it stands; nothing of them is written
anywhere, and no other decision about the data depends on them. A row that cannot be read ends the run: who seals rows
wants to know that all of them were compared.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from anneal.api.artifacts import digest_of_file
from anneal.api.dataset import Cleaning, ComparedFile
from anneal.api.runs import PrepareRun, SourceInput
from anneal_trainer import sources
from anneal_trainer.errors import UserMistake
from anneal_trainer.prepare import cleaning, containers, deduplicate, leaks
from anneal_trainer.prepare.chat import Message, RowError
from anneal_trainer.prepare.containers import Record
from anneal_trainer.prepare.formats import detect, renamed, to_messages
from anneal_trainer.prepare.words import Dialogues, runs
from anneal_trainer.workspace import Workspace


@dataclass
class File:
    """One of the files: the digest of its bytes, and of each row its place, `unit` and number."""

    name: str
    digest: str
    unit: str = "row"
    numbers: array[int] = field(default_factory=lambda: array("q"))

    def where(self, row: int) -> str:
        """The place of a row in words: "line 3 of pvc://…"."""
        return f"{self.unit} {self.numbers[row]} of {self.name}"


@dataclass(frozen=True)
class Against:
    """The questions of all files, beside the rows of a store that share their vocabulary."""

    own: Dialogues
    questions: Dialogues
    files: Sequence[File]
    threshold: float

    def leaks(self, rows: Sequence[int]) -> list[dict[int, str]]:
        """Of each file the rows that give one of its questions away, with the place of that question."""
        words = self.own.followed_by(self.questions)
        triples = runs(words.questions, deduplicate.RUN)
        found, start = [], len(self.own)
        for file in self.files:
            others = range(start, start + len(file.numbers))
            close = leaks.find(words, triples, rows, others, self.threshold)
            found.append({row: file.where(other - start) for row, other in close.items()})
            start = others.stop
        return found

    def compared(self, found: Sequence[Mapping[int, str]]) -> list[ComparedFile]:
        """For status; `found` are the leaks that were dropped."""
        counted = zip(self.files, found, strict=True)
        return [ComparedFile(digest=f.digest, rows=len(f.numbers), leaks=len(leaks)) for f, leaks in counted]


def read(run: PrepareRun, own: Dialogues, workspace: Workspace, check: Callable[[], None]) -> Against | None:
    """The files that the run names, if it names any; `own` are the words of the rows that will be compared.

    Raises UserMistake or Unavailable, naming the file.
    """
    if not run.against:
        return None
    questions = Dialogues(own)
    # What the text of rows is compared with is cleaned as they are; a key in it is nobody's secret to lose here.
    cleaned = run.cleaning.model_copy(update={"secrets": "Allow"})
    files = [_read(source, questions, cleaned, workspace, check) for source in run.against]
    return Against(own, questions, files, float(run.leak_check.threshold))


def _read(
    source: SourceInput, questions: Dialogues, cleaned: Cleaning, workspace: Workspace, check: Callable[[], None]
) -> File:
    name = sources.shown(source.uri)
    with sources.opened(source, workspace) as opened:
        file = File(name, digest_of_file(opened.path))
        for record in containers.opened(opened.stream, name).records:
            check()
            questions.add(_asked(record, source, cleaned, name), "")
            file.unit = record.unit
            file.numbers.append(record.number)
    if not file.numbers:
        raise UserMistake(
            "EmptyDataset",
            f"nothing can be compared with {name}, which dataset.leakCheck.against names: it has no rows",
        )
    return file


def _asked(record: Record, source: SourceInput, cleaned: Cleaning, name: str) -> str:
    """The question of a row, as text to compare. Raises UserMistake."""
    try:
        messages, _ = cleaning.clean(list(_question(record.read(), source)), "", cleaned)
        question = "\n".join(message.said for message in messages if message.role != "system")
        if not question.strip():
            raise RowError("it has no question")
    except (RowError, RecursionError) as error:
        why = "nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise UserMistake(
            "InvalidRows",
            f"training rows cannot be compared with {record.unit} {record.number} of {name}, which"
            f" dataset.leakCheck.against names: {why.encode(errors='replace').decode()}. Correct it or take it out",
        ) from error
    return question


def _question(raw: dict[str, Any], source: SourceInput) -> Iterator[Message]:
    """The turns of a row up to its answer, which it need not have: that of a held-out row is beside them."""
    row = renamed(raw, source.columns) if source.columns is not None else raw
    messages = to_messages(row, detect(row) if source.format == "Auto" else source.format)
    yield from messages[:-1] if messages and messages[-1].role == "assistant" else messages
