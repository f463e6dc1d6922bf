"""The first run of a job: read every row, say what is wrong with which, choose what is trained on and what is held out.

It runs before any accelerator is asked for, so all that can be found wrong with the data and the base model is found
here. On the same input it writes the same bytes, however often it is started.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

from anneal.api.artifacts import digest_of_bytes, digest_of_file
from anneal.api.dataset import DatasetCounts, DatasetStatus, SourceFound
from anneal.api.estimate import Sizes
from anneal.api.finetunejob import BaseModelStatus
from anneal.api.runs import PrepareData, PrepareRun, RunResult, SourceInput, encode_result
from anneal.api.sources import Resolved
from anneal_trainer import files, model, rows, sources
from anneal_trainer.errors import UserMistake
from anneal_trainer.preemption import Preemption
from anneal_trainer.prepare import against, augment, ledger, report, semantic, store
from anneal_trainer.prepare.choose import Choice, choose, held_out_of
from anneal_trainer.prepare.ledger import Ledger
from anneal_trainer.prepare.read import Reader
from anneal_trainer.prepare.split import identifiers
from anneal_trainer.prepare.store import Places, Store
from anneal_trainer.prepare.template import ChatTemplate, load_tokenizer
from anneal_trainer.rows import TrainingRows
from anneal_trainer.sources.models import located
from anneal_trainer.workspace import Workspace


def prepare(run: PrepareRun, preemption: Preemption) -> RunResult:
    """Writes the workspace's data folder. Raises UserMistake for data or a base model that cannot work."""
    workspace = Workspace(Path(run.workspace))
    located_base = located(run, preemption)
    base_digest = model.check(located_base.place)
    directory = Path(located_base.place.path)
    augment.check_keys(run, workspace)
    semantic.check_keys(run, workspace)
    template = ChatTemplate(load_tokenizer(directory), model.stop_tokens(directory))
    base = BaseModelStatus(
        uri=located_base.fetched_to,
        digest=base_digest,
        chat_template_hash=digest_of_bytes(template.text.encode()),
    )
    max_length = min(run.max_length, model.longest_context(directory) or run.max_length)
    with store.opened(workspace.train.parent) as found, ledger.kept(workspace.rejected) as account:
        check = partial(preemption.check, "preparing the data")
        reader = Reader(run, template, max_length, found, account)
        detected, commits = _read(reader, run, workspace, check)
        resolved = Resolved(model=located_base.revision or base_digest, sources=commits)
        _check_rows(detected, account, run)
        places = Places([*_names(run), augment.SOURCE], reader.units, found)
        valid = len(found) + reader.left_out.total()
        others = against.read(run, found.words, workspace, check)
        grower = augment.grower(run, workspace, reader, check, others)
        meanings = semantic.meanings(run, workspace, found, check)
        grow = grower.grow if grower is not None else None
        choice = choose(found, run, places.where, check, grow, others, meanings)
        for row, (reason, why) in choice.left_out.items():
            account.leave_out(*places.of(row), reason, why)
        _check_choice(choice, valid, reader)
        files.write(workspace.chat_template, template.text.encode())
        train = found.training_rows(choice.train)
        status = _write(workspace, run, reader, choice, train, detected)
        if others is not None:
            status = status.model_copy(update={"compared": others.compared(choice.leaked)})
        if meanings is not None:
            status = status.model_copy(update={"semantic": semantic.status(meanings, choice)})
        document = report.document(run, status, base, resolved, found, choice, places, detected)
        if grower is not None:
            status = status.model_copy(update={"augmentation": augment.status(grower, choice)})
            document |= {
                "dataset": status.to_json(),
                "augmentation": augment.record(grower, choice, workspace, account),
            }
        files.write_json(workspace.report, document)
    counts = status.counts
    result = RunResult(
        role="prepare",
        outcome="Succeeded",
        reason="Prepared",
        message=f"{counts.train} rows to train on, {counts.held_out} held out, {counts.invalid} invalid",
        prepare=PrepareData(resolved=resolved, model=base, dataset=status, sizes=_sizes(directory, train)),
    )
    return fitting(result)


def fitting(result: RunResult) -> RunResult:
    """The result, without what people can do without where a termination message has no room for it.

    Sixteen fetched sources and a model of many kinds of layers take most of the room; the report has everything. What
    was compared stays, since others go by it.
    """
    for spared in ("categories", "sources", "flagged", "left_out"):
        if result.prepare is None or _fits(result):
            break
        dataset = result.prepare.dataset.model_copy(update={spared: None})
        result = result.model_copy(update={"prepare": result.prepare.model_copy(update={"dataset": dataset})})
    return result


def _fits(result: RunResult) -> bool:
    try:
        encode_result(result)
    except ValueError:
        return False
    return True


def _inputs(run: PrepareRun) -> list[SourceInput]:
    """All files to read; that with the held-out rows, if there is one, comes last."""
    return [*run.sources, *([run.held_out_source] if run.held_out_source is not None else [])]


def _names(run: PrepareRun) -> list[str]:
    return [sources.shown(source.uri) for source in _inputs(run)]


def _read(
    reader: Reader, run: PrepareRun, workspace: Workspace, check: Callable[[], None]
) -> tuple[list[SourceFound], list[str]]:
    """(what each source turned out to be, what its name stood for)."""
    detected, resolved = [], []
    for source, name in zip(_inputs(run), _names(run), strict=True):
        with sources.opened(source, workspace) as opened:
            resolved.append(opened.resolved)
            detected.append(reader.read(source, opened.stream, name, check))
    return detected, resolved


