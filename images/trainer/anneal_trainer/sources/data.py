"""Files of examples: read where they lie, or fetched beside the prepared data and removed once they are read."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from anneal.api.artifacts import digest_of_file
from anneal.api.runs import SourceInput
from anneal_trainer import files
from anneal_trainer.errors import UserMistake
from anneal_trainer.sources.connect import connect
from anneal_trainer.sources.layers import Unpacking
from anneal_trainer.sources.leash import Leash
from anneal_trainer.sources.place import shown
from anneal_trainer.workspace import Workspace


@dataclass(frozen=True)
class Opened:
    """A source that can be read, and what its name stood for."""

    stream: BinaryIO
    resolved: str
    """The commit, where the scheme has commits; otherwise the digest of the content."""
    path: Path
    """Where it lies while it is open."""


@contextmanager
def opened(source: SourceInput, workspace: Workspace, leash: Leash | None = None) -> Iterator[Opened]:
    """The content of a source. What was fetched for it is removed afterwards. Raises UserMistake or Unavailable."""
    if source.path is None:
        path = workspace.downloads / hashlib.sha256(source.uri.encode()).hexdigest()[:16]
        revision = _fetch(source, path, leash or Leash(), workspace.pins)
        try:
            with path.open("rb") as stream:
                yield Opened(stream, revision or digest_of_file(path), path)
        finally:
            path.unlink()
        return
    path = _plain_file(Path(source.path), source.uri)
    try:
        resolved = digest_of_file(path)
        stream = path.open("rb")
    except PermissionError as error:
        raise UserMistake(
            "SourceNotReadable", f"the dataset {source.uri} may not be read: make it readable for user 65532"
        ) from error
    with stream:
        yield Opened(stream, resolved, path)


def _fetch(source: SourceInput, target: Path, leash: Leash, pins: Path) -> str | None:
    how = Unpacking(target.with_suffix(".layers"), "", lambda _: True, leash.max_bytes)
    files.remove_folder(how.folder)  # a run that was cut off may have taken the file out of it
    place = connect(source.uri, source.access, leash, pins, how)
    found = place.files()
    if len(found) != 1:
        names = ", ".join(f.name[:60] for f in found[:3])
        raise UserMistake(
            "SourceNotFound",
            f"{shown(source.uri)} holds {len(found)} files ({names}{', …' if len(found) > 3 else ''}), and a source is"
            " one: name it, or put it there alone",
        )
    (file,) = found
    if file.size is not None and file.size > leash.max_bytes:
        raise UserMistake(
            "SourceTooLarge",
            f"{shown(source.uri)} is larger than {leash.max_bytes} bytes; put it on a claim and use pvc://",
        )
    target.parent.mkdir(parents=True, exist_ok=True)
    place.fetch(file, target)
    files.remove_folder(how.folder)
    return place.revision


def _plain_file(path: Path, uri: str) -> Path:
    """The file, if it is one and no link leads out of the claim on the way to it."""
    if not path.is_file():
        what = "a folder, not a file" if path.is_dir() else "not there"
        raise UserMistake("SourceNotFound", f"the dataset {uri} is {what}: name a JSON Lines file that the claim holds")
    if path.resolve() != path.absolute():
        raise UserMistake(
            "SourceNotAllowed", f"the dataset {uri} is or lies behind a symbolic link: put the file itself there"
        )
    return path
