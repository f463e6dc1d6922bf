"""The local Kubernetes against itself: what Anneal's other tests take for granted about the cluster below them.

Two whole clusters run side by side for the length of this module; their pods run the toolbox of this folder's Go
module, so that no image of Anneal is needed.
"""

from __future__ import annotations

import json
import os
import signal
import urllib.request
from collections.abc import Iterator, Sequence
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from local_cluster import Cluster, ClusterError, binary, kubeconfig, oci
from local_cluster.images import ImageStore
from local_cluster.namespaces import inside, wait_until
from toolbox import DATA, TOOLBOX, apply, claim, command_line, container, mounted, outcome, output, pod, recorded

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def clusters(toolbox_image: Path) -> Iterator[tuple[Cluster, Cluster]]:
    pair = Cluster("check-a"), Cluster("check-b")
    try:
        for cluster in pair:
            cluster.up()
            cluster.load_images(toolbox_image)
        yield pair
    finally:
        for cluster in pair:
            cluster.purge()


@pytest.fixture(scope="module")
def cluster(clusters: tuple[Cluster, Cluster]) -> Cluster:
    return clusters[0]


@pytest.fixture
def namespace(cluster: Cluster, request: pytest.FixtureRequest) -> Iterator[str]:
    """A namespace that admits only pods of the Pod Security standard `restricted`."""
    name = request.node.name.replace("_", "-").replace("test-", "")[:60]
    apply(
        cluster,
        {
            "apiVersion": "v1",
            "kind": "Namespace",
            "metadata": {"name": name, "labels": {"pod-security.kubernetes.io/enforce": "restricted"}},
        },
    )
    yield name
    cluster.kubectl("delete", "namespace", name, "--wait=false")


def test_the_containers_of_the_last_time_are_gone(clusters: tuple[Cluster, Cluster], toolbox_image: Path) -> None:
    _, cluster = clusters
    apply(cluster, pod("default", "left-over", container("pause")))
    cluster.kubectl("wait", "pod/left-over", "--for=condition=Ready", "--timeout=60s")
    cluster.down()
    cluster.up()
    assert "left-over" not in cluster.kubectl("get", "pods", "-o", "name")
    apply(cluster, pod("default", "fresh", container("pause")))
    cluster.kubectl("wait", "pod/fresh", "--for=condition=Ready", "--timeout=60s")
    assert containers(cluster) == 2  # the pod's own, and its pause container


def test_two_clusters_share_nothing(clusters: tuple[Cluster, Cluster]) -> None:
    first, second = clusters
    first.kubectl("create", "namespace", "only-here")
    assert "only-here" in first.kubectl("get", "namespaces", "-o", "name")
    assert "only-here" not in second.kubectl("get", "namespaces", "-o", "name")
    for each in clusters:
        assert "node-1" in each.kubectl("get", "nodes", "-o", "name")
    assert first.server != second.server


def test_volume_is_made_written_and_removed(cluster: Cluster, namespace: str) -> None:
    apply(
        cluster,
        claim(namespace, "data"),
        pod(namespace, "writer", container("write", "/data/a", "kept", **DATA), **mounted("data")),
    )
    assert outcome(cluster, namespace, "writer") == "/data/a uid=65532 gid=65532\n"
    folder = cluster.volume_folder(namespace, "data")
    assert (folder / "a").read_text() == "kept"
    cluster.kubectl("-n", namespace, "delete", "pod/writer", "pvc/data", "--timeout=30s")
    wait_until(lambda: not folder.exists(), 20, f"{folder} outlives its claim")


def test_fs_group_owns_the_files_of_a_volume(cluster: Cluster, namespace: str) -> None:
    group = {"security": {"runAsUser": 1000, "runAsGroup": 1000, "fsGroup": 2000}}
    apply(
        cluster,
        claim(namespace, "data"),
        pod(namespace, "writer", container("write", "/data/a", "x", **DATA), **mounted("data"), **group),
    )
    assert outcome(cluster, namespace, "writer") == "/data/a uid=1000 gid=2000\n"