def _check_rows(detected: Sequence[SourceFound], account: Ledger, run: PrepareRun) -> None:
    read = sum(source.rows for source in detected)
    limit = run.expect.max_invalid_rows
    if account.invalid > limit:
        shown = "; ".join(account.first)
        more = "; …" if account.invalid > len(account.first) else ""
        verb = "is" if account.invalid == 1 else "are"
        raise UserMistake(
            "InvalidRows",
            f"{account.invalid} of {read} rows {verb} invalid (limit {limit}): {shown}{more}. Correct them or raise"
            " dataset.expect.maxInvalidRows to leave them out",
        )
    if not sum(source.rows for source in detected[: len(run.sources)]):
        raise UserMistake(
            "EmptyDataset", f"the dataset is empty: no rows in {', '.join(_names(run)[: len(run.sources)])}"
        )
    if run.held_out_source is not None and not detected[-1].rows:
        raise UserMistake("EmptyDataset", f"the held-out file is empty: no rows in {_names(run)[-1]}")


def _check_choice(choice: Choice, valid: int, reader: Reader) -> None:
    run, reasons = reader.run, choice.reasons() + reader.left_out
    left_out = reasons.total()
    wanted, least, most = held_out_of(run), run.expect.min_examples, run.expect.max_examples
    train, held_out = len(choice.train), len(choice.held_out)
    without = f" ({', '.join(_in_words(reasons))})" if left_out else ""
    if run.held_out_source is None and wanted and valid - left_out <= wanted:
        raise UserMistake(
            "TooFewExamples",
            f"dataset.split.heldOut is {wanted}, but there are only {valid - left_out} valid rows{without}, which would"
            " leave none to train on: lower it or add rows",
        )
    texts = len({*choice.train, *choice.held_out} - reader.store.calling)
    if run.held_out_source is None and reader.store.calling and wanted > texts:
        raise UserMistake(
            "TooFewExamples",
            f"dataset.split.heldOut is {wanted}, but only {texts} rows have an answer that is text. The answer of the"
            " others is the call of a tool, which no metric compares: they are trained on. Lower it or add rows",
        )
    if train < least:
        raise UserMistake(
            "TooFewExamples",
            f"{train} rows to train on ({', '.join([f'{valid} valid', f'{held_out} held out', *_in_words(reasons)])}),"
            f" fewer than dataset.expect.minExamples ({least}): add rows or lower it",
        )
    if most is not None and train > most:
        raise UserMistake(
            "TooManyExamples",
            f"{train} rows to train on, more than dataset.expect.maxExamples ({most}): take rows out or raise it",
        )
    if wanted and run.held_out_source is None and not held_out:
        raise UserMistake(
            "NothingHeldOut",
            f"no {wanted} rows could be held out: rows that belong together (one prompt, prompts much alike, one"
            " dataset.split.groupBy) are kept together, and each such group has more rows. Hold out more, bring"
            " held-out rows of their own (dataset.split.heldOutSource), or set dataset.deduplication.near to Ignore",
        )


def _in_words(reasons: Mapping[str, int]) -> list[str]:
    return [f"{rows} left out as {reason}" for reason, rows in sorted(reasons.items())]


def _sizes(directory: Path, train: TrainingRows) -> Sizes | None:
    """What memory and time are estimated from, unless nothing tells what the model is made of."""
    found = model.shape(directory)
    return Sizes(model=found, rows=train.shape()) if found is not None else None


def _write(
    workspace: Workspace,
    run: PrepareRun,
    reader: Reader,
    choice: Choice,
    train: TrainingRows,
    detected: list[SourceFound],
) -> DatasetStatus:
    """Writes the rows of both sides and says what they hold."""
    found = reader.store
    digest = rows.write(workspace.train, train)
    with files.replacing(workspace.held_out) as stream:
        stream.writelines(_held_out_lines(found, choice.held_out))
    counts = DatasetCounts(
        read=sum(source.rows for source in detected),
        invalid=reader.ledger.invalid,
        train=len(choice.train),
        held_out=len(choice.held_out),
        train_tokens=len(train.tokens),
    )
    conflicting = sum(len(group) for group in choice.conflicts) if run.deduplication.conflicts == "Keep" else 0
    return DatasetStatus(
        digest=digest,
        test_digest=digest_of_file(workspace.held_out),
        counts=counts,
        sources=report.source_kinds(detected),
        left_out=report.row_counts(choice.reasons() + reader.left_out),
        flagged=report.row_counts({**reader.flags, "Conflict": conflicting}),
        categories=report.category_counts(report.categories(found, choice)) if run.category else None,
    )


def _held_out_lines(found: Store, held_out: Sequence[int]) -> Iterator[bytes]:
    """One JSON object a line, sorted by id, which is the content's own hash."""
    names = identifiers([found.keys[row] for row in held_out])
    for name, row in sorted(zip(names, held_out, strict=True)):
        example = found.example(row)
        line = {"id": name, "messages": [m.to_json() for m in example.prompt], "reference": example.reference}
        line |= {"tools": json.loads(example.tools)} if example.tools else {}
        line |= {"scoring": json.loads(example.scoring)} if example.scoring else {}
        line |= {key: label for key, label in zip(("category", "group"), found.labels[row], strict=True) if label}
        yield json.dumps(line, ensure_ascii=False).encode() + b"\n"
