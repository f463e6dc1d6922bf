"""Where everything built, downloaded or running lives: below one cache root, never in the repository."""

from __future__ import annotations

import os
import re
from pathlib import Path

from local_cluster.errors import ClusterError

# The parts' own /run, /var/lib and /var/log are private to the cluster, so the state must not lie below them.
_HIDDEN = (Path("/run"), Path("/var/lib"), Path("/var/log"))


def cache_root() -> Path:
    """The cache root: `$ANNEAL_CACHE`, else `anneal` in the user's cache folder."""
    named = os.environ.get("ANNEAL_CACHE")
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    root = Path(named) if named else Path(base) / "anneal"
    root = root.expanduser().resolve()
    for hidden in _HIDDEN:
        if root.is_relative_to(hidden):
            raise ClusterError(
                f"The cache folder {root} lies below {hidden}, which a cluster hides; set ANNEAL_CACHE elsewhere."
            )
    return root


def cluster_folder(name: str) -> Path:
    """The folder of one cluster.

    Raises:
        ClusterError: `name` is not a short DNS label.
    """
    if not re.fullmatch(r"[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?", name):
        raise ClusterError(f"Cluster name {name!r} must be 1 to 32 lowercase letters, digits and dashes.")
    return cache_root() / "clusters" / name
