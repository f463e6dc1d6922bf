"""Fixtures that every level shares: a real control plane, and the whole local Kubernetes with our images.

With ANNEAL_KUBECONFIG set, both are that cluster and nothing is started here.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from local_cluster import Cluster, Scope

REPOSITORY = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class KubernetesUnderTest:
    """A cluster that tests may use up: they make namespaces of their own and clean up after themselves."""

    kubeconfig: Path
    command: tuple[str, ...]
    """kubectl with the kubeconfig."""
    audit_log: Path | None
    """Requests that the API server answered; None on a cluster that is not ours."""
    local: Cluster | None

    def kubectl(self, *arguments: str, stdin: str | None = None) -> str:
        """kubectl's output; raises AssertionError with its error output when it fails."""
        done = self.try_kubectl(*arguments, stdin=stdin)
        assert done.returncode == 0, f"kubectl {' '.join(arguments)}: {done.stderr}"
        return done.stdout

    def try_kubectl(self, *arguments: str, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
        """kubectl as it ended, good or bad."""
        return subprocess.run([*self.command, *arguments], input=stdin, capture_output=True, text=True, timeout=120)


def _under_test(name: str, scope: Scope) -> Iterator[KubernetesUnderTest]:
    given = os.environ.get("ANNEAL_KUBECONFIG")
    if given:
        yield KubernetesUnderTest(Path(given), ("kubectl", "--kubeconfig", given), None, None)
        return
    cluster = Cluster(name).up(scope)
    try:
        yield KubernetesUnderTest(cluster.kubeconfig, tuple(cluster.kubectl_command()), cluster.audit_log, cluster)
    finally:
        cluster.down()


@pytest.fixture(scope="session")
def control_plane() -> Iterator[KubernetesUnderTest]:
    """etcd, API server and controller manager: objects, but no pods run. Ready in seconds; one per xdist worker."""
    worker = os.environ.get("PYTEST_XDIST_WORKER", "")
    yield from _under_test("-".join(filter(None, ("test-control-plane", worker))), Scope.CONTROL_PLANE)


@pytest.fixture(scope="session")
def kubernetes() -> Iterator[KubernetesUnderTest]:
    """The whole local Kubernetes: pods run."""
    yield from _under_test("test", Scope.WHOLE)
