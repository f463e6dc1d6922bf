"""Brings images into the node, and of each only the blobs that the node does not have.

Images of one project share their largest layers. A plain import copies every layer of every image each time; this
module streams to containerd an OCI archive from which the blobs that its content store holds already are left out.
"""

from __future__ import annotations

import hashlib
import io
import json
import platform
import subprocess
import tarfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from local_cluster.console import say, step
from local_cluster.errors import ClusterError
from local_cluster.namespaces import Process, inside, run

_INDEX = "application/vnd.oci.image.index.v1+json"
_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
_NAME = "org.opencontainers.image.ref.name"
_FULL_NAME = "io.containerd.image.name"
_CTR = ("ctr", "--namespace=k8s.io")
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}


@dataclass(frozen=True)
class Image:
    """One tagged image of an OCI layout folder."""

    folder: Path
    name: str  # full, with registry and tag
    descriptor: dict[str, Any]  # mediaType, digest, size

    @property
    def digest(self) -> str:
        return str(self.descriptor["digest"])

    def blobs(self) -> list[dict[str, Any]]:
        """Descriptors of the image's manifest, configuration and layers, parents first."""
        found = [self.descriptor]
        manifest = json.loads(_blob(self.folder, self.digest).read_bytes())
        if self.descriptor["mediaType"] == _INDEX:
            for child in manifest["manifests"]:
                found += Image(self.folder, self.name, child).blobs()
        else:
            found += [manifest["config"], *manifest["layers"]]
        return found


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


def load_layout(supervisor: Process, folder: Path, names: Sequence[str] = ()) -> None:
    """Load the images `names` of an OCI layout folder, or all that have a name.

    Raises:
        ClusterError: an image is not in the folder, or containerd refuses.
    """
    images = tagged(folder)
    wanted = [
        image for image in images if not names or image.name in names or image.name.removeprefix("localhost/") in names
    ]
    if len(wanted) < max(1, len(names)):
        held = ", ".join(image.name for image in images) or "no named image"
        raise ClusterError(f"{folder} holds {held}; asked for {', '.join(names) or 'any'}.")
    present = _present(supervisor)
    for image in wanted:
        if present.get(image.name) == image.digest:
            say(f"  image {image.name}: already there")
        else:
            _load(supervisor, image)


def load_archive(supervisor: Process, archive: Path) -> None:
    """Load a docker-archive or OCI archive file as it is."""
    with step(f"image archive {archive.name}"), archive.open("rb") as stream:
        done = subprocess.run(_import(supervisor), stdin=stream, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise ClusterError(f"containerd does not take {archive}: {done.stderr.strip()[-400:]}")


def _load(supervisor: Process, image: Image) -> None:
    held = set(run(inside(supervisor, *_CTR, "content", "ls", "--quiet")).split())
    # The manifests always travel: the import starts from them.
    blobs = {blob["digest"]: blob for blob in image.blobs()}
    sent = [blob for digest, blob in blobs.items() if digest not in held or blob["mediaType"] in (_INDEX, _MANIFEST)]
    size = sum(blob["size"] for blob in sent) / 1e6
    with step(f"image {image.name}: {len(sent)} of {len(blobs)} blobs, {size:.0f} MB"):
        importer = subprocess.Popen(
            _import(supervisor), stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
        )
        assert importer.stdin is not None
        try:
            _write_archive(importer.stdin, image, sent)
        except BrokenPipeError:
            pass  # the importer's own words, below, say why
        _, said = importer.communicate()
    if importer.returncode != 0:
        raise ClusterError(
            f"containerd does not take {image.name} of {image.folder}: {said.decode(errors='replace').strip()[-400:]}"
        )


def _write_archive(stream: IO[bytes], image: Image, blobs: Sequence[dict[str, Any]]) -> None:
    index = {"schemaVersion": 2, "manifests": [{**image.descriptor, "annotations": {_FULL_NAME: image.name}}]}
    with tarfile.open(fileobj=stream, mode="w|", bufsize=1 << 20, format=tarfile.PAX_FORMAT) as archive:
        _add(archive, "oci-layout", b'{"imageLayoutVersion":"1.0.0"}')
        _add(archive, "index.json", json.dumps(index).encode())
        for blob in blobs:
            path = _blob(image.folder, blob["digest"])
            entry = tarfile.TarInfo(f"blobs/{blob['digest'].replace(':', '/')}")
            entry.size = path.stat().st_size
            with path.open("rb") as content:
                archive.addfile(entry, content)


def _add(archive: tarfile.TarFile, name: str, data: bytes) -> None:
    entry = tarfile.TarInfo(name)
    entry.size = len(data)
    archive.addfile(entry, io.BytesIO(data))


def _import(supervisor: Process) -> list[str]:
    return inside(supervisor, *_CTR, "images", "import", "-")


def _present(supervisor: Process) -> dict[str, str]:
    """Digest by name of the images that the node has."""
    lines = run(inside(supervisor, *_CTR, "images", "ls")).splitlines()[1:]
    return {fields[0]: fields[2] for fields in map(str.split, lines) if len(fields) > 2}


def _blob(folder: Path, digest: str) -> Path:
    algorithm, _, value = digest.partition(":")
    return folder / "blobs" / algorithm / value


def write_program_image(folder: Path, name: str, program: Path, command: Sequence[str]) -> None:
    """Make an OCI layout of one image that holds one static program, run by uid 65532 unless a pod says else.

    Args:
        folder: the layout's folder, made anew.
        name: full name and tag.
        program: becomes `/` + its file name.
        command: the arguments after the program.
    """
    layer = io.BytesIO()
    with tarfile.open(fileobj=layer, mode="w") as archive, program.open("rb") as content:
        entry = tarfile.TarInfo(program.name)
        entry.size, entry.mode = program.stat().st_size, 0o755
        archive.addfile(entry, content)
    blobs = _Blobs(folder)
    layer_blob = blobs.add("application/vnd.oci.image.layer.v1.tar", layer.getvalue())
    configuration = {
        "architecture": _ARCHITECTURES.get(platform.machine(), platform.machine()),
        "os": "linux",
        "config": {"User": "65532:65532", "Entrypoint": [f"/{program.name}"], "Cmd": list(command)},
        "rootfs": {"type": "layers", "diff_ids": [layer_blob["digest"]]},
    }
    config_blob = blobs.add("application/vnd.oci.image.config.v1+json", json.dumps(configuration).encode())
    manifest = {"schemaVersion": 2, "mediaType": _MANIFEST, "config": config_blob, "layers": [layer_blob]}
    descriptor = {**blobs.add(_MANIFEST, json.dumps(manifest).encode()), "annotations": {_NAME: name}}
    (folder / "oci-layout").write_text('{"imageLayoutVersion":"1.0.0"}')
    (folder / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [descriptor]}))


@dataclass(frozen=True)
class _Blobs:
    folder: Path

    def add(self, media_type: str, data: bytes) -> dict[str, Any]:
        digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
        path = _blob(self.folder, digest)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        return {"mediaType": media_type, "digest": digest, "size": len(data)}
