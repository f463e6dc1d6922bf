"""Calls of buildah, with a store of its own below the cache folder."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Collection
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
        run_root = f"/run/anneal-buildah-{short_hash(str(folder).encode())}"
        store = ["--root", str(folder / "buildah"), "--runroot", run_root, "--storage-driver", "overlay"]
        self._command = ["buildah", *store]

    def images(self) -> set[str]:
        """References of our images in the store."""
        listed = json.loads(self._run("images", "--json") or "[]") or []
        return {name for image in listed for name in image.get("names") or () if name.startswith(f"{REGISTRY}/")}

    def build(self, reference: str, containerfile: Path, context: Path, base: str | None) -> None:
        """Build a Containerfile on top of the image `base` and name the result `reference`."""
        self._share_uv_cache()
        arguments = ["--build-arg", f"BASE={base}"] if base else []
        if _CERTIFICATES.is_dir():
            # Where the way to the package index ends in a company's own certificate, the build has to know it too.
            arguments += ["--volume", f"{_CERTIFICATES}:{_CERTIFICATES}:ro"]
        options = ["--layers", "--isolation", "chroot", "--tag", reference, "--file", str(containerfile)]
        self._run("build", *options, *arguments, str(context))

    def push(self, reference: str, layout: Path) -> None:
        """Copy an image into the OCI layout directory; layers that are there already are not written again.

        zstd at its lowest level: docs/adr/0003-one-torch-layer.md has the measurements.
        """
        compression = ["--compression-format", "zstd", "--compression-level", "1"]
        self._run("push", "--quiet", *compression, reference, f"oci:{layout}:{reference}")

    def keep_only(self, references: Collection[str]) -> None:
        """Remove our other images, and containers that a broken build left behind."""
        self._run("rm", "--all")
        superseded = sorted(self.images() - set(references))
        if superseded:
            self._run("rmi", *superseded)

    def _share_uv_cache(self) -> None:
        """Let `RUN --mount=type=cache,id=uv` use this machine's uv cache: torch is not downloaded twice."""
        cache = Path(os.environ.get("UV_CACHE_DIR") or Path.home() / ".cache" / "uv")
        cache.mkdir(parents=True, exist_ok=True)
        self._uv_cache.parent.mkdir(parents=True, exist_ok=True)
        self._uv_cache.unlink(missing_ok=True)
        self._uv_cache.symlink_to(cache)

    def _run(self, *arguments: str) -> str:
        environment = {**os.environ, "TMPDIR": str(self._temporary)}
        done = subprocess.run(
            [*self._command, *arguments], env=environment, capture_output=True, text=True, check=False
        )
        if done.returncode != 0:
            raise BuildError(
                f"buildah {arguments[0]} {arguments[-1]} failed:\n{(done.stdout + done.stderr)[-4000:].strip()}"
            )
        return done.stdout
