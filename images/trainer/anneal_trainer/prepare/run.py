"""The first run of a job: read every row, say what is wrong with which line, draw the held-out rows, write tokens.

It runs before any accelerator is asked for, so all that can be found wrong with the data and the base model is found
here. On the same input it writes the same bytes, however often it is started.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from anneal.api.artifacts import digest_of_bytes, digest_of_file
from anneal.api.dataset import DatasetCounts, DatasetStatus
from anneal.api.estimate import Sizes
from anneal.api.finetunejob import BaseModelStatus
from anneal.api.runs import PrepareData, PrepareRun, RunResult, SourceInput
from anneal.api.sources import Resolved
from anneal_trainer import files, model, rows, sources
from anneal_trainer.errors import UserMistake
from anneal_trainer.preemption import Preemption
from anneal_trainer.prepare import jsonl, validate
from anneal_trainer.prepare.formats import RowError, to_messages
from anneal_trainer.prepare.split import Example, Split, draw, identifiers, key_of
from anneal_trainer.prepare.template import ChatTemplate, Rendered, load_tokenizer
from anneal_trainer.rows import TrainingRows
from anneal_trainer.sources.models import Located, located
from anneal_trainer.workspace import Workspace

_LOG = logging.getLogger(__name__)
_SHOWN_ERRORS = 3
_KEPT_ERRORS = 10_000


@dataclass(frozen=True)
class Rejected:
    """A row that was left out."""

    source: str
    line: int
    reason: str

    def __str__(self) -> str:
        return f"line {self.line} of {self.source}: {self.reason}"


@dataclass
class Findings:
    """What reading the sources gave. `examples[i]` was rendered as `rendered[i]`."""

    examples: list[Example] = field(default_factory=list)
    rendered: list[Rendered] = field(default_factory=list)
    rejected: list[Rejected] = field(default_factory=list)
    invalid: int = 0

    @property
    def read(self) -> int:
        return len(self.examples) + self.invalid


@dataclass(frozen=True)
class Found:
    """What the names in the run stood for."""

    base: Located
    base_digest: str
    template: str
    sources: list[str]


def prepare(run: PrepareRun, preemption: Preemption) -> RunResult:
    """Writes the workspace's data folder. Raises UserMistake for data or a base model that cannot work."""
    workspace = Workspace(Path(run.workspace))
    base = located(run, preemption)
    base_digest = model.check(base.place)
    directory = Path(base.place.path)
    template = ChatTemplate(load_tokenizer(directory), model.stop_tokens(directory))
    reader = _Reader(run, template, min(run.max_length, model.longest_context(directory) or run.max_length))
    resolved = []
    for source in run.sources:
        with sources.opened(source, workspace) as opened:
            resolved.append(opened.resolved)
            for number, line in jsonl.numbered_lines(opened.stream, sources.shown(source.uri)):
                preemption.check("preparing the data")
                reader.take(source, number, line)
    findings = reader.findings
    _write_rejected(workspace.rejected, findings.rejected)
    _check_findings(findings, run)
    split = draw(findings.examples, run.split.held_out, run.split.seed)
    _check_split(split, run)
    found = Found(base, base_digest, template.text, resolved)
    return _write(workspace, run, found, findings, split)


class _Reader:
    """Turns lines into examples and keeps account of those that are none."""

    def __init__(self, run: PrepareRun, template: ChatTemplate, max_length: int) -> None:
        self._run = run
        self._template = template
        self._max_length = max_length
        self.findings = Findings()

    def take(self, source: SourceInput, number: int, line: bytes) -> None:
        try:
            example, rendered = self._read(source, line)
        except RowError as error:
            self.findings.invalid += 1
            if len(self.findings.rejected) < _KEPT_ERRORS:
                # What the row says is quoted, and may hold what no file can: halves of surrogate pairs.
                reason = str(error).encode(errors="replace").decode()
                self.findings.rejected.append(Rejected(sources.shown(source.uri), number, reason))
            return
        self.findings.examples.append(example)
        self.findings.rendered.append(rendered)

    def _read(self, source: SourceInput, line: bytes) -> tuple[Example, Rendered]:
        messages = to_messages(jsonl.parse(line), source.format)
        validate.check(messages)
        messages = validate.with_system(messages, self._run.system_prompt)
        rendered = self._template.render(messages)
        if len(rendered.tokens) > self._max_length:
            raise RowError(f"too long: {len(rendered.tokens)} tokens, at most {self._max_length} (training.maxLength)")
        return Example(tuple(messages)), rendered


