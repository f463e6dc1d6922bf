"""A real Kubernetes on one machine, without Docker: what Anneal's tests and demo run on."""

from local_cluster.cluster import Cluster, Scope, kubeconfig
from local_cluster.errors import ClusterError

__all__ = ["Cluster", "ClusterError", "Scope", "kubeconfig"]
