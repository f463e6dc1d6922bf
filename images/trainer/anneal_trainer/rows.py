"""The training rows as fit reads them: tokens and labels of all rows in one safetensors file.

Tokenising happens once, in prepare, on a CPU. What fit trains on is then one file with one digest, and reading it needs
neither the tokenizer nor the template.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save

from anneal.api.artifacts import digest_of_file
from anneal.api.estimate import RowShape
from anneal_trainer import files
from anneal_trainer.errors import UserMistake
from anneal_trainer.prepare.template import Rendered


@dataclass(frozen=True)
class TrainingRows:
    """Rows one after the other.

    Attributes:
        tokens: (sum of lengths,) int32.
        labelled: (sum of lengths,) bool: whether the token is learned.
        offsets: (rows + 1,) int64: row i is tokens[offsets[i]:offsets[i + 1]].
    """

    tokens: NDArray[np.int32]
    labelled: NDArray[np.bool_]
    offsets: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def lengths(self) -> NDArray[np.int64]:
        """(rows,) tokens of each row."""
        return np.diff(self.offsets)

    def shape(self) -> RowShape:
        """What memory and time depend on."""
        return RowShape(
            tokens=len(self.tokens),
            answer_tokens=int(self.labelled.sum()),
            longest=int(self.lengths.max()),
            squares=int((self.lengths**2).sum()),
        )

    def row(self, index: int) -> tuple[NDArray[np.int32], NDArray[np.bool_]]:
        """(tokens, labelled) of one row, each (length,)."""
        span = slice(self.offsets[index], self.offsets[index + 1])
        return self.tokens[span], self.labelled[span]

    def take(self, indices: NDArray[np.int64]) -> TrainingRows:
        """Some of the rows, in that order."""
        rows = [self.row(int(i)) for i in indices]
        return TrainingRows(
            tokens=np.concatenate([tokens for tokens, _ in rows]),
            labelled=np.concatenate([labelled for _, labelled in rows]),
            offsets=np.cumsum([0, *self.lengths[indices]], dtype=np.int64),
        )

    def size_of(self, indices: NDArray[np.int64]) -> tuple[int, int]:
        """(tokens to learn, all tokens) of some rows."""
        return sum(int(self.row(int(i))[1].sum()) for i in indices), int(self.lengths[indices].sum())


def flatten(rows: Sequence[Rendered]) -> TrainingRows:
    """The rows in the order given."""
    return TrainingRows(
        tokens=np.concatenate([np.asarray(r.tokens, dtype=np.int32) for r in rows]),
        labelled=np.concatenate([np.asarray(r.labelled, dtype=np.bool_) for r in rows]),
        offsets=np.cumsum([0, *(len(r.tokens) for r in rows)], dtype=np.int64),
    )


def write(path: Path, rows: TrainingRows) -> str:
    """Writes the rows; equal rows give equal bytes. Returns the file's digest."""
    tensors = {"tokens": rows.tokens, "labelled": rows.labelled, "offsets": rows.offsets}
    files.write(path, save(tensors))
    return digest_of_file(path)


def read(path: Path, digest: str) -> TrainingRows:
    """The rows that prepare wrote. Raises UserMistake when the file is not the one with that digest."""
    try:
        found = digest_of_file(path)
        if found == digest:
            return TrainingRows(**load_file(path))
        problem = f"it has digest {found}, expected {digest}"
    except (FileNotFoundError, SafetensorError) as error:
        problem = str(error)
    raise UserMistake(
        "WorkspaceChanged",
        f"the prepared rows in the workspace are not those that prepare wrote ({problem}): create the job anew",
    )