def _check_findings(findings: Findings, run: PrepareRun) -> None:
    limit = run.expect.max_invalid_rows
    if not findings.read:
        names = ", ".join(sources.shown(s.uri) for s in run.sources)
        raise UserMistake("EmptyDataset", f"the dataset is empty: no rows in {names}")
    if findings.invalid > limit:
        shown = "; ".join(str(r) for r in findings.rejected[:_SHOWN_ERRORS])
        more = "; …" if findings.invalid > _SHOWN_ERRORS else ""
        verb = "is" if findings.invalid == 1 else "are"
        raise UserMistake(
            "InvalidRows",
            f"{findings.invalid} of {findings.read} rows {verb} invalid (limit {limit}): {shown}{more}. Correct them or"
            " raise dataset.expect.maxInvalidRows to leave them out",
        )


def _check_split(split: Split, run: PrepareRun) -> None:
    valid = len(split.train) + len(split.held_out)
    wanted, least = run.split.held_out, run.expect.min_examples
    if wanted and valid <= wanted:
        raise UserMistake(
            "TooFewExamples",
            f"dataset.split.heldOut is {wanted}, but there are only {valid} valid rows, which would leave none to train"
            " on: lower it or add rows",
        )
    if len(split.train) < least:
        raise UserMistake(
            "TooFewExamples",
            f"{len(split.train)} rows to train on ({valid} valid, {len(split.held_out)} held out), fewer than"
            f" dataset.expect.minExamples ({least}): add rows or lower it",
        )


def _write(
    workspace: Workspace,
    run: PrepareRun,
    found: Found,
    findings: Findings,
    split: Split,
) -> RunResult:
    """Writes all files and says what they hold."""
    train = [findings.rendered[i] for i in split.train]
    training_rows = rows.flatten(train)
    digest = rows.write(workspace.train, training_rows)
    files.write(workspace.held_out, b"".join(_held_out_lines([findings.examples[i] for i in split.held_out])))
    files.write(workspace.chat_template, found.template.encode())
    counts = DatasetCounts(
        read=findings.read,
        invalid=findings.invalid,
        train=len(split.train),
        held_out=len(split.held_out),
        train_tokens=sum(len(r.tokens) for r in train),
    )
    status = DatasetStatus(digest=digest, test_digest=digest_of_file(workspace.held_out), counts=counts)
    base = BaseModelStatus(
        uri=found.base.fetched_to,
        digest=found.base_digest,
        chat_template_hash=digest_of_bytes(found.template.encode()),
    )
    resolved = Resolved(model=found.base.revision or found.base_digest, sources=found.sources)
    files.write_json(workspace.report, _report(run, status, base, resolved, findings, split))
    message = f"{counts.train} rows to train on, {counts.held_out} held out, {counts.invalid} invalid"
    return RunResult(
        role="prepare",
        outcome="Succeeded",
        reason="Prepared",
        message=message,
        prepare=PrepareData(
            resolved=resolved,
            model=base,
            dataset=status,
            sizes=_sizes(Path(found.base.place.path), training_rows),
        ),
    )


def _sizes(directory: Path, training_rows: TrainingRows) -> Sizes | None:
    """What memory and time are estimated from, unless nothing tells what the model is made of."""
    found = model.shape(directory)
    return Sizes(model=found, rows=training_rows.shape()) if found is not None else None


def _held_out_lines(examples: Sequence[Example]) -> Iterator[bytes]:
    """One JSON object a line, sorted by id, which is the content's own hash."""
    keys = [key_of(e.messages) for e in examples]
    for name, example in sorted(zip(identifiers(keys), examples, strict=True), key=lambda pair: pair[0]):
        row = {"id": name, "messages": [m.to_json() for m in example.prompt], "reference": example.reference}
        yield json.dumps(row, ensure_ascii=False).encode() + b"\n"


def _write_rejected(path: Path, rejected: Iterable[Rejected]) -> None:
    """One JSON object a line: source, line, reason. The first 10,000."""
    lines = (json.dumps({"source": r.source, "line": r.line, "reason": r.reason}, ensure_ascii=False) for r in rejected)
    files.write(path, "".join(f"{line}\n" for line in lines).encode())


def _report(
    run: PrepareRun, status: DatasetStatus, base: BaseModelStatus, resolved: Resolved, findings: Findings, split: Split
) -> dict[str, object]:
    """What prepare found, for people and for the model card."""
    lengths = sorted(len(findings.rendered[i].tokens) for i in split.train)
    prompts = {key_of(findings.examples[i].prompt) for i in split.held_out}
    distinct = {key_of(e.messages) for e in findings.examples}
    return {
        "sources": [sources.shown(s.uri) for s in run.sources],
        "seed": run.split.seed,
        "resolved": resolved.to_json(),
        "model": {"source": run.model.uri, **base.to_json()},
        "dataset": status.to_json(),
        "repeatedRows": len(findings.examples) - len(distinct),
        "heldOutPrompts": len(prompts),
        "answerTokens": sum(sum(findings.rendered[i].labelled) for i in split.train),
        "tokensPerRow": {
            "p50": lengths[len(lengths) // 2],
            "p95": lengths[len(lengths) * 95 // 100],
            "max": lengths[-1],
        },
    }
