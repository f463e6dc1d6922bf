"""Debian packages that the cluster and the image builds need, installed once and by one process at a time."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterable

from local_cluster.console import step
from local_cluster.errors import ClusterError
from local_cluster.locks import exclusive
from local_cluster.paths import cache_root


def ensure(names: Iterable[str]) -> None:
    """Install the packages of `names` that are not installed yet.

    Raises:
        ClusterError: packages are missing and cannot be installed: no root, no apt-get, or apt-get failed.
    """
    wanted = list(names)
    if not missing(wanted):
        return
    with exclusive(cache_root() / "apt.lock"):
        absent = missing(wanted)
        if absent:
            _install(absent)


def missing(names: Iterable[str]) -> list[str]:
    """The packages of `names` that are not installed."""
    names = list(names)
    if shutil.which("dpkg-query") is None:
        raise ClusterError(f"This machine is not a Debian; install these by its own means: {', '.join(names)}.")
    answer = subprocess.run(
        ["dpkg-query", "--show", "--showformat", "${Package} ${db:Status-Status}\n", *names],
        capture_output=True,
        text=True,
        check=False,
    )
    installed = {line.split()[0] for line in answer.stdout.splitlines() if line.endswith(" installed")}
    return [name for name in names if name not in installed]


def _install(names: list[str]) -> None:
    listing = " ".join(names)
    if os.geteuid() != 0:
        raise ClusterError(f"Debian packages are missing and only root can add them: apt-get install {listing}")
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for arguments in (["update"], ["install", "--yes", "--no-install-recommends", *names]):
        with step(f"apt-get {arguments[0]} {listing if arguments[0] == 'install' else ''}".rstrip()):
            # The options wait for an apt run of somebody else instead of failing on its lock.
            done = subprocess.run(
                ["apt-get", "-qq", "-o", "DPkg::Lock::Timeout=300", "-o", "Acquire::Retries=3", *arguments],
                env=environment,
                capture_output=True,
                text=True,
                check=False,
            )
        if done.returncode != 0:
            raise ClusterError(f"apt-get {' '.join(arguments)} failed: {(done.stderr or done.stdout).strip()[-800:]}")
