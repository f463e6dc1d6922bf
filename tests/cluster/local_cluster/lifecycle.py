"""How a cluster comes into being, how its health is told, and how it goes: in the order in which it happens."""

from __future__ import annotations

import enum
import shutil
from collections.abc import Callable

from local_cluster import addons, binary, cgroups, control_plane, namespaces, network, node, oci, pki
from local_cluster.api import Api
from local_cluster.console import step
from local_cluster.errors import ClusterError
from local_cluster.images import ImageStore
from local_cluster.layout import Layout, Record
from local_cluster.namespaces import Process, wait_until
from local_cluster.network import Uplink

_START_SECONDS = 90.0  # ten times what a machine of 2 cores takes
_HOPELESS_RESTARTS = 3
_USERS = (
    pki.ADMIN,
    pki.CONTROLLER_MANAGER,
    pki.SCHEDULER,
    pki.PROXY,
    pki.DNS,
    pki.VOLUMES,
    pki.node_user(node.NODE),
)


class Scope(enum.Enum):
    """How much of a cluster is wanted."""

    CONTROL_PLANE = "control-plane"
    """etcd, API server and controller-manager: objects, but no pods."""
    WHOLE = "whole"
    """The scheduler, a node, DNS, Services and volumes too."""


def create(layout: Layout, scope: Scope, programs: binary.Programs) -> None:
    """Start a cluster where there is none.

    Raises:
        ClusterError: a part does not become healthy; the message names its log.
    """
    for folder in (layout.state, layout.logs, layout.images):
        folder.mkdir(parents=True, exist_ok=True)
    layout.state.chmod(0o700)
    with step("namespaces and cable"):
        supervisor, uplink = _open(layout, scope, programs)
    with step("certificates and tokens"):
        pki.create_certificates(layout.pki, control_plane.server_names(uplink))
        tokens = pki.create_tokens(layout.pki / "tokens.csv", _USERS)
        control_plane.write_files(layout, uplink, {user.name: token for user, token in tokens.items()})
    with step("control plane"):
        _start(layout, programs, control_plane.etcd(layout))
        _start(layout, programs, control_plane.api_server(layout, uplink))
        if scope is Scope.WHOLE:
            _prepare_node(layout, supervisor, programs)
        _wait(layout, access(layout, uplink).ready, "kube-apiserver", _START_SECONDS)
        _start(layout, programs, control_plane.controller_manager(layout))
    if scope is Scope.WHOLE:
        with step("node, Services, DNS and volumes"):
            addons.create_storage_class(access(layout, uplink))
            _start(layout, programs, control_plane.scheduler(layout))
            _start(layout, programs, node.kubelet(layout, uplink))
            _start(layout, programs, node.proxy(layout))
            _start(layout, programs, addons.dns(layout, uplink))
            _start(layout, programs, addons.volume_provisioner(layout))
    with step("healthy"):
        wait_healthy(layout, scope, uplink, _START_SECONDS)


def wait_healthy(layout: Layout, scope: Scope, uplink: Uplink, seconds: float) -> None:
    """Wait until pods would be admitted and, with a node, would run.

    Raises:
        ClusterError: one of these takes more than `seconds`, or a part ends again and again.
    """
    api = access(layout, uplink)
    account = "/api/v1/namespaces/default/serviceaccounts/default"
    _wait(layout, api.ready, "kube-apiserver", seconds)
    _wait(layout, lambda: api.get(account) is not None, "kube-controller-manager", seconds)
    if scope is Scope.WHOLE:
        _wait(layout, lambda: _node_is_ready(api), "kubelet", seconds)
        _wait(layout, lambda: addons.dns_is_ready(uplink), "coredns", seconds)


def stop(layout: Layout) -> None:
    """End every process of a cluster and remove what outlives them, but for its files."""
    record, supervisor = Record.read(layout), supervisor_of(layout)
    if supervisor is not None:
        supervisor.end()
    if record is not None:
        network.wait_disconnected(Uplink(record.slot), record.interface)
    cgroups.remove(layout.cgroup)


def clear(layout: Layout) -> None:
    """End a cluster and remove all it made but the images in its node."""
    stop(layout)
    if layout.state.exists():
        shutil.rmtree(layout.state)


def supervisor_of(layout: Layout) -> Process | None:
    """The live supervisor of a cluster: the recorded one or, when `up` was cut short before that, whoever listens."""
    record = Record.read(layout)
    if record is not None:
        return record.supervisor if record.supervisor.alive() else None
    return namespaces.listener(layout.orders)


def access(layout: Layout, uplink: Uplink) -> Api:
    """The administrator's access to the API server."""
    token = (layout.pki / "tokens.csv").read_text().partition(",")[0]  # the administrator's line is the first
    return Api(control_plane.server_url(uplink), layout.pki / "ca.crt", token)


def start_part(layout: Layout, part: str, argv: list[str]) -> None:
    """Start one part, in place of the one of that name when it runs."""
    log = str(layout.logs / f"{part}.log")
    namespaces.order(layout.orders, do="start", part=part, argv=argv, log=log)


def _start(layout: Layout, programs: binary.Programs, command: list[str]) -> None:
    start_part(layout, command[0], [str(programs.cluster), *command])


def _open(layout: Layout, scope: Scope, programs: binary.Programs) -> tuple[Process, Uplink]:
    supervisor = namespaces.open_namespaces(layout.orders, layout.logs / "supervisor.log")
    uplink = network.connect(supervisor)
    record = Record(supervisor, uplink.slot, network.interface_index(uplink), scope.value, str(programs.cluster))
    record.write(layout)
    if scope is Scope.WHOLE:
        network.bridge(supervisor)
        node.isolate(layout, supervisor)
        cgroups.create(layout.cgroup)
    return supervisor, uplink


def _prepare_node(layout: Layout, supervisor: Process, programs: binary.Programs) -> None:
    """Start containerd with the images of the last time, but without its containers, and with the pause image."""
    store = ImageStore(supervisor, layout.images)
    command = node.containerd(layout)
    start_part(layout, "containerd", command)
    _wait(layout, store.answers, "containerd", _START_SECONDS)
    if store.remove_containers():
        start_part(layout, "containerd", command)  # it keeps a list of its own, read at its start
        _wait(layout, store.answers, "containerd", _START_SECONDS)
    folder = layout.state / "pause"
    oci.write_program_image(folder, node.PAUSE_IMAGE, programs.toolbox, ["pause"])
    store.load_layout(folder)


def _wait(layout: Layout, condition: Callable[[], bool], part: str, seconds: float) -> None:
    """Wait for what only `part` brings about, unless some part fails for good meanwhile."""

    def met_or_hopeless() -> bool:
        for name, state in namespaces.order(layout.orders, do="list").items():
            if state["restarts"] >= _HOPELESS_RESTARTS:
                raise ClusterError(f"{name} ends again and again; see {state['log']}")
        return condition()

    wait_until(met_or_hopeless, seconds, f"{part} does not do its work; see {layout.logs / part}.log")


def _node_is_ready(api: Api) -> bool:
    found = api.get(f"/api/v1/nodes/{node.NODE}")
    conditions = found["status"].get("conditions", []) if found else []
    return any(condition["type"] == "Ready" and condition["status"] == "True" for condition in conditions)
