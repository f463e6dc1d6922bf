"""JSON Lines, one object a line, read so that one broken line costs one row."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, BinaryIO

from anneal_trainer.prepare.chat import RowError

MAX_LINE_BYTES = 16 * 1024 * 1024


def numbered_lines(stream: BinaryIO) -> Iterator[tuple[int, bytes]]:
    """(line number from 1, line without its end) of every line that is not blank.

    A line longer than MAX_LINE_BYTES comes cut, which `parse` refuses.
    """
    number = 0
    while line := stream.readline(MAX_LINE_BYTES + 1):
        number += 1
        if number == 1:
            line = line.removeprefix(b"\xef\xbb\xbf")
        if len(line) > MAX_LINE_BYTES:
            _skip_rest(stream, line)
        if line.strip():
            yield number, line.rstrip(b"\r\n")


def _skip_rest(stream: BinaryIO, piece: bytes) -> None:
    while piece and not piece.endswith(b"\n"):
        piece = stream.readline(MAX_LINE_BYTES)


def parse(line: bytes) -> dict[str, Any]:
    """The object on a line. Raises RowError."""
    if len(line) > MAX_LINE_BYTES:
        raise RowError(f"longer than {MAX_LINE_BYTES} bytes")
    try:
        text = line.decode()
    except UnicodeDecodeError as error:
        raise RowError(f"not UTF-8 text (byte {error.start + 1})") from error
    return need_object(decode(text))


def decode(text: str) -> Any:
    """The JSON value in `text`. Raises RowError."""
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise RowError(f"broken JSON ({error.msg} at column {error.colno})") from error
    except ValueError as error:
        raise RowError(f"broken JSON ({error})") from error
    except RecursionError as error:
        raise RowError("broken JSON (nested too deeply)") from error


def need_object(value: Any) -> dict[str, Any]:
    """`value`, which must be a JSON object. Raises RowError."""
    if not isinstance(value, dict):
        raise RowError("not a JSON object")
    return value
