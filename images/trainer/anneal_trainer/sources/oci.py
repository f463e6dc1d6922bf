"""`oci://` as a source: models and data in a container registry, as images or as artifacts of single files.

A tag is looked up once, to the digest that it stood for. An image has its files in archives, which have to be read from
end to end: they are unpacked beside where the files go, only what is wanted. An artifact, as ORAS and ModelPack push
it, has a file in each layer, by name: such a file is fetched alone.
"""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from anneal.api.references import OciLocation
from anneal_trainer import files
from anneal_trainer.errors import Unavailable, UserMistake
from anneal_trainer.sources.credentials import Credentials
from anneal_trainer.sources.layers import Unpacking, unpacked
from anneal_trainer.sources.leash import Leash
from anneal_trainer.sources.place import RemoteFile
from anneal_trainer.sources.registry import INDEXES, MANIFESTS, Document, Registry, connected

_DIGEST = re.compile(r"sha256:[a-f0-9]{64}")
_ARCHIVE = re.compile(r".*[./]tar([.+](gzip|zstd))?")
#: Annotations: the name of the one file that a layer is, by ORAS and by ModelPack; and that it is a folder after all.
_TITLE, _PATH, _IS_FOLDER = (
    "org.opencontainers.image.title",
    "org.cncf.model.filepath",
    "io.deis.oras.content.unpack",
)
_MAX_LAYERS = 1000


@dataclass(frozen=True)
class _Layer:
    digest: str
    size: int
    file: str | None
    """The name of the file that it is; None of an archive."""


@dataclass(frozen=True)
class Image:
    """An image or an artifact, by digest."""

    where: OciLocation
    endpoint: str | None
    credentials: Credentials
    leash: Leash
    how: Unpacking
    revision: str

    def files(self) -> list[RemoteFile]:
        """What it holds; archives are unpacked to know. A later layer's file stands for an earlier one of its name."""
        with self._registry() as registry:
            layers = self._layers(registry)
            self._check_size(layers)
            found: dict[str, RemoteFile] = {}
            for layer in layers:
                if layer.file is not None:
                    found[layer.file] = RemoteFile(layer.file, layer.size, layer.digest)
                    continue
                blocks = registry.blob(layer.digest, layer.size)
                for file in unpacked(blocks, layer.digest, layer.size, self.how, self.where.uri):
                    found[file.name] = file
        return list(found.values())

    def fetch(self, file: RemoteFile, target: Path) -> None:
        """Gives a file that was unpacked its place, or downloads the layer that it is."""
        if file.is_here:
            Path(file.path).replace(target)
            files.sync(target.parent)
            return
        with self._registry() as registry, files.replacing(target) as output:
            for block in registry.blob(file.version, file.size or 0):
                output.write(block)

    def _registry(self) -> Any:
        return connected(self.where, self.endpoint, self.credentials, self.leash, "Source")

    def _layers(self, registry: Registry) -> list[_Layer]:
        document = _found(registry, self.revision, self.where.uri)
        if document.media_type in INDEXES:
            document = _found(registry, _of_any_platform(document, self.where.uri), self.where.uri)
        listed = _json(document, self.where.uri).get("layers")
        if document.media_type not in MANIFESTS or not isinstance(listed, list) or len(listed) > _MAX_LAYERS:
            raise _not_ours(self.where.uri)
        return [_layer(entry, self.where.uri) for entry in listed]

    def _check_size(self, layers: list[_Layer]) -> None:
        archives = sum(layer.size for layer in layers if layer.file is None)
        if self.how.max_bytes is not None and archives > self.how.max_bytes:
            raise UserMistake("SourceTooLarge", f"{self.where.uri} is larger than {self.how.max_bytes} bytes")
        self.how.folder.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(self.how.folder).free
        done = sum(f.stat().st_size for f in self.how.folder.rglob("*") if f.is_file())
        if archives > free + done:
            raise Unavailable(
                "NoSpaceLeft",
                f"{self.where.uri} needs {archives / 1e9:.1f} GB and there are {free / 1e9:.1f} GB left: make the claim"
                " larger",
            )


def connect(
    where: OciLocation,
    endpoint: str | None,
    credentials: Credentials,
    leash: Leash,
    pinned: str | None,
    how: Unpacking,
) -> Image:
    """The image that `pinned` says, or else that the name stands for now. Raises UserMistake or Unavailable."""
    digest = pinned or where.digest
    if digest is None:
        with connected(where, endpoint, credentials, leash, "Source") as registry:
            digest = _found(registry, where.tag or "latest", where.uri).digest
    return Image(where, endpoint, credentials, leash, how, digest)


def _found(registry: Registry, reference: str, uri: str) -> Document:
    document = registry.find(reference)
    if document is None:
        raise UserMistake("SourceNotFound", f"there is nothing at {uri} ({reference}): check repository and tag")
    return document


def _of_any_platform(document: Document, uri: str) -> str:
    """The digest of an image of the index: of Linux on amd64 if it has that, since data is the same for all."""
    entries = _json(document, uri).get("manifests")
    images = {}
    for entry in entries if isinstance(entries, list) else ():
        platform = entry.get("platform", {}) if isinstance(entry, dict) else {}
        if isinstance(platform, dict) and _DIGEST.fullmatch(str(entry.get("digest"))):
            images[f"{platform.get('os')}/{platform.get('architecture')}"] = str(entry["digest"])
    images.pop("unknown/unknown", None)  # statements about the others
    if not images:
        raise _not_ours(uri)
    return images.get("linux/amd64") or next(iter(images.values()))


def _layer(entry: Any, uri: str) -> _Layer:
    entry = entry if isinstance(entry, dict) else {}
    digest, size, media_type = entry.get("digest"), entry.get("size"), str(entry.get("mediaType"))
    if not isinstance(size, int) or size < 0 or not _DIGEST.fullmatch(str(digest)):
        raise _not_ours(uri)
    notes = entry.get("annotations")
    notes = notes if isinstance(notes, dict) else {}
    is_archive = _ARCHIVE.fullmatch(media_type) is not None
    # ORAS gives a single file the type of an archive, too.
    name = (None if _IS_FOLDER in notes else notes.get(_TITLE)) or (None if is_archive else notes.get(_PATH))
    if name is None and is_archive:
        return _Layer(str(digest), size, None)
    if not isinstance(name, str) or name.startswith("/") or ".." in name.split("/"):
        raise UserMistake(
            "SourceNotAllowed",
            f"{uri} has a layer of type '{media_type[:100]}' that has no name, or not that of a file in it: push files"
            " with oras push, or an image with the files in /models",
        )
    return _Layer(str(digest), size, name)


def _json(document: Document, uri: str) -> dict[str, Any]:
    try:
        parsed = json.loads(document.content)
    except ValueError as error:
        raise _not_ours(uri) from error
    if not isinstance(parsed, dict):
        raise _not_ours(uri)
    return parsed


def _not_ours(uri: str) -> UserMistake:
    return UserMistake("SourceNotReadable", f"{uri} is neither an image nor an artifact of files: push it anew")
