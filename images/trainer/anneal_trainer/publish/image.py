"""An artifact as an image in a container registry: what nodes pull, mount as a volume, and KServe reads.

The files lie in one layer, below /models. The layer is a function of the files alone: no times, no owners, and gzip
that frames without compressing, since weights do not get smaller and KServe reads no layer without gzip. So an image
that was pushed halfway gets the same names when it is pushed again, and the registry says which of them it has.
"""

from __future__ import annotations

import hashlib
import json
import struct
import tarfile
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from anneal.api.artifacts import digest_of_bytes, read_manifest
from anneal.api.references import OciLocation
from anneal.api.runs import Access
from anneal_trainer.errors import UserMistake
from anneal_trainer.sources.credentials import Credentials
from anneal_trainer.sources.leash import Leash
from anneal_trainer.sources.registry import INDEX, MANIFEST, Document, Registry, connected

CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"
#: The files are the same for all; a node pulls only what says that it is for its kind.
_ARCHITECTURES = ("amd64", "arm64")
_FOLDER = "models"
_BLOCK = 1024 * 1024
_MAX_STORED = 0xFFFF


@dataclass(frozen=True)
class Layer:
    """The files of a folder, as a layer."""

    folder: Path
    digest: str
    size: int
    diff_id: str
    """Digest of the layer as it is unpacked."""

    @classmethod
    def of(cls, folder: Path) -> Layer:
        """Reads all files once, to know what the layer is called."""
        plain, framed, size = hashlib.sha256(), hashlib.sha256(), 0

        def counted() -> Iterator[bytes]:
            for block in tar(folder):
                plain.update(block)
                yield block

        for block in gzip(counted()):
            framed.update(block)
            size += len(block)
        return cls(folder, f"sha256:{framed.hexdigest()}", size, f"sha256:{plain.hexdigest()}")

    def content(self) -> Iterator[bytes]:
        """The layer in blocks."""
        return gzip(tar(self.folder))


def pushed(artifact: Path, where: OciLocation, access: Access, leash: Leash) -> str:
    """Makes the folder an image at `where`, under its tag or the folder's name. Returns its URI by digest.

    Raises UserMistake, also when that tag is another image's already, and Unavailable.
    """
    layer, tag = Layer.of(artifact), where.tag or artifact.name
    documents, blobs = _described(layer, _annotations(artifact))
    index = documents[-1]
    with connected(where, access.endpoint, Credentials.read(access.credentials), leash, "Output") as registry:
        found = registry.find(tag)
        if found is not None and found.digest != index.digest:
            raise UserMistake(
                "OutputOccupied",
                f"oci://{where.registry}/{where.repository}:{tag} is another image already: remove it or choose another"
                " tag in output.mirror.uri",
            )
        if found is None:
            _push(registry, layer, documents, blobs, tag)
    return where.at(index.digest).uri


def _push(registry: Registry, layer: Layer, documents: list[Document], blobs: list[bytes], tag: str) -> None:
    """Blobs before what names them, the tag last: with it the image is whole."""
    registry.put_blob(layer.digest, layer.size, layer.content)
    for blob in blobs:
        registry.put_blob(digest_of_bytes(blob), len(blob), partial(iter, (blob,)))
    for document in documents[:-1]:
        registry.put_document(document, document.digest)
    registry.put_document(documents[-1], tag)


def _described(layer: Layer, annotations: dict[str, str]) -> tuple[list[Document], list[bytes]]:
    """A manifest for each architecture, then the index that names them; and the configurations, which are blobs."""
    manifests, configurations, listed = [], [], []
    for architecture in _ARCHITECTURES:
        platform = {"architecture": architecture, "os": "linux"}
        rootfs = {"type": "layers", "diff_ids": [layer.diff_id]}
        configuration = _json({**platform, "config": {}, "rootfs": rootfs})
        manifest = Document(
            _json(
                {
                    "schemaVersion": 2,
                    "mediaType": MANIFEST,
                    "config": _named(CONFIG, digest_of_bytes(configuration), len(configuration)),
                    "layers": [_named(LAYER, layer.digest, layer.size)],
                    "annotations": annotations,
                }
            ),
            MANIFEST,
        )
        configurations.append(configuration)
        manifests.append(manifest)
        listed.append({**_named(MANIFEST, manifest.digest, len(manifest.content)), "platform": platform})
    index = {"schemaVersion": 2, "mediaType": INDEX, "manifests": listed, "annotations": annotations}
    return [*manifests, Document(_json(index), INDEX)], configurations


def _annotations(artifact: Path) -> dict[str, str]:
    """Where the model comes from, for whoever has the image alone."""
    manifest = read_manifest(artifact)
    return {
        "dev.anneal.base-digest": manifest.base_digest,
        "dev.anneal.chat-template-hash": manifest.chat_template_hash,
        "dev.anneal.contents": manifest.contents,
        "dev.anneal.digest": manifest.digest,
    }


def tar(folder: Path) -> Iterator[bytes]:
    """The files below a folder as an archive below /models: sorted, owned by root, of no time."""
    yield _header(tarfile.DIRTYPE, _FOLDER, 0)
    for path in sorted(folder.rglob("*")):
        name = f"{_FOLDER}/{path.relative_to(folder).as_posix()}"
        if path.is_dir():
            yield _header(tarfile.DIRTYPE, name, 0)
            continue
        size = path.stat().st_size
        yield _header(tarfile.REGTYPE, name, size)
        with path.open("rb") as stream:
            while block := stream.read(_BLOCK):
                yield block
        yield b"\0" * (-size % tarfile.BLOCKSIZE)
    yield b"\0" * (2 * tarfile.BLOCKSIZE)


def gzip(blocks: Iterable[bytes]) -> Iterator[bytes]:
    """A gzip stream (RFC 1952) of stored blocks (RFC 1951, 3.2.4): the same bytes whatever library is installed."""
    yield b"\x1f\x8b\x08\0\0\0\0\0\0\xff"
    check, size = 0, 0
    for block in blocks:
        check, size = zlib.crc32(block, check), size + len(block)
        for start in range(0, len(block), _MAX_STORED):
            stored = block[start : start + _MAX_STORED]
            yield struct.pack("<BHH", 0, len(stored), len(stored) ^ _MAX_STORED) + stored
    yield struct.pack("<BHHII", 1, 0, _MAX_STORED, check, size & 0xFFFFFFFF)


def _header(kind: bytes, name: str, size: int) -> bytes:
    entry = tarfile.TarInfo(name)
    entry.type, entry.size, entry.mode = kind, size, 0o755 if kind == tarfile.DIRTYPE else 0o644
    return entry.tobuf(tarfile.PAX_FORMAT)


def _named(media_type: str, digest: str, size: int) -> dict[str, Any]:
    return {"mediaType": media_type, "digest": digest, "size": size}


def _json(document: dict[str, Any]) -> bytes:
    return json.dumps(document, separators=(",", ":"), sort_keys=True).encode()
