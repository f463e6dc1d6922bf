"""Parquet files, a thousand rows at a time."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, BinaryIO

from anneal_trainer.errors import UserMistake

_BATCH_ROWS = 1000


def rows(stream: BinaryIO, name: str) -> Iterator[dict[str, Any]]:
    """Every row as Python values, without the columns that are null in it. Raises UserMistake for a broken file."""
    import pyarrow
    import pyarrow.parquet

    try:
        for batch in pyarrow.parquet.ParquetFile(stream).iter_batches(batch_size=_BATCH_ROWS):
            for row in batch.to_pylist():
                yield {column: value for column, value in row.items() if value is not None}
    except (pyarrow.ArrowException, OSError) as error:
        first_line = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise UserMistake("InvalidData", f"{name} is a Parquet file, but cannot be read: {first_line}") from error
