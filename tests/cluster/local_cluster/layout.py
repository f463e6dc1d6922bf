"""The files of one cluster, and the facts about it that must survive the process that started it."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path

from local_cluster.errors import ClusterError
from local_cluster.namespaces import Process
from local_cluster.paths import cluster_folder

_LONGEST_SOCKET_PATH = 107  # sun_path of Linux, less its ending zero


@dataclass(frozen=True)
class Layout:
    """Paths of one cluster. `state` goes with `down`; `images` stays until `down --purge`."""

    name: str

    @property
    def folder(self) -> Path:
        return cluster_folder(self.name)

    @property
    def state(self) -> Path:
        return self.folder / "state"

    @property
    def images(self) -> Path:
        """containerd's root: the imported images, unpacked."""
        return self.folder / "images"

    @property
    def lock(self) -> Path:
        return self.folder.parent / f"{self.name}.lock"

    @property
    def orders(self) -> Path:
        """The supervisor's socket.

        Raises:
            ClusterError: the path is too long for a Unix socket.
        """
        path = self.state / "orders.sock"
        if len(str(path)) > _LONGEST_SOCKET_PATH:
            raise ClusterError(f"{path} is too long for a socket; set ANNEAL_CACHE to a folder with a shorter path.")
        return path

    @property
    def pki(self) -> Path:
        return self.state / "pki"

    @property
    def logs(self) -> Path:
        return self.state / "logs"

    @property
    def audit_log(self) -> Path:
        """One JSON object of audit.k8s.io/v1 a line, level Metadata, for each request to the API server."""
        return self.state / "audit.log"

    @property
    def volumes(self) -> Path:
        return self.state / "volumes"

    def kubeconfig(self, user: str = "admin") -> Path:
        return self.state / f"{user.replace(':', '-')}.kubeconfig"

    @property
    def cgroup(self) -> str:
        """Name of the cluster's cgroup, alike in every hierarchy and unlike that of any other state folder."""
        return f"anneal-{self.name}-{hashlib.sha256(str(self.folder).encode()).hexdigest()[:6]}"


@dataclass(frozen=True)
class Record:
    """What runs: written before anything depends on it, read by every later call."""

    supervisor: Process
    slot: int
    """Number of the cable to the host; gives the addresses, see network.py."""
    interface: int
    """Index of the cable's end on the host: unlike its name, the kernel never gives it again."""
    scope: str
    program: str
    """Path of the built Kubernetes program."""

    def write(self, layout: Layout) -> None:
        """Put the record in place at once, so that no reader sees half of it."""
        file = layout.state / "cluster.json"
        unfinished = file.with_suffix(".unfinished")
        unfinished.write_text(json.dumps(asdict(self), indent=1))
        unfinished.replace(file)

    @classmethod
    def read(cls, layout: Layout) -> Record | None:
        """The record of the cluster, or None when there is none, or one of another version of this package."""
        try:
            fields = json.loads((layout.state / "cluster.json").read_text())
            return cls(**{**fields, "supervisor": Process(**fields["supervisor"])})
        except (FileNotFoundError, TypeError):
            return None
