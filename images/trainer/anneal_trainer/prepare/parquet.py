"""Parquet files, a hundred rows at a time: packed as they are, a few kilobytes may hold gigabytes of repeated text."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, BinaryIO

from anneal_trainer.errors import UserMistake
from anneal_trainer.prepare.chat import RowError
from anneal_trainer.prepare.jsonl import MAX_LINE_BYTES

_BATCH_ROWS = 100


def rows(stream: BinaryIO, name: str, most: int) -> Iterator[dict[str, Any] | RowError]:
    """Every row as Python values, without the columns that are null in it, or what is wrong with that row.

    Raises UserMistake for a broken file, and for one of more than `most` bytes when it is unpacked.
    """
    import pyarrow
    import pyarrow.parquet

    left = most
    try:
        for batch in pyarrow.parquet.ParquetFile(stream).iter_batches(batch_size=_BATCH_ROWS):
            left -= batch.nbytes
            if left < 0:
                raise UserMistake("SourceTooLarge", f"{name} is larger than {most} bytes when it is unpacked")
            yield from _rows_of(batch)
    except (pyarrow.ArrowException, OSError) as error:
        first_line = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise UserMistake("InvalidData", f"{name} is a Parquet file, but cannot be read: {first_line}") from error


def _rows_of(batch: Any) -> Iterator[dict[str, Any] | RowError]:
    """All rows at once where nothing is wrong with any of them, otherwise one by one."""
    if batch.nbytes <= MAX_LINE_BYTES:
        try:
            found = batch.to_pylist()
        except UnicodeDecodeError:
            pass
        else:
            yield from map(_without_nulls, found)
            return
    for number in range(batch.num_rows):
        yield _row_of(batch.slice(number, 1))


def _row_of(single: Any) -> dict[str, Any] | RowError:
    if single.nbytes > MAX_LINE_BYTES:
        return RowError(f"longer than {MAX_LINE_BYTES} bytes")
    try:
        return _without_nulls(single.to_pylist()[0])
    except UnicodeDecodeError:
        return RowError("not UTF-8 text")


def _without_nulls(row: dict[str, Any]) -> dict[str, Any]:
    return {column: value for column, value in row.items() if value is not None}
