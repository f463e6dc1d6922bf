"""The OCI layout directory that all images are kept in: one folder of blobs, each layer once.

Nodes import from it. Only what the index names is kept. Layers are compressed with zstd at its lowest level, which
writes as fast as none and imports twice as fast (docs/adr/0003-one-torch-layer.md).
"""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import tempfile
from collections.abc import Collection
from pathlib import Path
from typing import Any

_REF_NAME = "org.opencontainers.image.ref.name"
_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
_LAYER = "application/vnd.oci.image.layer.v1.tar+zstd"

Descriptor = dict[str, Any]  # mediaType, digest, size


def stored(layout: Path) -> set[str]:
    """References of the images in `layout`, which need not exist yet."""
    return {_name(entry) for entry in _index(layout)["manifests"]}


def layers(layout: Path) -> dict[str, Descriptor]:
    """The layers in `layout` by the digest of their uncompressed content."""
    found: dict[str, Descriptor] = {}
    for entry in _index(layout)["manifests"]:
        manifest = _read(layout, entry)
        found.update(zip(_read(layout, manifest["config"])["rootfs"]["diff_ids"], manifest["layers"], strict=True))
    return found


def add(layout: Path, reference: str, exported: Path) -> None:
    """Add the one image of another layout, whose layers are uncompressed or, where `layout` has them, empty files."""
    known = layers(layout)
    manifest = _read(exported, _index(exported)["manifests"][0])
    (layout / "blobs" / "sha256").mkdir(parents=True, exist_ok=True)
    (layout / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
    shutil.copy(_blob(exported, manifest["config"]), _blob(layout, manifest["config"]))
    described = [
        known.get(layer["digest"]) or _compress(layout, _blob(exported, layer)) for layer in manifest["layers"]
    ]
    text = json.dumps({**manifest, "mediaType": _MANIFEST, "layers": described}).encode()
    entry = {"mediaType": _MANIFEST, "digest": f"sha256:{hashlib.sha256(text).hexdigest()}", "size": len(text)}
    _blob(layout, entry).write_bytes(text)
    index = _index(layout)
    others = [other for other in index["manifests"] if _name(other) != reference]
    _write_index(layout, [*others, {**entry, "annotations": {_REF_NAME: reference}}])


def keep_only(layout: Path, references: Collection[str]) -> None:
    """Drop every other image from the index, then every blob that no image of the index needs."""
    kept = [entry for entry in _index(layout)["manifests"] if _name(entry) in references]
    _write_index(layout, kept)
    needed = set()
    for entry in kept:
        manifest = _read(layout, entry)
        needed |= {_blob(layout, descriptor) for descriptor in (entry, manifest["config"], *manifest["layers"])}
    for blob in (layout / "blobs" / "sha256").iterdir():
        if blob not in needed:
            blob.unlink()


def _compress(layout: Path, layer: Path) -> Descriptor:
    with tempfile.NamedTemporaryFile(dir=layout / "blobs" / "sha256", delete=False) as compressed:
        subprocess.run(["zstd", "--quiet", "-1", "--threads=0", "--stdout", layer], stdout=compressed, check=True)
    file = Path(compressed.name)
    file.chmod(0o644)
    with file.open("rb") as content:
        digest = hashlib.file_digest(content, "sha256").hexdigest()
    descriptor = {"mediaType": _LAYER, "digest": f"sha256:{digest}", "size": file.stat().st_size}
    file.replace(_blob(layout, descriptor))
    return descriptor


def _index(layout: Path) -> dict[str, Any]:
    file = layout / "index.json"
    index: dict[str, Any] = json.loads(file.read_text()) if file.exists() else {"manifests": []}
    return index


def _write_index(layout: Path, manifests: list[Descriptor]) -> None:
    written = layout / "index.json.new"
    written.write_text(json.dumps({"schemaVersion": 2, "manifests": manifests}))
    written.replace(layout / "index.json")


def _name(entry: Descriptor) -> str:
    return str(entry.get("annotations", {}).get(_REF_NAME, ""))


def _read(layout: Path, descriptor: Descriptor) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(_blob(layout, descriptor).read_text())
    return document


def _blob(layout: Path, descriptor: Descriptor) -> Path:
    return layout / "blobs" / "sha256" / str(descriptor["digest"]).removeprefix("sha256:")
