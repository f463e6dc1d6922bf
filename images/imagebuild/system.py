"""The root file system under all images, where no registry of images can be reached: a minimal Debian with Python.

It stands in for recipes.SYSTEM and has what the Containerfiles expect of that: python3 with venv, libpython, apt.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from pathlib import Path

from imagebuild.buildah import Buildah, BuildError
from imagebuild.recipes import REGISTRY, short_hash

_SUITE = "bookworm"
_PACKAGES = ("python3", "python3-venv", "libpython3.11", "ca-certificates")
#: Folders whose content no program reads: a third of the size.
_EMPTIED = (
    "var/cache/apt",
    "var/lib/apt/lists",
    "usr/share/doc",
    "usr/share/info",
    "usr/share/locale",
    "usr/share/man",
)

_CONTAINERFILE = """\
FROM scratch
ADD rootfs.tar /
CMD ["python3"]
"""


def reference() -> str:
    """The reference of the image that `build` makes."""
    recipe = repr((_SUITE, _PACKAGES, _EMPTIED, _CONTAINERFILE))
    return f"{REGISTRY}/python:{short_hash(recipe.encode())}"


def build(buildah: Buildah, scratch: Path) -> None:
    """Make the image, in a temporary folder below `scratch`; half a minute."""
    scratch.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=scratch) as folder:
        rootfs = Path(folder) / "rootfs"
        packages = ",".join(_PACKAGES)
        log = Path(folder) / "debootstrap.log"
        command = ["debootstrap", "--variant=minbase", f"--include={packages}", _SUITE, str(rootfs)]
        with log.open("w") as output:
            done = subprocess.run(command, stdout=output, stderr=subprocess.STDOUT, check=False)
        if done.returncode != 0:
            raise BuildError(f"debootstrap of {_SUITE} failed: {log.read_text()[-800:].strip()}")
        for emptied in _EMPTIED:
            for entry in (rootfs / emptied).iterdir():
                shutil.rmtree(entry) if entry.is_dir() and not entry.is_symlink() else entry.unlink()
        context = Path(folder) / "context"
        context.mkdir()
        subprocess.run(["tar", "-C", rootfs, "--numeric-owner", "-cf", context / "rootfs.tar", "."], check=True)
        (context / "Containerfile").write_text(_CONTAINERFILE)
        buildah.build(reference(), context / "Containerfile", context, None)
