"""Every valid row on disk, and in memory what decisions about it need: a million rows are no million objects.

Rows are written one after the other while sources are read and looked up again when it is decided which are used.
"""

from __future__ import annotations

import json
import os
from array import array
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, cast

import numpy as np
from numpy.typing import NDArray

from anneal_trainer.prepare.chat import message_of
from anneal_trainer.prepare.split import Example, keys_of
from anneal_trainer.prepare.template import Rendered
from anneal_trainer.prepare.words import Dialogues
from anneal_trainer.rows import TrainingRows


class Store:
    """Valid rows, numbered from 0 in the order in which they were read.

    Attributes:
        keys: of each row, the digest of its messages; equal rows have equal keys.
        prompts: of each row, the digest of all but its answer.
        places: of each row, (source, number in it).
        labels: of each row, (category, group); empty where there is no such column.
        words: of each row, the words of its prompt, without system messages, and of its answer.
        with_tools: the rows in which tools are offered.
        calling: of those, the rows whose answer is the call of one.
    """

    def __init__(self, texts: BinaryIO, tokens: BinaryIO) -> None:
        self._texts, self._tokens = texts, tokens
        self._text_ends, self._token_ends = array("q", [0]), array("q", [0])
        self.keys: list[bytes] = []
        self.prompts: list[bytes] = []
        self.labels: list[tuple[str, str]] = []
        self._sources, self._numbers = array("H"), array("q")
        self.words = Dialogues()
        self.with_tools: set[int] = set()
        self.calling: set[int] = set()
        self._known: dict[tuple[str, str], tuple[str, str]] = {}

    def __len__(self) -> int:
        return len(self.keys)

    def add(self, example: Example, rendered: Rendered, place: tuple[int, int], labels: tuple[str, str]) -> None:
        """Keeps a row that is valid."""
        turns = [m.to_json() for m in example.messages]
        text = json.dumps([example.tools, example.scoring, *turns], ensure_ascii=False).encode()
        self._texts.write(text)
        self._text_ends.append(self._text_ends[-1] + len(text))
        self._tokens.write(np.asarray(rendered.tokens, dtype=np.int32).tobytes())
        self._tokens.write(np.asarray(rendered.labelled, dtype=np.bool_).tobytes())
        self._token_ends.append(self._token_ends[-1] + len(rendered.tokens))
        if example.tools:
            self.with_tools.add(len(self))
        if example.messages[-1].calls:
            self.calling.add(len(self))
        key, prompt = keys_of(example)
        self.keys.append(key)
        self.prompts.append(prompt)
        self.labels.append(self._known.setdefault(labels, labels))
        self._sources.append(place[0])
        self._numbers.append(place[1])
        self.words.add("\n".join(m.said for m in example.prompt if m.role != "system"), example.reference)

    def place(self, row: int) -> tuple[int, int]:
        """(source, number in it) of a row."""
        return self._sources[row], self._numbers[row]

    def sources(self) -> NDArray[np.uint16]:
        """(rows,) the source of each."""
        return np.array(self._sources, dtype=np.uint16)

    def lengths(self) -> NDArray[np.int64]:
        """(rows,) tokens of each."""
        ends = np.array(self._token_ends, dtype=np.int64)
        return np.asarray(ends[1:] - ends[:-1])

    def example(self, row: int) -> Example:
        start, end = self._text_ends[row], self._text_ends[row + 1]
        self._texts.seek(start)
        tools, scoring, *turns = json.loads(self._texts.read(end - start))
        self._texts.seek(0, os.SEEK_END)  # where the next row goes
        return Example(tuple(message_of(turn) for turn in turns), tools, scoring)

    def training_rows(self, chosen: Sequence[int]) -> TrainingRows:
        """The tokens of some rows, in that order; a row may be chosen more than once."""
        lengths = self.lengths()[list(chosen)]
        offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        tokens, labelled = np.empty(offsets[-1], dtype=np.int32), np.empty(offsets[-1], dtype=np.bool_)
        for position, row in enumerate(chosen):
            span, size = slice(offsets[position], offsets[position + 1]), int(lengths[position])
            self._tokens.seek(self._token_ends[row] * 5)  # four bytes a token, and one that says whether it is learned
            tokens[span] = np.frombuffer(self._tokens.read(4 * size), dtype=np.int32)
            labelled[span] = np.frombuffer(self._tokens.read(size), dtype=np.bool_)
        return TrainingRows(tokens=tokens, labelled=labelled, offsets=offsets)


@dataclass(frozen=True)
class Places:
    """Where valid rows came from."""

    sources: Sequence[str]
    units: Sequence[str]
    rows: Store

    def of(self, row: int) -> tuple[str, str, int]:
        """(source, unit, number in it) of a row."""
        source, number = self.rows.place(row)
        return self.sources[source], self.units[source], number

    def where(self, row: int) -> str:
        """The place in words: "line 3 of pvc://…"."""
        source, unit, number = self.of(row)
        return f"{unit} {number} of {source}"


@contextmanager
def opened(folder: Path) -> Iterator[Store]:
    """A store whose files are in `folder` until the block ends."""
    folder.mkdir(parents=True, exist_ok=True)
    texts, tokens = folder / ".rows.partial", folder / ".tokens.partial"
    try:
        with texts.open("w+b") as text_file, tokens.open("w+b") as token_file:
            yield Store(cast("BinaryIO", text_file), cast("BinaryIO", token_file))
    finally:
        texts.unlink(missing_ok=True)
        tokens.unlink(missing_ok=True)
