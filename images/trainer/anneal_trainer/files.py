"""Files that are complete or absent, whenever the process is killed and whenever the node loses power.

Everything is written aside, brought to the disk (fsync of the file and of its folder), and only then given its name by
one rename, which the file system makes atomic.
"""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO


def sync(path: Path) -> None:
    """Brings a file's content, or a folder's entries, to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """A stream whose content becomes `path` when the block ends well; after an error `path` is as it was."""
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.partial")
    try:
        with aside.open("wb") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
    except BaseException:
        aside.unlink(missing_ok=True)
        raise
    aside.replace(path)
    sync(path.parent)


def write(path: Path, content: bytes) -> None:
    """Writes `path` at once and for good."""
    with replacing(path) as stream:
        stream.write(content)


def write_json(path: Path, document: Any) -> None:
    """Writes a readable JSON file: sorted keys, two spaces, a newline at the end. Equal documents, equal bytes."""
    text = json.dumps(document, sort_keys=True, indent=2, ensure_ascii=False, allow_nan=False)
    write(path, text.encode() + b"\n")


def settle(aside: Path, final: Path) -> None:
    """Gives the folder `aside` its name, once all that is in it is on the disk. `final` must not exist."""
    for path in sorted(aside.rglob("*")):
        sync(path)
    sync(aside)
    aside.rename(final)
    sync(final.parent)


def is_full(error: Exception) -> bool:
    """Whether a write failed for want of space. safetensors tells it in words, with the number in them."""
    numbers = [error.errno] if isinstance(error, OSError) else re.findall(r"os error (\d+)", str(error))
    return any(int(number or 0) in (errno.ENOSPC, errno.EDQUOT) for number in numbers)


def remove_folder(path: Path) -> None:
    """Removes a folder if it is there. Its name goes first, so that nobody takes a half-removed one for whole."""
    if not path.exists():
        return
    doomed = path.with_name(f".{path.name}.removed")
    shutil.rmtree(doomed, ignore_errors=True)
    path.rename(doomed)
    shutil.rmtree(doomed, ignore_errors=True)
