"""The files that examples come in, told apart by what they begin with and read one row at a time.

A name proves nothing, so it is not looked at: the first bytes say whether a file is compressed, and what it is. What
was found is said in status, because a file taken for something else is the quietest way to train on rubbish. Only a
part of any file is in memory at a time.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO, cast

from anneal_trainer.errors import UserMistake
from anneal_trainer.prepare import jsonl, parquet
from anneal_trainer.prepare.chat import RowError

#: Bytes of a source once it is unpacked. A bomb ends here instead of filling a disk or a day.
MAX_BYTES = 64 * 1024**3
_LOOKED_AT = 64 * 1024
_BOM = b"\xef\xbb\xbf"
_UTF_16 = (b"\xff\xfe", b"\xfe\xff")
_GZIP, _ZSTD = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"
_DELIMITERS = {",": "commas", ";": "semicolons", "\t": "tabs"}
#: Values that spreadsheets begin formulas with are data here; only the size of a field is limited.
csv.field_size_limit(jsonl.MAX_LINE_BYTES)


@dataclass(frozen=True)
class Record:
    """One row of a file, with its place as people count: `unit` is line, element or row, `number` from 1.

    Attributes:
        read: gives the row as a mapping; raises RowError for one that is broken.
    """

    unit: str
    number: int
    read: Callable[[], dict[str, Any]]


@dataclass(frozen=True)
class Container:
    """What a file is, for people, and its rows. Iterating raises UserMistake where the file itself is broken."""

    kind: str
    records: Iterator[Record]


def opened(stream: BinaryIO, name: str) -> Container:
    """Tells what `stream` is and reads it. `name` is for messages. Raises UserMistake for what cannot be read."""
    stream, packed = _unpacked(stream, name)
    start = stream.peek(_LOOKED_AT)[:_LOOKED_AT]
    if not start:
        return Container("empty", iter(()))
    if start.startswith(b"PAR1"):
        if packed:
            raise UserMistake("InvalidData", f"{name} is a Parquet file inside {packed}: unpack it first")
        return Container("Parquet", _numbered("row", parquet.rows(stream, name, MAX_BYTES)))
    if start.startswith(b"PK\x03\x04"):
        raise UserMistake("InvalidData", f"{name} is a zip archive; unpack it first")
    if packed and start.startswith((_GZIP, _ZSTD)):
        raise UserMistake("InvalidData", f"{name} is packed twice: unpack it first")
    if start.startswith(_UTF_16) or b"\0" in start[:4]:
        raise UserMistake("InvalidData", f"{name} is not UTF-8 text but looks like UTF-16 or UTF-32: save it as UTF-8")
    kind, records = _text_records(stream, start, name)
    return Container(f"{kind} in {packed}" if packed else kind, _guarded(records, name))


def _unpacked(stream: BinaryIO, name: str) -> tuple[io.BufferedReader[Any], str]:
    """The content, and what it was compressed with, if it was."""
    buffered = io.BufferedReader(cast("io.RawIOBase", stream), _LOOKED_AT)
    magic = buffered.peek(4)[:4]
    if magic.startswith(_GZIP):
        return io.BufferedReader(_Limited(cast("BinaryIO", gzip.GzipFile(fileobj=buffered)), name), _LOOKED_AT), "gzip"
    if magic == _ZSTD:
        import pyarrow

        return io.BufferedReader(_Limited(pyarrow.CompressedInputStream(buffered, "zstd"), name), _LOOKED_AT), "zstd"
    return buffered, ""


class _Limited(io.RawIOBase):
    """A decompressed stream that ends in a sentence, where it is broken and where it never ends."""

    def __init__(self, stream: BinaryIO, name: str) -> None:
        self._stream, self._name, self._left = stream, name, MAX_BYTES

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        try:
            block = self._stream.read(len(buffer))
        except (OSError, EOFError, zlib.error) as error:
            raise UserMistake("InvalidData", f"{self._name} is compressed, but broken: {error}") from error
        self._left -= len(block)
        if self._left < 0:
            raise UserMistake("SourceTooLarge", f"{self._name} is larger than {MAX_BYTES} bytes when it is unpacked")
        buffer[: len(block)] = block
        return len(block)


def _text_records(stream: io.BufferedReader[Any], start: bytes, name: str) -> tuple[str, Iterator[Record]]:
    text = start.removeprefix(_BOM).lstrip()
    if text.startswith(b"["):
        return "a JSON array", _numbered("element", _elements(stream, name))
    delimiter = None if text.startswith(b"{") else _delimiter(text)
    if delimiter is not None:
        return f"CSV separated by {_DELIMITERS[delimiter]}", _csv(stream, delimiter, name)
    return "JSON Lines", _lines(stream)


def _guarded(records: Iterator[Record], name: str) -> Iterator[Record]:
    try:
        yield from records
    except csv.Error as error:
        raise UserMistake("InvalidData", f"{name} is broken CSV: {error}") from error


def _lines(stream: BinaryIO) -> Iterator[Record]:
    for number, line in jsonl.numbered_lines(stream):
        yield Record("line", number, lambda line=line: jsonl.parse(line))  # type: ignore[misc]


def _numbered(unit: str, rows: Iterator[Any]) -> Iterator[Record]:
    for number, row in enumerate(rows, start=1):
        yield Record(unit, number, lambda row=row: _row(row))  # type: ignore[misc]


def _row(found: Any) -> dict[str, Any]:
    if isinstance(found, RowError):
        raise found
    return jsonl.need_object(found)


def _elements(stream: BinaryIO, name: str) -> Iterator[Any]:
    """The elements of a JSON array, one after the other. What is broken in it breaks all that follows."""
    text = io.TextIOWrapper(stream, encoding="utf-8-sig")
    decoder = json.JSONDecoder()
    buffer, number, more = "", 0, True

    def fill() -> bool:
        """Reads on, at least as much again as is held; False at the end."""
        nonlocal buffer
        try:
            block = text.read(max(_LOOKED_AT, len(buffer)))
        except UnicodeDecodeError as error:
            raise UserMistake("InvalidData", f"{name} is not UTF-8 text after element {number}") from error
        buffer = buffer.lstrip() + block
        return bool(block)

    fill()
    buffer = buffer.lstrip()[1:]
    while True:
        buffer = buffer.lstrip().removeprefix(",").lstrip() if number else buffer.lstrip()
        if buffer.startswith("]"):
            return
        try:
            value, end = decoder.raw_decode(buffer)
        except RecursionError as error:
            raise UserMistake(
                "InvalidData", f"element {number + 1} of {name} is broken JSON (nested too deeply)"
            ) from error
        except ValueError as error:
            if len(buffer) > jsonl.MAX_LINE_BYTES:
                raise UserMistake(
                    "InvalidData",
                    f"element {number + 1} of {name} is broken JSON, or longer than {jsonl.MAX_LINE_BYTES} bytes",
                ) from error
            if not (more and (more := fill())):
                what = str(error) if buffer else "the array has no end"
                raise UserMistake("InvalidData", f"element {number + 1} of {name} is broken JSON ({what})") from error
            continue
        # A number at the end of what was read may go on in what was not.
        if end == len(buffer) and more:
            more = fill()
            continue
        number, buffer = number + 1, buffer[end:]
        yield value


def _delimiter(start: bytes) -> str | None:
    """What cuts the first line into the most names, if that makes any."""
    header = next(iter(start.splitlines()), b"").decode(errors="replace")
    names = {delimiter: len(next(csv.reader([header], delimiter=delimiter), [])) for delimiter in _DELIMITERS}
    best = max(names, key=lambda delimiter: names[delimiter])
    return best if names[best] > 1 else None


def _csv(stream: BinaryIO, delimiter: str, name: str) -> Iterator[Record]:
    """Rows of a CSV file with a header line, each at the line that it ends on. Cells that are missing are left out."""
    text = io.TextIOWrapper(stream, encoding="utf-8-sig", errors="surrogateescape", newline="")
    reader = csv.reader(text, delimiter=delimiter, strict=True)
    header = [column.strip() for column in next(reader)]
    if _is_broken("".join(header)):
        raise UserMistake("InvalidData", f"the header of {name}, which is taken for CSV, is not UTF-8 text")
    if len(set(header)) < len(header):
        raise UserMistake("InvalidData", f"{name} is CSV with two columns of one name: {', '.join(header)[:200]}")
    for cells in reader:
        if cells:
            yield Record("line", reader.line_num, lambda cells=cells: _cells(header, cells))  # type: ignore[misc]


def _cells(header: list[str], cells: list[str]) -> dict[str, Any]:
    if len(cells) > len(header):
        raise RowError(f"{len(cells)} cells, but the header names {len(header)} columns")
    for column, cell in zip(header, cells, strict=False):
        if _is_broken(cell):
            raise RowError(f'not UTF-8 text (column "{column[:40]}")')
    # An empty cell is how CSV says that there is nothing.
    return {column: cell for column, cell in zip(header, cells, strict=False) if cell}


def _is_broken(text: str) -> bool:
    """Whether bytes that are not UTF-8 were read into it."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return True
    return False
