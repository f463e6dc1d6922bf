"""A real Kubernetes on one machine, without Docker: what Anneal's tests and demo run on."""

from local_cluster.cluster import Cluster, kubeconfig
from local_cluster.errors import ClusterError
from local_cluster.lifecycle import Scope

__all__ = ["Cluster", "ClusterError", "Scope", "kubeconfig"]
