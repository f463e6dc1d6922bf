"""Reads and writes OCI image layouts: folders of blobs named by their digest, with an index of the tagged images."""

from __future__ import annotations

import hashlib
import io
import json
import platform
import tarfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from local_cluster.errors import ClusterError

INDEX = "application/vnd.oci.image.index.v1+json"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
_CONFIGURATION = "application/vnd.oci.image.config.v1+json"
_LAYER = "application/vnd.oci.image.layer.v1.tar"
_NAME = "org.opencontainers.image.ref.name"
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}

Descriptor = dict[str, Any]
"""What OCI says of a blob: at least `mediaType`, `digest` and `size` in bytes."""


@dataclass(frozen=True)
class Image:
    """One tagged image of an OCI layout folder."""

    folder: Path
    name: str
    """Full, with registry and tag."""
    descriptor: Descriptor

    @property
    def digest(self) -> str:
        return str(self.descriptor["digest"])

    def blobs(self) -> dict[str, Descriptor]:
        """The image's manifest, configuration and layers by digest, parents first."""
        found = {self.digest: self.descriptor}
        manifest = json.loads(blob_path(self.folder, self.digest).read_bytes())
        if self.descriptor["mediaType"] == INDEX:
            for child in manifest["manifests"]:
                found |= Image(self.folder, self.name, child).blobs()
        else:
            found |= {blob["digest"]: blob for blob in (manifest["config"], *manifest["layers"])}
        return found


def blob_path(folder: Path, digest: str) -> Path:
    """Where an OCI layout folder keeps the blob of a digest such as `sha256:…`."""
    algorithm, _, value = digest.partition(":")
    return folder / "blobs" / algorithm / value


def tagged(folder: Path) -> list[Image]:
    """The images of an OCI layout folder that have a name; one without a registry is of `localhost/`.

    Raises:
        ClusterError: `folder` is not an OCI layout.
    """
    try:
        index = json.loads((folder / "index.json").read_text())
    except (OSError, ValueError) as error:
        raise ClusterError(f"{folder} is not an OCI image layout: {error}") from error
    images = []
    for descriptor in index["manifests"]:
        name = descriptor.get("annotations", {}).get(_NAME)
        if name:
            bare = {key: descriptor[key] for key in ("mediaType", "digest", "size")}
            images.append(Image(folder, name if "/" in name else f"localhost/{name}", bare))
    return images


def select(folder: Path, names: Sequence[str]) -> list[Image]:
    """The images `names` of an OCI layout folder, or all that have a name when `names` is empty.

    Raises:
        ClusterError: one of them is not there, or none is.
    """
    images = tagged(folder)
    chosen = [image for image in images if not names or image.name in names]
    absent = sorted(set(names) - {image.name for image in chosen})
    if absent or not chosen:
        held = ", ".join(image.name for image in images) or "no named image"
        raise ClusterError(f"{folder} holds {held}; asked for {', '.join(absent) or 'any'}.")
    return chosen


def write_program_image(folder: Path, name: str, program: Path, command: Sequence[str]) -> None:
    """Make an OCI layout of one image that holds one static program and runs it as uid 65532.

    Args:
        folder: the layout's folder; made when absent.
        name: full name and tag.
        program: becomes `/` and its file name.
        command: the arguments after the program.
    """
    layer = _add_blob(folder, _LAYER, _layer_of(program))
    configuration = {
        "architecture": _ARCHITECTURES.get(platform.machine(), platform.machine()),
        "os": "linux",
        "config": {"User": "65532:65532", "Entrypoint": [f"/{program.name}"], "Cmd": list(command)},
        "rootfs": {"type": "layers", "diff_ids": [layer["digest"]]},
    }
    config = _add_blob(folder, _CONFIGURATION, json.dumps(configuration).encode())
    manifest = {"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": [layer]}
    descriptor = _add_blob(folder, MANIFEST, json.dumps(manifest).encode())
    index = {"schemaVersion": 2, "manifests": [{**descriptor, "annotations": {_NAME: name}}]}
    (folder / "oci-layout").write_text('{"imageLayoutVersion":"1.0.0"}')
    (folder / "index.json").write_text(json.dumps(index))


def _layer_of(program: Path) -> bytes:
    layer = io.BytesIO()
    with tarfile.open(fileobj=layer, mode="w") as archive, program.open("rb") as content:
        entry = tarfile.TarInfo(program.name)
        entry.size, entry.mode = program.stat().st_size, 0o755
        archive.addfile(entry, content)
    return layer.getvalue()


def _add_blob(folder: Path, media_type: str, data: bytes) -> Descriptor:
    digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
    path = blob_path(folder, digest)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return {"mediaType": media_type, "digest": digest, "size": len(data)}
