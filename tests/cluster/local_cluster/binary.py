"""Builds the Kubernetes program and the toolbox from this folder's Go module, once per machine and source state."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from local_cluster.console import say, step
from local_cluster.errors import ClusterError
from local_cluster.locks import exclusive
from local_cluster.namespaces import run
from local_cluster.paths import cache_root

VERSION = "v1.36.3"
MODULE = Path(__file__).resolve().parent.parent
_STAMPS = {
    "k8s.io/component-base/version.gitVersion": VERSION,
    "k8s.io/component-base/version.gitMajor": VERSION[1:].split(".")[0],
    "k8s.io/component-base/version.gitMinor": VERSION.split(".")[1],
    "k8s.io/component-base/version.gitTreeState": "clean",
    "k8s.io/client-go/pkg/version.gitVersion": VERSION,
}
_LINK = " ".join(["-s -w", *(f"-X {name}={value}" for name, value in _STAMPS.items())])
_BUILD_SECONDS = 1800


@dataclass(frozen=True)
class Programs:
    """The two built programs."""

    cluster: Path  # every part of Kubernetes; the first argument picks one
    toolbox: Path  # static; what the pause container and the test pods run


def build() -> Programs:
    """Build what is not built yet; 4 to 7 minutes on 2 cores the first time, nothing after.

    Raises:
        ClusterError: there is no Go, or the build failed or took more than half an hour.
    """
    folder = cache_root() / "bin" / _source_hash()
    programs = Programs(folder / "cluster", folder / "toolbox")
    with exclusive(cache_root() / "bin" / "build.lock"):
        for program in (programs.toolbox, programs.cluster):
            if not program.exists():
                _build(program)
    return programs


def _build(program: Path) -> None:
    say(f"building the {program.name} program of Kubernetes {VERSION} (the first time takes minutes)")
    program.parent.mkdir(parents=True, exist_ok=True)
    unfinished = program.with_suffix(".unfinished")
    command = [
        "nice",
        "-n",
        "5",
        "go",
        "build",
        "-trimpath",
        "-buildvcs=false",
        "-ldflags",
        _LINK,
        "-o",
        str(unfinished),
    ]
    environment = {**os.environ, "CGO_ENABLED": "0", "GOMEMLIMIT": "2GiB"}
    with step(f"go build {program.name}"):
        try:
            done = subprocess.run(
                [*command, f"./cmd/{program.name}"],
                cwd=MODULE,
                env=environment,
                timeout=_BUILD_SECONDS,
                stderr=subprocess.PIPE,
                text=True,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise ClusterError(
                f"go build of {program.name} took more than {_BUILD_SECONDS} s; is the machine overloaded?"
            ) from None
    if done.returncode != 0:
        raise ClusterError(f"go build of {program.name} failed:\n{done.stderr[-2000:]}")
    unfinished.rename(program)


def _source_hash() -> str:
    if shutil.which("go") is None:
        raise ClusterError(
            "Go is missing: the local cluster is built from source. Install Go 1.26 or newer and put it on PATH."
        )
    digest = hashlib.sha256(f"{run(['go', 'env', 'GOVERSION'])}{_LINK}".encode())
    for source in sorted([MODULE / "go.mod", MODULE / "go.sum", *MODULE.glob("cmd/*/*.go")]):
        digest.update(source.relative_to(MODULE).as_posix().encode() + b"\0" + source.read_bytes())
    return digest.hexdigest()[:16]
