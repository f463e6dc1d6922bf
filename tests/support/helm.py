"""The real Helm, built once per machine from its Go module into the cache."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from local_cluster.paths import cache_root

VERSION = "v4.2.1"


def helm() -> Path:
    """Path of the helm program; the first call on a machine builds it (about a minute)."""
    folder = cache_root() / "bin" / f"helm-{VERSION}"
    program = folder / "helm"
    if not program.exists():
        environment = {**os.environ, "GOBIN": str(folder), "CGO_ENABLED": "0", "GOFLAGS": "-trimpath"}
        subprocess.run(
            ["go", "install", "-ldflags", "-s -w", f"helm.sh/helm/v4/cmd/helm@{VERSION}"],
            env=environment,
            check=True,
            timeout=900,
        )
    return program
