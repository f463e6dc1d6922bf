"""A cluster's network: one cable to the host, one bridge for its pods, all else private to its namespace.

Every cluster uses the same addresses inside; only the cable differs. Its number, the slot, is whichever is free on this
host, and the kernel hands it out: making the interface fails when another cluster has it.
"""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass
from pathlib import Path

from local_cluster.errors import ClusterError
from local_cluster.namespaces import Process, inside, run, wait_until

POD_RANGE = "10.244.0.0/16"
BRIDGE = "pods"
BRIDGE_ADDRESS = "10.244.0.1"
SERVICE_RANGE = "10.96.0.0/16"
API_SERVICE_ADDRESS = "10.96.0.1"
API_PORT = 6443
_SLOTS = 64
_FORWARD = Path("/proc/sys/net/ipv4/ip_forward")
# Between two pods of one bridge, Services need the bridge's frames to pass the firewall rules.
_FRAMES = Path("/proc/sys/net/bridge/bridge-nf-call-iptables")


@dataclass(frozen=True)
class Uplink:
    """The cable of slot N; 198.18.0.0/15 is set aside by RFC 2544 for benchmarks, so no real network uses it."""

    slot: int

    @property
    def interface(self) -> str:
        return f"anneal{self.slot}"

    @property
    def host_address(self) -> str:
        """The host as the cluster, its pods included, reaches it."""
        return f"198.18.{self.slot}.1"

    @property
    def node_address(self) -> str:
        """The cluster as the host reaches it: API server and node ports."""
        return f"198.18.{self.slot}.2"


def connect(supervisor: Process) -> Uplink:
    """Lay the cable between the host and the supervisor's network namespace.

    Raises:
        ClusterError: there is no free slot, or the kernel refuses.
    """
    taken = {address["local"] for link in json.loads(run(["ip", "-json", "address"])) for address in link["addr_info"]}
    for uplink in map(Uplink, range(_SLOTS)):
        if uplink.host_address in taken:
            continue
        made = subprocess.run(
            [
                "ip",
                "link",
                "add",
                uplink.interface,
                "type",
                "veth",
                "peer",
                "name",
                "uplink",
                "netns",
                str(supervisor.pid),
            ],
            capture_output=True,
            text=True,
            check=False,
        )
        if made.returncode == 0:
            _address(supervisor, uplink)
            return uplink
        if "File exists" not in made.stderr:
            raise ClusterError(f"A veth pair cannot be made: {made.stderr.strip()}")
    raise ClusterError(f"All {_SLOTS} network slots are taken; end a cluster first.")


def _address(supervisor: Process, uplink: Uplink) -> None:
    run(["ip", "address", "add", f"{uplink.host_address}/30", "dev", uplink.interface])
    run(["ip", "link", "set", uplink.interface, "up"])
    _ip(supervisor, "link set lo up")
    _ip(supervisor, f"address add {uplink.node_address}/30 dev uplink")
    _ip(supervisor, "link set uplink up")


def interface_index(uplink: Uplink) -> int:
    """Index of the host's end of the cable, or 0, which is none, when there is no such interface."""
    try:
        return int(Path(f"/sys/class/net/{uplink.interface}/ifindex").read_text())
    except OSError:
        return 0


def wait_disconnected(uplink: Uplink, index: int) -> None:
    """Wait for the kernel to take away the cable of a namespace that has ended; its name may be another's by then.

    Raises:
        ClusterError: the interface stays.
    """
    wait_until(lambda: interface_index(uplink) != index, 30, f"interface {uplink.interface} outlives its cluster")


def bridge(supervisor: Process) -> None:
    """Make the pods' bridge, let it forward, and let pods reach the host by the node's address."""
    _ip(supervisor, f"link add {BRIDGE} type bridge")
    _ip(supervisor, f"address add {BRIDGE_ADDRESS}/16 dev {BRIDGE}")
    _ip(supervisor, f"link set {BRIDGE} up")
    if not _FRAMES.exists():
        run(["modprobe", "br_netfilter"])
    for switch in (_FORWARD, _FRAMES):
        run(inside(supervisor, "sh", "-c", f"echo 1 > {switch}"))
    masquerade = (
        f"iptables --table nat --append POSTROUTING --source {POD_RANGE} --out-interface uplink --jump MASQUERADE"
    )
    run(inside(supervisor, *masquerade.split()))


def _ip(supervisor: Process, words: str) -> None:
    run(inside(supervisor, "ip", *words.split()))


def write_cni(folder: Path) -> None:
    """Write the configuration by which containerd plugs pods into the bridge."""
    folder.mkdir(parents=True, exist_ok=True)
    plugins = [
        {
            "type": "bridge",
            "bridge": BRIDGE,
            "isGateway": True,
            "isDefaultGateway": True,
            "hairpinMode": True,
            "ipam": {"type": "host-local", "dataDir": "/run/cni", "ranges": [[{"subnet": POD_RANGE}]]},
        },
        {"type": "portmap", "capabilities": {"portMappings": True}},
    ]
    (folder / "pods.conflist").write_text(json.dumps({"cniVersion": "1.0.0", "name": "pods", "plugins": plugins}))