def test_a_pod_finds_a_service_by_name(cluster: Cluster, namespace: str) -> None:
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "greeter", "namespace": namespace},
        "spec": {
            "type": "NodePort",
            "selector": {"app": "server"},
            "ports": [{"port": 80, "targetPort": 8080, "nodePort": 30080}],
        },
    }
    apply(
        cluster,
        service,
        pod(namespace, "server", container("serve", ":8080", "hello")),
        pod(namespace, "short", container("get", "http://greeter/", "30")),
        pod(namespace, "full", container("get", f"http://greeter.{namespace}.svc.cluster.local/", "30")),
    )
    assert outcome(cluster, namespace, "short") == "hello\n"
    assert outcome(cluster, namespace, "full") == "hello\n"
    with urllib.request.urlopen(f"http://{cluster.node_address}:30080/", timeout=5) as answer:
        assert answer.read() == b"hello\n"


def test_a_pod_reaches_this_host(cluster: Cluster, namespace: str, tmp_path: Path) -> None:
    (tmp_path / "index.html").write_text("from the host")
    handler = partial(SimpleHTTPRequestHandler, directory=str(tmp_path))
    with ThreadingHTTPServer((cluster.host_address, 0), handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://{cluster.host_address}:{server.server_port}/index.html"
        apply(cluster, pod(namespace, "client", container("get", url, "20")))
        assert outcome(cluster, namespace, "client") == "from the host"
        server.shutdown()


def test_a_sidecar_serves_the_main_container(cluster: Cluster, namespace: str) -> None:
    sidecar = {**container("serve", ":8080", "beside"), "name": "server", "restartPolicy": "Always"}
    main = container("get", "http://127.0.0.1:8080/", "30")
    apply(cluster, pod(namespace, "both", main, initContainers=[sidecar]))
    cluster.kubectl("-n", namespace, "wait", "pod/both", "--for=jsonpath={.status.phase}=Succeeded", "--timeout=60s")
    assert cluster.kubectl("-n", namespace, "logs", "both", "-c", "main") == "beside\n"


def test_a_projected_token_has_its_audience(cluster: Cluster, namespace: str) -> None:
    token = {"serviceAccountToken": {"path": "token", "audience": "reports", "expirationSeconds": 600}}
    volume = {"volumes": [{"name": "data", "projected": {"sources": [token]}}]}
    apply(cluster, pod(namespace, "holder", container("print", "/data/token", **DATA), **volume))
    review = {
        "apiVersion": "authentication.k8s.io/v1",
        "kind": "TokenReview",
        "spec": {"token": outcome(cluster, namespace, "holder"), "audiences": ["reports"]},
    }
    status = json.loads(cluster.kubectl("create", "-f", "-", "-o", "json", stdin=json.dumps(review)))["status"]
    assert status["authenticated"] is True
    assert status["user"]["username"] == f"system:serviceaccount:{namespace}:default"
    assert status["user"]["extra"]["authentication.kubernetes.io/pod-name"] == ["holder"]


def test_fake_gpus_bound_what_is_scheduled(cluster: Cluster, namespace: str) -> None:
    cluster.set_fake_gpus(2)
    one, two = ({"resources": {"limits": {"nvidia.com/gpu": count}}} for count in ("1", "2"))
    apply(cluster, pod(namespace, "first", container("pause", **one)))
    cluster.kubectl("-n", namespace, "wait", "pod/first", "--for=condition=Ready", "--timeout=30s")
    apply(cluster, pod(namespace, "second", container("pause", **two)))
    cluster.kubectl("-n", namespace, "wait", "pod/second", "--for=condition=PodScheduled=False", "--timeout=30s")
    conditions = cluster.kubectl("-n", namespace, "get", "pod/second", "-o", "jsonpath={.status.conditions}")
    assert "Insufficient nvidia.com/gpu" in conditions
    cluster.kubectl("-n", namespace, "delete", "pod/first", "--timeout=30s")
    cluster.kubectl("-n", namespace, "wait", "pod/second", "--for=condition=Ready", "--timeout=60s")


def test_a_restricted_namespace_refuses_root(cluster: Cluster, namespace: str) -> None:
    with pytest.raises(ClusterError, match="violates PodSecurity"):
        apply(cluster, pod(namespace, "root", container("pause"), security={"runAsUser": 0, "runAsNonRoot": False}))


def test_the_audit_log_tells_who_wrote_what(cluster: Cluster) -> None:
    cluster.kubectl("create", "configmap", "audited", "-n", "default")
    events = [json.loads(line) for line in cluster.audit_log.read_text().splitlines()]
    writes = [
        event
        for event in events
        if event["verb"] == "create"
        and event.get("objectRef", {}).get("name") == "audited"
        and event["user"]["username"] == "admin"
    ]
    assert [event["responseStatus"]["code"] for event in writes] == [201]


def test_a_killed_part_stays_away_until_started(cluster: Cluster) -> None:
    cluster.kill("kube-scheduler")
    assert cluster.parts()["kube-scheduler"]["running"] is False
    cluster.start("kube-scheduler")
    assert cluster.parts()["kube-scheduler"]["running"] is True


def test_a_part_that_ends_by_itself_comes_back(cluster: Cluster) -> None:
    # Just started, it has the command line of whoever starts it for a moment.
    wait_until(lambda: len(pids_of(cluster, "kube-scheduler")) == 1, 10, "the scheduler is not one process")
    (pid,) = pids_of(cluster, "kube-scheduler")
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: cluster.parts()["kube-scheduler"]["restarts"] == 1, 10, "the scheduler does not come back")
    assert cluster.parts()["kube-scheduler"]["running"] is True


