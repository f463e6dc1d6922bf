"""Brings images into the node, copying no layer that is on this disk already.

Images of one project share layers of gigabytes, and a plain import copies every layer of every image. Here a layer
that the node has stays out of the import; one that it lacks is linked into containerd's content store, which takes over
a blob that lies in its folder without reading it (its `content_sharing_policy` is `shared` by default). Damage cannot
slip in by this: unpacking compares each layer with the digest in the image's configuration.
"""

from __future__ import annotations

import contextlib
import errno
import io
import json
import subprocess
import tarfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from local_cluster import oci
from local_cluster.console import say, step
from local_cluster.errors import ClusterError
from local_cluster.namespaces import Process, inside, run

_FULL_NAME = "io.containerd.image.name"
_CONTENT = "io.containerd.content.v1.content"
_LINKED_FROM = 1 << 20  # bytes; what is smaller is quicker sent than linked
#: containerd's garbage collector takes what no image refers to yet: a blob that was just linked, or what an import that
#: ended early had unpacked, even while the next one builds on it. Its words then, and how long it is given, in seconds.
_NOT_FOUND, _PAUSES = "not found", (0, 0.5, 1, 2, 4)


@dataclass(frozen=True)
class ImageStore:
    """The images of one node."""

    supervisor: Process
    root: Path
    """containerd's root folder."""

    def load_layout(self, folder: Path, names: Sequence[str] = ()) -> None:
        """Load images of an OCI layout folder: those of `names`, or all that have a name.

        Raises:
            ClusterError: an image is not in the folder, or containerd refuses it.
        """
        chosen = oci.select(folder, names)
        present = self._digests_by_name()
        for image in chosen:
            if present.get(image.name) == image.digest:
                say(f"  image {image.name}: already there")
            else:
                self._load(image)

    def load_archive(self, archive: Path) -> None:
        """Load a docker-archive or OCI archive file, whole."""
        with step(f"image archive {archive.name}"), archive.open("rb") as stream:
            done = subprocess.run(self._import(), stdin=stream, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise ClusterError(f"containerd does not take {archive}: {done.stderr.strip()[-400:]}")

    def answers(self) -> bool:
        """Whether containerd takes calls."""
        return subprocess.run(self._command("version"), capture_output=True, check=False).returncode == 0

    def remove_containers(self) -> bool:
        """Remove the containers of a cluster that has ended, and tell whether there were any."""
        containers = self._ctr("containers", "ls", "--quiet").split()
        if containers:
            self._ctr("containers", "rm", *containers)
        return bool(containers)

    def _load(self, image: oci.Image) -> None:
        blobs = image.blobs()
        with step(f"image {image.name}"):
            missing = self._missing(blobs)
            refusal = self._import_image(image, missing)
            for pause in _PAUSES:
                if _NOT_FOUND not in refusal:
                    break
                time.sleep(pause)
                refusal = self._import_image(image, self._missing(blobs))
            size = sum(blob["size"] for blob in missing) / 1e6
            say(f"    {len(missing)} of {len(blobs)} blobs were new, {size:.1f} MB")
        if refusal:
            raise ClusterError(f"containerd does not take {image.name} of {image.folder}: {refusal}")

    def _missing(self, blobs: dict[str, oci.Descriptor]) -> list[oci.Descriptor]:
        held = set(self._ctr("content", "ls", "--quiet").split())
        return [blob for digest, blob in blobs.items() if digest not in held]

    def _import_image(self, image: oci.Image, missing: Sequence[oci.Descriptor]) -> str:
        """Import one image and give containerd's refusal, or an empty string."""
        sent = [blob for blob in missing if blob["size"] < _LINKED_FROM or not self._link(image.folder, blob)]
        # The manifests travel in any case: the import starts from them.
        manifests = [blob for blob in image.blobs().values() if blob["mediaType"] in (oci.INDEX, oci.MANIFEST)]
        sent += [blob for blob in manifests if blob not in sent]
        importer = subprocess.Popen(
            self._import(), stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
        )
        assert importer.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # the importer's own words say why
            _write_archive(importer.stdin, image, sent)
        _, said = importer.communicate()
        return said.decode(errors="replace").strip()[-400:] if importer.returncode != 0 else ""

    def _link(self, folder: Path, blob: oci.Descriptor) -> bool:
        """Let containerd take over a blob where it lies; False when its folder is on another disk."""
        source, target = oci.blob_path(folder, blob["digest"]), oci.blob_path(self.root / _CONTENT, blob["digest"])
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            target.hardlink_to(source)
        except FileExistsError:
            pass  # left by an import that was cut short
        except OSError as error:
            if error.errno != errno.EXDEV:
                raise
            return False
        digest, size = blob["digest"], blob["size"]
        command = self._command("content", "ingest", f"--expected-digest={digest}", f"--expected-size={size}", digest)
        with source.open("rb") as stream:
            done = subprocess.run(command, stdin=stream, capture_output=True, check=False)
        return done.returncode == 0

    def _digests_by_name(self) -> dict[str, str]:
        rows = [line.split() for line in self._ctr("images", "ls").splitlines()[1:]]
        return {row[0]: row[2] for row in rows if len(row) > 2}

    def _import(self) -> list[str]:
        return self._command("images", "import", "-")

    def _ctr(self, *arguments: str) -> str:
        return run(self._command(*arguments))

    def _command(self, *arguments: str) -> list[str]:
        return inside(self.supervisor, "ctr", "--namespace=k8s.io", *arguments)


def _write_archive(stream: IO[bytes], image: oci.Image, blobs: Sequence[oci.Descriptor]) -> None:
    """Write an OCI archive of one image with only some of its blobs."""
    index = {"schemaVersion": 2, "manifests": [{**image.descriptor, "annotations": {_FULL_NAME: image.name}}]}
    with tarfile.open(fileobj=stream, mode="w|", bufsize=1 << 20) as archive:
        _add(archive, "oci-layout", b'{"imageLayoutVersion":"1.0.0"}')
        _add(archive, "index.json", json.dumps(index).encode())
        for blob in blobs:
            path = oci.blob_path(image.folder, blob["digest"])
            entry = tarfile.TarInfo(path.relative_to(image.folder).as_posix())
            entry.size = path.stat().st_size
            with path.open("rb") as content:
                archive.addfile(entry, content)


def _add(archive: tarfile.TarFile, name: str, data: bytes) -> None:
    entry = tarfile.TarInfo(name)
    entry.size = len(data)
    archive.addfile(entry, io.BytesIO(data))
