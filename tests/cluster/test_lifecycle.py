"""A cluster comes, is cut short, dies and goes, and the machine is as it was."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from local_cluster import Cluster, Scope
from local_cluster.cgroups import hierarchies
from local_cluster.namespaces import wait_until
from local_cluster.network import Uplink, interface_index
from toolbox import DATA, apply, claim, command_line, container, mounted, output, pod, recorded

pytestmark = pytest.mark.e2e


def gentle(cluster: Cluster) -> None:
    """Nothing happens before `down`."""


def kill_supervisor(cluster: Cluster) -> None:
    supervisor = recorded(cluster).supervisor
    os.kill(supervisor.pid, signal.SIGKILL)
    wait_until(lambda: not supervisor.alive(), 30, "the supervisor survives SIGKILL")


@pytest.mark.parametrize("accident", [gentle, kill_supervisor])
def test_down_leaves_the_machine_as_it_was(toolbox_image: Path, accident: Callable[[Cluster], None]) -> None:
    before = machine()
    cluster = Cluster("check-gone")
    try:
        cluster.up()
        cluster.load_images(toolbox_image)
        apply(
            cluster, claim("default", "data"), pod("default", "holder", container("pause", **DATA), **mounted("data"))
        )
        cluster.kubectl("wait", "pod/holder", "--for=condition=Ready", "--timeout=60s")
        during, cable = machine(), Uplink(recorded(cluster).slot)
        index = interface_index(cable)
        accident(cluster)
    finally:
        cluster.purge()
    assert index != 0
    assert interface_index(cable) != index
    assert during["cgroups"] != before["cgroups"]
    assert machine() == before
    assert not cluster.layout.folder.exists()


def test_a_start_that_is_killed_can_be_undone() -> None:
    before = machine()
    cluster = Cluster("check-gone")
    try:
        start = subprocess.Popen(
            [sys.executable, "-m", "local_cluster", "up", f"--name={cluster.name}"],
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parent)},
            stderr=subprocess.DEVNULL,
        )
        wait_until(lambda: "containerd" in cluster.parts(), 60, "the cluster does not start")
        start.kill()
        start.wait()
    finally:
        cluster.purge()
    assert machine() == before
    ours = str(cluster.layout.folder).encode()
    assert [folder for folder in Path("/proc").glob("[0-9]*") if ours in command_line(folder)] == []


def test_a_cluster_whose_supervisor_died_is_built_anew() -> None:
    cluster = Cluster("check-again")
    try:
        cluster.up(Scope.CONTROL_PLANE)
        kill_supervisor(cluster)
        assert cluster.parts() == {}
        cluster.up(Scope.CONTROL_PLANE)
        assert "default" in cluster.kubectl("get", "namespaces", "-o", "name")
    finally:
        cluster.purge()


def machine() -> dict[str, Any]:
    """All that a cluster could leave behind on this host, but for the cables, of which other clusters have some too."""
    ours = "check-gone"
    settings = (
        "vm/overcommit_memory",
        "vm/panic_on_oom",
        "kernel/panic",
        "kernel/panic_on_oops",
        "net/ipv4/ip_forward",
    )
    return {
        "interfaces": [
            name
            for name in sorted(path.name for path in Path("/sys/class/net").iterdir())
            if not name.startswith("anneal")
        ],
        "firewall": [line for line in output("iptables-save").splitlines() if not line.startswith(("#", ":"))],
        "mounts": [line for line in Path("/proc/mounts").read_text().splitlines() if ours in line],
        "cgroups": sorted(str(folder) for root in hierarchies() for folder in root.glob(f"anneal-{ours}*")),
        "settings": {name: Path("/proc/sys", name).read_text() for name in settings},
        "folders": [
            Path(name).exists() for name in ("/var/lib/kubelet", "/var/lib/cni", "/var/log/containers", "/var/log/pods")
        ],
    }
