"""One local Kubernetes by name: what tests and the demo hold in their hands."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from local_cluster import binary, control_plane, lifecycle, namespaces, node, packages
from local_cluster.console import say, step
from local_cluster.errors import ClusterError
from local_cluster.images import ImageStore
from local_cluster.layout import Layout, Record
from local_cluster.lifecycle import Scope
from local_cluster.locks import exclusive
from local_cluster.namespaces import wait_until
from local_cluster.network import Uplink

_BASE_PACKAGES = ("openssl", "iproute2", "util-linux")
_REPAIR_SECONDS = 30.0
_GPU = "nvidia.com/gpu"


@dataclass(frozen=True)
class Cluster:
    """The cluster called `name`; making this object starts nothing."""

    name: str = "default"

    @property
    def layout(self) -> Layout:
        return Layout(self.name)

    @property
    def kubeconfig(self) -> Path:
        """The administrator's kubeconfig, good on this host."""
        return self.layout.kubeconfig()

    @property
    def audit_log(self) -> Path:
        """One JSON object of audit.k8s.io/v1 a line for each request that the API server answered."""
        return self.layout.audit_log

    @property
    def server(self) -> str:
        """URL of the API server, good on this host and in pods."""
        return control_plane.server_url(self._uplink)

    @property
    def host_address(self) -> str:
        """The address at which pods and webhooks of this cluster reach this host."""
        return self._uplink.host_address

    @property
    def node_address(self) -> str:
        """The address at which this host reaches the cluster's node ports."""
        return self._uplink.node_address

    def up(self, scope: Scope = Scope.WHOLE) -> Cluster:
        """Start the cluster; reuse it when it is healthy, repair it when parts are missing, else build it anew.

        Raises:
            ClusterError: a prerequisite is missing, or a part does not become healthy.
        """
        if os.geteuid() != 0:
            raise ClusterError(
                "A local cluster needs root, for namespaces and mounts: "
                "run as root, or set ANNEAL_KUBECONFIG to a cluster that you have."
            )
        packages.ensure([*_BASE_PACKAGES, *(node.PACKAGES if scope is Scope.WHOLE else ())])
        programs = binary.build()
        with exclusive(self.layout.lock):
            if self._reuse(scope, programs):
                return self
            lifecycle.clear(self.layout)
            with step(f"cluster {self.name} ({scope.value})"):
                try:
                    lifecycle.create(self.layout, scope, programs)
                except BaseException:
                    lifecycle.stop(self.layout)  # the logs stay for the reader
                    raise
        return self

    def down(self) -> None:
        """End the cluster and remove all it made but the images in its node."""
        with exclusive(self.layout.lock):
            lifecycle.clear(self.layout)

    def purge(self) -> None:
        """End the cluster and remove all it made, images included."""
        with exclusive(self.layout.lock):
            lifecycle.clear(self.layout)
            shutil.rmtree(self.layout.folder, ignore_errors=True)
        self.layout.lock.unlink(missing_ok=True)

    def parts(self) -> dict[str, Any]:
        """State of each part by name: `running`, `restarts`, `argv`, `log`; empty when the cluster is down."""
        if lifecycle.supervisor_of(self.layout) is None:
            return {}
        return namespaces.order(self.layout.orders, do="list")

    def kill(self, part: str) -> None:
        """Kill one part by SIGKILL; it stays away until `start`."""
        self._known(part)
        namespaces.order(self.layout.orders, do="kill", part=part)

    def start(self, part: str) -> None:
        """Start one part again, as it was started first."""
        lifecycle.start_part(self.layout, part, self._known(part)["argv"])

    def load_images(self, source: Path, *names: str) -> None:
        """Bring images into the node.

        Args:
            source: an OCI layout folder, or a docker-archive or OCI archive file.
            names: of an OCI layout folder, the images to bring by full name; all that are tagged when empty.
        """
        store = ImageStore(self._record.supervisor, self.layout.images)
        if source.is_dir():
            store.load_layout(source, names)
        elif source.is_file():
            store.load_archive(source)
        else:
            raise ClusterError(f"There is no image at {source}.")

    def set_fake_gpus(self, count: int) -> None:
        """Let the node advertise `count` GPUs that nothing backs, for scheduling; allocatable within seconds."""
        api, path = lifecycle.access(self.layout, self._uplink), f"/api/v1/nodes/{node.NODE}"
        api.merge(f"{path}/status", {"status": {"capacity": {_GPU: str(count)}}})

        def advertised() -> bool:
            found = api.get(path)
            return found is not None and found["status"]["allocatable"].get(_GPU) == str(count)

        wait_until(advertised, 30, f"the node does not advertise {count} of {_GPU}")

    def volume_folder(self, namespace: str, claim: str) -> Path:
        """The folder on this host that backs a bound PersistentVolumeClaim."""
        found = list(self.layout.volumes.glob(f"pvc-*_{namespace}_{claim}"))
        if not found:
            raise ClusterError(
                f"Claim {namespace}/{claim} has no volume yet: it gets one when its first pod is scheduled."
            )
        return found[0]

    def kubectl(self, *arguments: str, stdin: str | None = None) -> str:
        """Run kubectl as the administrator and give its standard output.

        Raises:
            ClusterError: kubectl failed; the message holds what it said.
        """
        return namespaces.run(self.kubectl_command(*arguments), stdin=stdin)

    def kubectl_command(self, *arguments: str) -> list[str]:
        """The command line of kubectl for this cluster."""
        return [self._record.program, "kubectl", *self._kubectl_flags, *arguments]

    @property
    def _kubectl_flags(self) -> tuple[str, str]:
        # Without a folder of its own, kubectl caches in the user's home what this server offers.
        return f"--kubeconfig={self.kubeconfig}", f"--cache-dir={self.layout.state / 'kubectl'}"

    @property
    def _record(self) -> Record:
        record = Record.read(self.layout)
        if record is None:
            raise ClusterError(f"Cluster {self.name} is not up; run: up --name {self.name}")
        return record

    @property
    def _uplink(self) -> Uplink:
        return Uplink(self._record.slot)

    def _known(self, part: str) -> dict[str, Any]:
        parts = self.parts()
        if part not in parts:
            known = ", ".join(sorted(parts)) or "none: it is down"
            raise ClusterError(f"Cluster {self.name} has no part {part}; its parts are {known}.")
        found: dict[str, Any] = parts[part]
        return found

    def _reuse(self, wanted: Scope, programs: binary.Programs) -> bool:
        """Whether the cluster runs, is made of `programs`, holds what is wanted and is, or gets, healthy."""
        record = Record.read(self.layout)
        if record is None or not record.supervisor.alive() or record.program != str(programs.cluster):
            return False
        scope = Scope(record.scope)
        if wanted not in (scope, Scope.CONTROL_PLANE):
            return False
        try:
            for name, part in self.parts().items():
                if not part["running"]:
                    say(f"  part {name} had ended and is started again")
                    self.start(name)
            lifecycle.wait_healthy(self.layout, scope, Uplink(record.slot), _REPAIR_SECONDS)
        except ClusterError as error:
            say(f"cluster {self.name} is broken and is built anew: {error}")
            return False
        say(f"cluster {self.name} is up already")
        return True


def given_kubeconfig() -> Path | None:
    """The kubeconfig of a cluster that the user has: `$ANNEAL_KUBECONFIG`."""
    given = os.environ.get("ANNEAL_KUBECONFIG")
    return Path(given).expanduser() if given else None


def kubeconfig(name: str = "default") -> Path:
    """The given kubeconfig, else that of the local cluster `name`, which is started when it is down."""
    return given_kubeconfig() or Cluster(name).up().kubeconfig
