"""The files in a layer of an image: those that are wanted, and nothing that an archive could do beside giving them.

A layer is an archive from somebody. Its paths decide nothing here: files are written under numbers, in a folder that is
complete or absent, with a list of what they are called. Links, devices and paths that lead upwards are refused; what is
unpacked, and what is read of any header, is bounded while it is read.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import tarfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Self, cast

from anneal_trainer import files
from anneal_trainer.errors import UserMistake
from anneal_trainer.sources.place import RemoteFile

_BLOCK = 4 * 1024 * 1024
_LIST = "list.json"
_BROKEN = (tarfile.InvalidHeaderError, tarfile.TruncatedHeaderError)  # type: ignore[attr-defined]
_MAX_ENTRIES = 100_000
_MAX_HEADER_BYTES = 1024**2
#: Weights hardly shrink when they are compressed: what grows more than this was made to grow.
_MAX_GROWTH, _MAX_BYTES_OF_SMALL = 10, 1024**3


@dataclass(frozen=True)
class Unpacking:
    """What is taken out of layers, and where to."""

    folder: Path
    """Gets a folder for each layer; on the file system that the files go to. Whoever names it removes it."""
    root: str
    """The folder of an image that counts; empty: all of it."""
    keeps: Callable[[str], bool]
    """Whether a file is taken, by its path below root. Others are listed only."""
    max_bytes: int | None = None
    """Of all layers of an image; None: as much as there is room for."""


def unpacked(blocks: Iterator[bytes], digest: str, size: int, how: Unpacking, image: str) -> list[RemoteFile]:
    """The files of a layer, each with the place to which it was unpacked, now or in an earlier run.

    Args:
        blocks: the content of the layer, read only where it was not unpacked before, and to its end.
        digest: of the layer.
        size: of the layer, in bytes.
        how: what to take, and where to.
        image: for messages.

    Raises UserMistake, and what `blocks` raises.
    """
    folder = how.folder / digest.removeprefix("sha256:")[:32]
    if not folder.exists():
        aside = folder.with_name(f".{folder.name}.partial")
        files.remove_folder(aside)
        aside.mkdir(parents=True)
        limit = max(_MAX_GROWTH * size, _MAX_BYTES_OF_SMALL) if how.max_bytes is None else how.max_bytes
        reader = _Layer(blocks, limit, f"layer {digest[:19]}… of {image}")
        listed = [[name, bytes_, hash_, number] for name, bytes_, hash_, number in reader.write(aside, how)]
        files.write_json(aside / _LIST, listed)
        files.settle(aside, folder)
    found = json.loads((folder / _LIST).read_bytes())
    return [
        RemoteFile(name, bytes_, hash_, str(folder / str(number)), is_here=True)
        for name, bytes_, hash_, number in found
    ]


class _Entry(tarfile.TarInfo):
    """An entry whose header must be one: tarfile takes a broken one for the end, and what follows would be missing."""

    @classmethod
    def fromtarfile(cls, tarfile_: tarfile.TarFile) -> Self:
        try:
            return super().fromtarfile(tarfile_)
        except _BROKEN as error:
            raise tarfile.ReadError(f"{error} at byte {tarfile_.offset}") from error


class _Layer:
    """One pass over a layer."""

    def __init__(self, blocks: Iterator[bytes], limit: int, name: str) -> None:
        self._name, self._blocks = name, io.BufferedReader(_Blocks(blocks), _BLOCK)
        self._meter = _Meter(_plain(self._blocks), limit, name)

    def write(self, folder: Path, how: Unpacking) -> Iterator[tuple[str, int, str, int]]:
        """(path, bytes, sha256, number) of each file, those that are kept in `folder` by then; of others no sha256."""
        try:
            with tarfile.open(fileobj=cast("BinaryIO", self._meter), mode="r|", tarinfo=_Entry) as archive:
                for number, entry in enumerate(archive):
                    if number >= _MAX_ENTRIES:
                        raise UserMistake("SourceTooLarge", f"{self._name} has more than {_MAX_ENTRIES} entries")
                    self._meter.allow(entry.size if entry.isreg() else 0)
                    path = self._path(entry, how.root)
                    if path is None:
                        continue
                    kept = how.keeps(path)
                    content = archive.extractfile(entry) if kept else None
                    yield path, entry.size, _copied(content, folder / str(number)) if content else "", number
        except (tarfile.TarError, EOFError, zlib.error, UnicodeError, ValueError) as error:
            raise self._broken(error) from error
        except OSError as error:
            if error.errno is not None:
                raise
            raise self._broken(error) from error
        self._read_on()

    def _read_on(self) -> None:
        """To the end, where it is known whether the whole is what its digest says."""
        while self._blocks.read(_BLOCK):
            pass

    def _path(self, entry: tarfile.TarInfo, root: str) -> str | None:
        """The path of a file below root; None for what does not count. Raises UserMistake for tricks."""
        parts = [part for part in entry.name.split("/") if part not in ("", ".")]
        shown = entry.name[:120]
        if ".." in parts or "\0" in entry.name:
            raise UserMistake("SourceNotAllowed", f"{self._name} has the path '{shown}', which leads out of it")
        if entry.issparse():
            raise UserMistake("SourceNotAllowed", f"{self._name} has '{shown}' with holes: pack whole files")
        if root and parts[:1] != [root]:
            return None
        if entry.isdir():
            return None
        if not entry.isreg():
            raise UserMistake(
                "SourceNotAllowed", f"{self._name} has '{shown}', which is a link or a device: pack the file itself"
            )
        if parts[-1].startswith(".wh."):
            raise UserMistake(
                "SourceNotAllowed", f"{self._name} removes files of a layer below ('{shown}'): build the image anew"
            )
        return "/".join(parts[1:] if root else parts)

    def _broken(self, error: Exception) -> UserMistake:
        self._read_on()  # what arrived damaged is nobody's mistake, and is said by who reads it
        return UserMistake("SourceNotReadable", f"{self._name} is not an archive that can be read: {str(error)[:200]}")


def _copied(content: Any, target: Path) -> str:
    """Writes a file; its sha256."""
    hasher = hashlib.sha256()
    with target.open("xb") as output:
        while block := content.read(_BLOCK):
            hasher.update(block)
            output.write(block)
    return f"sha256:{hasher.hexdigest()}"


def _plain(stream: Any) -> Any:
    """The archive, by what it begins with: gzip, zstd or neither."""
    magic = stream.peek(4)[:4]
    if magic.startswith(b"\x1f\x8b"):
        return gzip.GzipFile(fileobj=stream)
    if magic == b"\x28\xb5\x2f\xfd":
        import pyarrow

        return pyarrow.CompressedInputStream(stream, "zstd")
    return stream


class _Blocks(io.RawIOBase):
    """Blocks as a stream."""

    def __init__(self, blocks: Iterator[bytes]) -> None:
        self._blocks, self._left = blocks, b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._left:
            block = next(self._blocks, None)
            if block is None:
                return 0
            self._left = block
        taken = min(len(buffer), len(self._left))
        buffer[:taken], self._left = self._left[:taken], self._left[taken:]
        return taken


class _Meter:
    """Counts what is read of an archive: in all, and from the end of one file to the next."""

    def __init__(self, stream: BinaryIO, limit: int, name: str) -> None:
        self._stream, self._limit, self._name = stream, limit, name
        self._total, self._until = 0, _MAX_HEADER_BYTES

    def allow(self, size: int) -> None:
        """A file of that many bytes comes next."""
        self._until = size + _MAX_HEADER_BYTES

    def read(self, size: int) -> bytes:
        """The next bytes. Raises UserMistake beyond either limit."""
        block = self._stream.read(size)
        self._total, self._until = self._total + len(block), self._until - len(block)
        if self._total > self._limit:
            raise UserMistake("SourceTooLarge", f"{self._name} unpacks to more than {self._limit} bytes")
        if self._until < 0:
            raise UserMistake("SourceNotAllowed", f"{self._name} has a header of more than {_MAX_HEADER_BYTES} bytes")
        return block
