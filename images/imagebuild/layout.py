"""The OCI layout directory that all images are kept in: one folder of blobs, each layer once.

Nodes import from it. Only what the index names is kept.
"""

from __future__ import annotations

import json
from collections.abc import Collection
from pathlib import Path
from typing import Any

_REF_NAME = "org.opencontainers.image.ref.name"


def stored(layout: Path) -> set[str]:
    """References of the images in `layout`, which need not exist yet."""
    return {_name(entry) for entry in _index(layout)["manifests"]}


def keep_only(layout: Path, references: Collection[str]) -> None:
    """Drop every other image from the index, then every blob that no image of the index needs."""
    index = _index(layout)
    index["manifests"] = [entry for entry in index["manifests"] if _name(entry) in references]
    written = layout / "index.json.new"
    written.write_text(json.dumps(index))
    written.replace(layout / "index.json")

    needed = {digest for entry in index["manifests"] for digest in _blobs(layout, entry)}
    for blob in (layout / "blobs" / "sha256").iterdir():
        if blob.name not in needed:
            blob.unlink()


def _index(layout: Path) -> dict[str, Any]:
    file = layout / "index.json"
    return json.loads(file.read_text()) if file.exists() else {"schemaVersion": 2, "manifests": []}


def _name(entry: dict[str, Any]) -> str:
    return str(entry.get("annotations", {}).get(_REF_NAME, ""))


def _blobs(layout: Path, entry: dict[str, Any]) -> list[str]:
    """Hexadecimal digests of an image's manifest, configuration and layers."""
    manifest = json.loads((layout / "blobs" / "sha256" / _hex(entry)).read_text())
    return [_hex(descriptor) for descriptor in (entry, manifest["config"], *manifest["layers"])]


def _hex(descriptor: dict[str, Any]) -> str:
    return str(descriptor["digest"]).removeprefix("sha256:")
