"""Calls of buildah and, to get images out, skopeo, on a store of their own below the cache folder."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Collection, Iterable
from pathlib import Path

from imagebuild.recipes import REGISTRY, short_hash

_CERTIFICATES = Path("/etc/ssl/certs")


class BuildError(Exception):
    """An image could not be built; the message is a sentence with the end of what the build said."""


class Buildah:
    """A buildah store. `RUN` steps happen in a chroot, so no container engine is needed."""

    def __init__(self, folder: Path) -> None:
        """Keep images below `folder`/buildah and temporary files below `folder`/build."""
        self._temporary = folder / "build"
        self._uv_cache = self._temporary / "buildah-cache" / "uv"
        self._root = folder / "buildah"
        self._run_root = f"/run/anneal-buildah-{short_hash(str(folder).encode())}"

    def images(self) -> set[str]:
        """References of our images in the store."""
        listed = json.loads(self._buildah("images", "--json") or "[]") or []
        return {name for image in listed for name in image.get("names") or () if name.startswith(f"{REGISTRY}/")}

    def build(self, reference: str, containerfile: Path, context: Path, base: str | None) -> None:
        """Build a Containerfile on top of the image `base` and name the result `reference`."""
        self._share_uv_cache()
        arguments = ["--build-arg", f"BASE={base}"] if base else []
        if _CERTIFICATES.is_dir():
            # Where the way to the package index ends in a company's own certificate, the build has to know it too.
            arguments += ["--volume", f"{_CERTIFICATES}:{_CERTIFICATES}:ro"]
        options = ["--layers", "--isolation", "chroot", "--tag", reference, "--file", str(containerfile)]
        self._buildah("build", *options, *arguments, str(context))

    def export(self, reference: str, folder: Path, known: Iterable[str]) -> None:
        """Write an image as an OCI layout with uncompressed layers, those with digests in `known` as empty files.

        buildah itself compresses every layer anew at each push, the large one of the parent too.
        """
        blobs = folder / "blobs" / "sha256"
        blobs.mkdir(parents=True)
        for digest in known:
            (blobs / digest.removeprefix("sha256:")).touch()  # what is there already is not written again
        image = f"containers-storage:[overlay@{self._root}+{self._run_root}]{reference}"
        self._run(["skopeo", "copy", "--quiet", "--dest-oci-accept-uncompressed-layers", image, f"oci:{folder}:image"])

    def keep_only(self, references: Collection[str]) -> None:
        """Remove our other images, and containers that a broken build left behind."""
        self._buildah("rm", "--all")
        superseded = sorted(self.images() - set(references))
        if superseded:
            self._buildah("rmi", *superseded)

    def _share_uv_cache(self) -> None:
        """Let `RUN --mount=type=cache,id=uv` use this machine's uv cache: torch is not downloaded twice."""
        cache = Path(os.environ.get("UV_CACHE_DIR") or Path.home() / ".cache" / "uv")
        cache.mkdir(parents=True, exist_ok=True)
        self._uv_cache.parent.mkdir(parents=True, exist_ok=True)
        self._uv_cache.unlink(missing_ok=True)
        self._uv_cache.symlink_to(cache)

    def _buildah(self, *arguments: str) -> str:
        store = ["--root", str(self._root), "--runroot", self._run_root, "--storage-driver", "overlay"]
        return self._run(["buildah", *store, *arguments])

    def _run(self, command: list[str]) -> str:
        environment = {**os.environ, "TMPDIR": str(self._temporary)}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            said = (done.stdout + done.stderr)[-4000:].strip()
            raise BuildError(f"{command[0]} ended with exit code {done.returncode}:\n{said}")
        return done.stdout
