"""From files to valid rows: each row is read, taken for one of the formats, cleaned, checked and put into tokens."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, BinaryIO

from anneal.api.dataset import SourceFound
from anneal.api.runs import PrepareRun, SourceInput
from anneal_trainer.prepare import cleaning, containers, languages, validate
from anneal_trainer.prepare.chat import Message, OtherLanguageError, RowError
from anneal_trainer.prepare.containers import Record
from anneal_trainer.prepare.formats import detect, renamed, to_messages
from anneal_trainer.prepare.ledger import Ledger
from anneal_trainer.prepare.split import Example
from anneal_trainer.prepare.store import Store
from anneal_trainer.prepare.template import ChatTemplate
from anneal_trainer.prepare.tools import tools_in

_DETECTED_LETTERS = 96


@dataclass
class Reader:
    """Fills a store from sources, one after the other.

    Attributes:
        flags: of how many rows each flag of `DatasetStatus.flagged` is true.
        left_out: valid rows that are not used, by reason.
        units: of each source read so far, what its rows are called: line, element or row.
    """

    run: PrepareRun
    template: ChatTemplate
    max_length: int
    store: Store
    ledger: Ledger
    flags: Counter[str] = field(default_factory=Counter)
    left_out: Counter[str] = field(default_factory=Counter)
    units: list[str] = field(default_factory=list)

    def read(self, source: SourceInput, stream: BinaryIO, name: str, check: Callable[[], None]) -> SourceFound:
        """Reads a whole source. `check` is called for every row. Raises UserMistake where the file itself is broken."""
        container = containers.opened(stream, name)
        formats: Counter[str] = Counter()
        self.begin("row")
        rows = 0
        for record in container.records:
            check()
            rows += 1
            self.units[-1] = record.unit
            try:
                formats[self._take(source, record)] += 1
            except OtherLanguageError as error:
                self.left_out["Language"] += 1
                self.ledger.leave_out(name, record.unit, record.number, "Language", str(error))
            except RecursionError:
                self.ledger.refuse(name, record.unit, record.number, "nested too deeply")
            except RowError as error:
                self.ledger.refuse(name, record.unit, record.number, str(error))
        return SourceFound(detected=_sentence(container.kind, formats, source), rows=rows)

    def begin(self, unit: str) -> None:
        """From now on rows are of a further source."""
        self.units.append(unit)

    def _take(self, source: SourceInput, record: Record) -> str:
        """Keeps a row; the format that it has. Raises RowError."""
        raw = record.read()
        row = renamed(raw, source.columns) if source.columns is not None else raw
        format_ = detect(row) if source.format == "Auto" else source.format
        messages = to_messages(row, format_)
        labels = (
            _label(raw, self.run.category, "category"),
            _label(raw, self.run.split.group_by, "split.groupBy"),
        )
        if source is self.run.held_out_source and messages and messages[-1].calls:
            raise RowError("its answer is the call of a tool, which no metric compares: train on it, hold out others")
        scoring = _scoring(raw) if source is self.run.held_out_source else ""
        self.keep(messages, record.number, labels, tools_in(row), scoring)
        return format_

    def keep(
        self, messages: list[Message], number: int, labels: tuple[str, str], tools: str = "", scoring: str = ""
    ) -> None:
        """Cleans and checks a row of the source at hand, and stores it. Raises RowError."""
        validate.check(messages, tools)
        messages, flags = cleaning.clean(messages, tools, self.run.cleaning)
        validate.check(messages, tools)  # what is left of a text of control characters is no text
        flags |= self._flags_of_language(messages)
        messages = validate.with_system(messages, self.run.system_prompt)
        rendered = self.template.render(messages, tools)
        if len(rendered.tokens) > self.max_length:
            raise RowError(f"too long: {len(rendered.tokens)} tokens, at most {self.max_length} (training.maxLength)")
        self.store.add(Example(tuple(messages), tools, scoring), rendered, (len(self.units) - 1, number), labels)
        self.flags.update(flags)

    def _flags_of_language(self, messages: Sequence[Message]) -> set[str]:
        """Looks at the last question and the answer. Raises OtherLanguageError."""
        wanted = self.run.cleaning.languages
        if not wanted:
            return set()
        said = [message.content for message in messages if message.role in ("user", "assistant")]
        found = languages.off(said[-2:], wanted)
        if found:
            raise OtherLanguageError(f"it is in the language {found}, and cleaning.languages is {', '.join(wanted)}")
        return set() if found is None else {"LanguageUnknown"}


def _label(row: Mapping[str, Any], column: str | None, field_: str) -> str:
    """What a column says of a row; "a.b" is b in the object a. Raises RowError where it says nothing."""
    if column is None:
        return ""
    outer, _, inner = column.partition(".")
    value: Any = row.get(column)
    if value is None and inner and isinstance(row.get(outer), Mapping):
        value = row[outer].get(inner)
    if value is None or isinstance(value, list | dict) or str(value) == "":
        raise RowError(f'no value in "{column[:40]}", which dataset.{field_} names')
    return str(value)


def _scoring(row: Mapping[str, Any]) -> str:
    """The object that plugins are handed with every answer to the row, as JSON. Raises RowError."""
    value = row.get("scoring")
    if value is None:
        return ""
    if not isinstance(value, dict):
        raise RowError('its "scoring", which plugins are handed, is no object')
    try:
        return json.dumps(value, ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise RowError('its "scoring", which plugins are handed, holds what JSON does not have') from error


def _sentence(kind: str, formats: Mapping[str, int], source: SourceInput) -> str:
    """What a source turned out to be and why, for people."""
    why = "by columns" if source.columns is not None else "by its keys" if source.format == "Auto" else "as told"
    counted = ", ".join(
        name if len(formats) == 1 else f"{name} ({rows} rows)" for name, rows in sorted(formats.items())
    )
    sentence = f"{kind}; {counted}, {why}" if counted else f"{kind}; no valid row"
    return sentence if len(sentence) <= _DETECTED_LETTERS else sentence[: _DETECTED_LETTERS - 1] + "…"
