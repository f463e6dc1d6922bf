"""One local Kubernetes by name: what tests and the demo hold in their hands."""

from __future__ import annotations

import enum
import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from local_cluster import addons, binary, cgroups, control_plane, images, namespaces, network, node, packages, pki
from local_cluster.api import Api
from local_cluster.console import say, step
from local_cluster.errors import ClusterError
from local_cluster.layout import Layout, Record
from local_cluster.locks import exclusive
from local_cluster.namespaces import wait_until
from local_cluster.network import Uplink

_BASE_PACKAGES = ("openssl", "iproute2", "util-linux")
_GPU = "nvidia.com/gpu"


class Scope(enum.Enum):
    """How much of a cluster is wanted."""

    CONTROL_PLANE = "control-plane"  # etcd, API server and controller-manager: objects, no pods
    WHOLE = "whole"  # the scheduler, a node, DNS, Services and volumes too


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
        return control_plane.server_url(Uplink(self._record().slot))

    @property
    def host_address(self) -> str:
        """The address at which pods and webhooks of this cluster reach this host."""
        return Uplink(self._record().slot).host_address

    @property
    def node_address(self) -> str:
        """The address at which this host reaches the cluster's node ports."""
        return Uplink(self._record().slot).node_address

    def up(self, scope: Scope = Scope.WHOLE) -> Cluster:
        """Start the cluster; reuse it when it is healthy, repair it when parts are missing, else build it anew.

        Raises:
            ClusterError: a prerequisite is missing, or a part does not become healthy.
        """
        if os.geteuid() != 0:
            raise ClusterError(
                "A local cluster needs root, for namespaces and mounts: run as root, or set ANNEAL_KUBECONFIG to a cluster you have."
            )
        packages.ensure([*_BASE_PACKAGES, *(node.PACKAGES if scope is Scope.WHOLE else ())])
        programs = binary.build()
        with exclusive(self.layout.lock):
            if not self._reuse(scope, programs):
                self._clear()
                try:
                    with step(f"cluster {self.name} ({scope.value})"):
                        self._create(scope, programs)
                except BaseException:
                    self._stop()  # the logs stay for the reader
                    raise
        return self

    def down(self) -> None:
        """End the cluster and remove all it made but the images in its node."""
        with exclusive(self.layout.lock):
            self._clear()

    def purge(self) -> None:
        """End the cluster and remove all it made, images included."""
        with exclusive(self.layout.lock):
            self._clear()
            shutil.rmtree(self.layout.folder, ignore_errors=True)
        self.layout.lock.unlink(missing_ok=True)

    def parts(self) -> dict[str, Any]:
        """State of each part by name: `running`, `restarts`, `argv`, `log`; empty when the cluster is down."""
        record = Record.read(self.layout)
        if record is None or not record.supervisor.alive():
            return {}
        return namespaces.order(self.layout.orders, do="list")

    def kill(self, part: str) -> None:
        """Kill one part by SIGKILL; it stays away until `start`."""
        self._known(part)
        namespaces.order(self.layout.orders, do="kill", part=part)

    def start(self, part: str) -> None:
        """Start one part again, as it was started first."""
        known = self._known(part)
        namespaces.order(self.layout.orders, do="start", part=part, argv=known["argv"], log=known["log"])

    def load_images(self, source: Path, *names: str) -> None:
        """Bring images into the node.

        Args:
            source: an OCI layout folder, or a docker-archive or OCI archive file.
            names: of an OCI layout folder, the images to bring; all that are tagged when empty.
        """
        supervisor = self._record().supervisor
        if source.is_dir():
            images.load_layout(supervisor, source, names)
        elif source.is_file():
            images.load_archive(supervisor, source)
        else:
            raise ClusterError(f"There is no image at {source}.")

    def set_fake_gpus(self, count: int) -> None:
        """Let the node advertise `count` GPUs that nothing backs, for scheduling; allocatable within seconds."""
        api = self._api()
        api.merge(f"/api/v1/nodes/{node.NODE}/status", {"status": {"capacity": {_GPU: str(count)}}})
        wait_until(
            lambda: _allocatable_gpus(api) == str(count),
            30,
            f"the node does not advertise {count} of {_GPU}",
        )

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
        return [self._record().program, "kubectl", f"--kubeconfig={self.kubeconfig}", *arguments]

    def _record(self) -> Record:
        record = Record.read(self.layout)
        if record is None:
            raise ClusterError(f"Cluster {self.name} is not up; run: up --name {self.name}")
        return record

    def _known(self, part: str) -> dict[str, Any]:
        parts = self.parts()
        if part not in parts:
            raise ClusterError(
                f"Cluster {self.name} has no part {part}; it has {', '.join(sorted(parts)) or 'none: it is down'}."
            )
        known: dict[str, Any] = parts[part]
        return known

    def _api(self) -> Api:
        token = (self.layout.pki / "tokens.csv").read_text().partition(",")[0]  # the administrator's line is the first
        return Api(self.server, self.layout.pki / "ca.crt", token)

    def _reuse(self, scope: Scope, programs: binary.Programs) -> bool:
        record = Record.read(self.layout)
        if record is None or not record.supervisor.alive() or record.program != str(programs.cluster):
            return False
        if scope is Scope.WHOLE and record.scope != scope.value:
            return False
        try:
            for name, part in self.parts().items():
                if not part["running"]:
                    say(f"  part {name} had ended: started again")
                    self.start(name)
            self._wait_healthy(Scope(record.scope), seconds=30)
        except ClusterError as error:
            say(f"cluster {self.name} is broken and is built anew: {error}")
            return False
        say(f"cluster {self.name} is up already")
        return True

    def _create(self, scope: Scope, programs: binary.Programs) -> None:
        layout = self.layout
        for folder in (layout.state, layout.logs, layout.images):
            folder.mkdir(parents=True, exist_ok=True)
        layout.state.chmod(0o711)  # pods of any user reach their volumes below it
        with step("namespaces and cable"):
            supervisor = namespaces.open_namespaces(layout.orders, layout.logs / "supervisor.log")
            Record(supervisor, -1, scope.value, str(programs.cluster)).write(layout)
            uplink = network.connect(supervisor)
            Record(supervisor, uplink.slot, scope.value, str(programs.cluster)).write(layout)
            if scope is Scope.WHOLE:
                network.bridge(supervisor)
                node.isolate(layout, supervisor)
                cgroups.create(layout.cgroup)
        with step("certificates and tokens"):
            self._write_identities(uplink)
        with step("control plane"):
            self._run(programs, control_plane.etcd(layout))
            self._run(programs, control_plane.api_server(layout, uplink))
            if scope is Scope.WHOLE:
                self._spawn("containerd", node.containerd(layout))
                self._load_pause(programs)
            api = self._api()
            wait_until(api.ready, 60, f"the API server is not ready; see {layout.logs / 'kube-apiserver.log'}")
            self._run(programs, control_plane.controller_manager(layout))
        if scope is Scope.WHOLE:
            addons.create_storage_class(api)
            for command in (
                control_plane.scheduler(layout),
                node.kubelet(layout, uplink),
                node.proxy(layout),
                addons.dns(layout),
                addons.volume_provisioner(layout),
            ):
                self._run(programs, command)
        with step("first ServiceAccount" + (" and node Ready" if scope is Scope.WHOLE else "")):
            self._wait_healthy(scope, seconds=60)

    def _write_identities(self, uplink: Uplink) -> None:
        layout = self.layout
        pki.create_certificates(layout.pki, control_plane.server_names(uplink))
        users = (
            pki.ADMIN,
            pki.CONTROLLER_MANAGER,
            pki.SCHEDULER,
            pki.PROXY,
            pki.DNS,
            pki.VOLUMES,
            pki.node_user(node.NODE),
        )
        tokens = pki.create_tokens(layout.pki / "tokens.csv", users)
        control_plane.write_files(layout, uplink, {user.name: token for user, token in tokens.items()})

    def _run(self, programs: binary.Programs, command: list[str]) -> None:
        self._spawn(command[0], [str(programs.cluster), *command])

    def _spawn(self, part: str, argv: list[str]) -> None:
        namespaces.order(
            self.layout.orders, do="start", part=part, argv=argv, log=str(self.layout.logs / f"{part}.log")
        )

    def _load_pause(self, programs: binary.Programs) -> None:
        supervisor = self._record().supervisor
        wait_until(
            lambda: _containerd_answers(supervisor),
            30,
            f"containerd does not answer; see {self.layout.logs / 'containerd.log'}",
        )
        folder = self.layout.state / "pause"
        images.write_program_image(folder, node.PAUSE_IMAGE, programs.toolbox, ["pause"])
        images.load_layout(supervisor, folder)

    def _wait_healthy(self, scope: Scope, seconds: float) -> None:
        api = self._api()
        wait_until(api.ready, seconds, f"the API server is not ready; see {self.layout.logs / 'kube-apiserver.log'}")
        wait_until(
            lambda: api.get("/api/v1/namespaces/default/serviceaccounts/default") is not None,
            seconds,
            f"there is no default ServiceAccount; see {self.layout.logs / 'kube-controller-manager.log'}",
        )
        if scope is Scope.WHOLE:
            wait_until(
                lambda: _node_is_ready(api), seconds, f"the node is not Ready; see {self.layout.logs / 'kubelet.log'}"
            )

    def _stop(self) -> None:
        """End the processes and remove what outlives them, but the files."""
        record = Record.read(self.layout)
        if record is not None:
            record.supervisor.end()
        cgroups.remove(self.layout.cgroup)

    def _clear(self) -> None:
        self._stop()
        if self.layout.state.exists():
            shutil.rmtree(self.layout.state)


def kubeconfig(name: str = "default") -> Path:
    """The kubeconfig to use: that of `$ANNEAL_KUBECONFIG`, else of the local cluster `name`, started when it is down."""
    given = os.environ.get("ANNEAL_KUBECONFIG")
    if given:
        return Path(given).expanduser()
    return Cluster(name).up().kubeconfig


def _containerd_answers(supervisor: namespaces.Process) -> bool:
    asked = namespaces.inside(supervisor, "ctr", "version")
    return subprocess.run(asked, capture_output=True, check=False).returncode == 0


def _node_is_ready(api: Api) -> bool:
    found = api.get(f"/api/v1/nodes/{node.NODE}")
    conditions = found["status"].get("conditions", []) if found else []
    return any(condition["type"] == "Ready" and condition["status"] == "True" for condition in conditions)


def _allocatable_gpus(api: Api) -> str | None:
    found = api.get(f"/api/v1/nodes/{node.NODE}")
    count: str | None = found["status"]["allocatable"].get(_GPU) if found else None
    return count