def test_up_repairs_what_runs_and_keeps_what_it_holds(cluster: Cluster) -> None:
    cluster.kubectl("create", "configmap", "kept", "-n", "default")
    cluster.kill("kubelet")
    cluster.up()
    assert cluster.parts()["kubelet"]["running"] is True
    assert "kept" in cluster.kubectl("get", "configmaps", "-n", "default", "-o", "name")


def test_an_image_is_loaded_once(
    cluster: Cluster, toolbox_image: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    cluster.load_images(toolbox_image)
    assert f"image {TOOLBOX}: already there" in capsys.readouterr().err
    # Another image with the same layer: its manifest and its configuration travel, the layer does not.
    oci.write_program_image(tmp_path, "localhost/anneal-toolbox:2", binary.build().toolbox, ["serve", ":1", "other"])
    cluster.load_images(tmp_path, "localhost/anneal-toolbox:2")
    assert "2 of 3 blobs were new, 0.0 MB" in capsys.readouterr().err


def test_an_image_gets_in_whatever_the_garbage_collector_takes_meanwhile(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Collected twice between sending and importing, in the way of containerd: what is referred to is not there."""
    refused: list[str] = []
    whole = ImageStore._import_image

    def import_image(store: ImageStore, image: oci.Image, missing: Sequence[oci.Descriptor]) -> str:
        if len(refused) >= 2:
            return whole(store, image, missing)
        refused.append(whole(store, image, []))
        return refused[-1]

    monkeypatch.setattr(ImageStore, "_import_image", import_image)
    oci.write_program_image(tmp_path, "localhost/anneal-toolbox:3", binary.build().toolbox, ["hostname"])
    cluster.load_images(tmp_path)
    assert all("not found" in said for said in refused), refused
    cluster.load_images(tmp_path)
    assert len(refused) == 2


def test_an_unknown_image_is_a_sentence(cluster: Cluster, toolbox_image: Path) -> None:
    with pytest.raises(ClusterError, match="holds localhost/anneal-toolbox:1; asked for localhost/none:1"):
        cluster.load_images(toolbox_image, "localhost/none:1")


def test_a_given_cluster_is_used_as_it_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("ANNEAL_KUBECONFIG", str(tmp_path / "theirs"))
    assert kubeconfig("never-started") == tmp_path / "theirs"
    assert Cluster("never-started").parts() == {}


def containers(cluster: Cluster) -> int:
    listing = inside(recorded(cluster).supervisor, "ctr", "--namespace=k8s.io", "containers", "ls", "--quiet")
    return len(output(*listing).split())


def pids_of(cluster: Cluster, part: str) -> list[int]:
    """Host ids of a part's process, found by its exact command line."""
    argv = cluster.parts()[part]["argv"]
    wanted = "\0".join(argv).encode() + b"\0"
    return [int(folder.name) for folder in Path("/proc").glob("[0-9]*") if command_line(folder) == wanted]
