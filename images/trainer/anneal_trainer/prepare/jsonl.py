"""JSON Lines, one object a line, read so that one broken line costs one row and a broken file one sentence."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, BinaryIO

from anneal_trainer.errors import UserMistake
from anneal_trainer.prepare.formats import RowError

MAX_LINE_BYTES = 16 * 1024 * 1024
_NOT_LINES = {
    b"\x1f\x8b": "compressed with gzip; unpack it first",
    b"PK": "a zip archive; unpack it first",
    b"PAR1": "a Parquet file; write it as JSON Lines, such as pandas.read_parquet(f).to_json(g, orient='records',"
    " lines=True)",
    b"[": "one JSON array; write one object a line, such as with jq -c '.[]'",
}


def numbered_lines(stream: BinaryIO, name: str) -> Iterator[tuple[int, bytes]]:
    """(line number from 1, line without its end) of every line that is not blank.

    A line longer than MAX_LINE_BYTES comes cut, which `parse` refuses. Raises UserMistake when the whole file is of
    another kind.
    """
    number = 0
    while line := stream.readline(MAX_LINE_BYTES + 1):
        number += 1
        if number == 1:
            line = line.removeprefix(b"\xef\xbb\xbf")
            _refuse_other_kinds(line, name)
        if len(line) > MAX_LINE_BYTES:
            _skip_rest(stream, line)
        if line.strip():
            yield number, line.rstrip(b"\r\n")


def _skip_rest(stream: BinaryIO, piece: bytes) -> None:
    while piece and not piece.endswith(b"\n"):
        piece = stream.readline(MAX_LINE_BYTES)


def _refuse_other_kinds(start: bytes, name: str) -> None:
    for magic, what in _NOT_LINES.items():
        if start.lstrip().startswith(magic):
            raise UserMistake("InvalidData", f"{name} is {what}")


def parse(line: bytes) -> dict[str, Any]:
    """The object on a line. Raises RowError."""
    if len(line) > MAX_LINE_BYTES:
        raise RowError(f"longer than {MAX_LINE_BYTES} bytes")
    try:
        row = json.loads(line.decode())
    except UnicodeDecodeError as error:
        raise RowError(f"not UTF-8 text (byte {error.start + 1})") from error
    except json.JSONDecodeError as error:
        raise RowError(f"broken JSON ({error.msg} at column {error.colno})") from error
    except ValueError as error:
        raise RowError(f"broken JSON ({error})") from error
    except RecursionError as error:
        raise RowError("broken JSON (nested too deeply)") from error
    if not isinstance(row, dict):
        raise RowError("not a JSON object")
    return row
