"""The small interface that every scheme has: what lies there, and bring me this one."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol


@dataclass(frozen=True)
class RemoteFile:
    """A file at a place, as it was when it was looked up."""

    name: str
    """Path below the place, with forward slashes; of a place that is a file, the file's name."""
    size: int | None = None
    """Bytes; None where the server does not say."""
    version: str = ""
    """What makes sure that exactly this content is fetched, in the scheme's own terms."""
    path: str = ""
    """Where it is, in the scheme's own terms, if its name does not say it."""
    is_here: bool = False
    """Whether it lies on the file system that it goes to, and needs no more room."""


class Place(Protocol):
    """A folder or a file elsewhere. All methods raise UserMistake or Unavailable."""

    @property
    def revision(self) -> str | None:
        """What the place was resolved to, where the scheme has commits."""

    def files(self) -> list[RemoteFile]:
        """What lies there; of a URI that names a file, that file."""

    def fetch(self, file: RemoteFile, target: Path) -> None:
        """Writes the file to `target`, which is complete or absent."""


def shown(uri: str) -> str:
    """A URI fit for messages: without its query, where signed URLs carry their signature."""
    return uri.partition("?")[0]
