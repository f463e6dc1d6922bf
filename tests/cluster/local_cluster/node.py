"""The one node: containerd, kubelet and kube-proxy, with their configuration."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from local_cluster import network
from local_cluster.errors import ClusterError
from local_cluster.layout import Layout
from local_cluster.namespaces import Process, inside, run
from local_cluster.network import Uplink
from local_cluster.pki import PROXY, node_user

NODE = "node-1"
PAUSE_IMAGE = "localhost/anneal-pause:1"
PACKAGES = ("containerd", "runc", "containernetworking-plugins", "iptables")

# Fixed folders of containerd, CNI and kubelet: in the cluster's mount namespace each is an empty one of its own.
_PRIVATE = ("/run", "/var/lib", "/var/log")
# Kernel settings of the whole machine that the kubelet insists on. It is shown files with the values that it wants to
# read, so that it changes nothing outside: pkg/kubelet/cm setupKernelTunables names them.
_SETTINGS = {
    "vm/overcommit_memory": 1,
    "vm/panic_on_oom": 0,
    "kernel/panic": 10,
    "kernel/panic_on_oops": 1,
    "kernel/keys/root_maxkeys": 1000000,
    "kernel/keys/root_maxbytes": 25000000,
}

# The options of the cri section are for machines that withhold rights of their root user: see restrict_oom_score_adj.
_CONTAINERD = """
version = 2
root = "{root}"
state = "/run/containerd"
disabled_plugins = ["io.containerd.internal.v1.opt"]
[grpc]
  address = "/run/containerd/containerd.sock"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{pause}"
  restrict_oom_score_adj = true
  disable_apparmor = true
  disable_hugetlb_controller = true
  tolerate_missing_hugetlb_controller = true
  stream_server_address = "127.0.0.1"
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "{cni}"
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "overlayfs"
    default_runtime_name = "runc"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
        BinaryName = "{runc}"
        SystemdCgroup = false
"""


def isolate(layout: Layout, supervisor: Process) -> None:
    """Give the cluster's mount namespace its private folders and its own view of the kernel settings."""
    settings = layout.state / "sysctl"
    settings.mkdir(exist_ok=True)
    commands = [f"mount -t tmpfs -o mode=0755 tmpfs {folder}" for folder in _PRIVATE]
    for setting, value in _SETTINGS.items():
        shown = settings / setting.replace("/", ".")
        shown.write_text(f"{value}\n")
        if Path("/proc/sys", setting).exists():
            commands.append(f"mount --bind '{shown}' /proc/sys/{setting}")
    run(inside(supervisor, "sh", "-e", "-c", "\n".join(commands)))


def containerd(layout: Layout) -> list[str]:
    """Write containerd's configuration and give its command line."""
    cni = layout.state / "cni"
    network.write_cni(cni)
    configuration = layout.state / "containerd.toml"
    configuration.write_text(_CONTAINERD.format(root=layout.images, pause=PAUSE_IMAGE, cni=cni, runc=_path_of("runc")))
    return [_path_of("containerd"), f"--config={configuration}"]


def kubelet(layout: Layout, uplink: Uplink) -> list[str]:
    """Write the kubelet's configuration and give its command line."""
    root = layout.state / "kubelet"
    configuration = {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "containerRuntimeEndpoint": "unix:///run/containerd/containerd.sock",
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": f"/{layout.cgroup}",
        "failCgroupV1": False,
        "failSwapOn": False,
        "makeIPTablesUtilChains": False,
        "clusterDNS": [network.BRIDGE_ADDRESS],
        "clusterDomain": "cluster.local",
        "resolvConf": "",
        "podLogsDir": str(root / "podlogs"),
        "volumePluginDir": str(root / "volumeplugins"),
        # Images are kept for the next cluster of this name, so none is ever collected.
        "imageGCHighThresholdPercent": 100,
        "imageGCLowThresholdPercent": 99,
        "evictionHard": {"memory.available": "100Mi", "nodefs.available": "1%", "imagefs.available": "1%"},
        "nodeStatusUpdateFrequency": "2s",
        "syncFrequency": "10s",
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": True},
            "x509": {"clientCAFile": str(layout.pki / "ca.crt")},
        },
        "authorization": {"mode": "Webhook"},
    }
    file = layout.state / "kubelet.json"
    file.write_text(json.dumps(configuration, indent=1))
    return [
        "kubelet",
        f"--config={file}",
        f"--kubeconfig={layout.kubeconfig(node_user(NODE).name)}",
        f"--root-dir={root}",
        f"--cert-dir={root / 'pki'}",
        f"--hostname-override={NODE}",
        f"--node-ip={uplink.node_address}",
    ]


def proxy(layout: Layout) -> list[str]:
    """Write kube-proxy's configuration and give its command line."""
    configuration = {
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "clientConnection": {"kubeconfig": str(layout.kubeconfig(PROXY.name))},
        "mode": "iptables",
        "clusterCIDR": network.POD_RANGE,
        "hostnameOverride": NODE,
        "detectLocalMode": "BridgeInterface",
        "detectLocal": {"bridgeInterface": network.BRIDGE},
        "iptables": {"minSyncPeriod": "100ms"},
        # The limits of connection tracking belong to the whole machine: leave them.
        "conntrack": {"maxPerCore": 0, "min": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s"},
    }
    file = layout.state / "kube-proxy.json"
    file.write_text(json.dumps(configuration, indent=1))
    return ["kube-proxy", f"--config={file}"]


def _path_of(program: str) -> str:
    found = shutil.which(program, path="/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
    if found is None:
        raise ClusterError(f"{program} is not installed, though its package is; install it anew.")
    return found
