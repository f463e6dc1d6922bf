"""The cgroup below which the kubelet puts all pods of one cluster, in each hierarchy that this machine has."""

from __future__ import annotations

import errno
import os
from functools import partial
from pathlib import Path

from local_cluster.errors import ClusterError
from local_cluster.namespaces import wait_until


def hierarchies() -> list[Path]:
    """Mount points of the cgroup hierarchies: those of v1, that of v2, or both on a machine that has both."""
    mounts = [line.split() for line in Path("/proc/mounts").read_text().splitlines()]
    return [Path(fields[1]) for fields in mounts if fields[2] in ("cgroup", "cgroup2")]


def create(name: str) -> None:
    """Make the cgroup `name` in every hierarchy: the kubelet wants all of them."""
    for hierarchy in hierarchies():
        folder = hierarchy / name
        folder.mkdir(exist_ok=True)
        for setting in ("cpuset.cpus", "cpuset.mems"):  # in v1 a new cpuset is empty and would hold no process
            if hierarchy.joinpath("tasks").exists() and (folder / setting).exists():
                (folder / setting).write_text((hierarchy / setting).read_text())


def remove(name: str) -> None:
    """Remove the cgroup `name` and those below it, once their processes have ended.

    Raises:
        ClusterError: processes still run in it.
    """
    for hierarchy in hierarchies():
        top = hierarchy / name
        wait_until(partial(_removed, top), 15, f"cgroup {top} still holds processes")


def _removed(top: Path) -> bool:
    if not top.exists():
        return True
    try:
        for folder, _, _ in os.walk(top, topdown=False):
            Path(folder).rmdir()
    except FileNotFoundError:
        return False  # one vanished under our hands: look again
    except OSError as error:
        if error.errno not in (errno.EBUSY, errno.ENOTEMPTY):
            raise ClusterError(f"{top} cannot be removed: {error}") from error
        return False  # its last processes are still ending
    return True
