"""The last words of a container: one RunResult where the kubelet keeps it."""

from __future__ import annotations

import os
from pathlib import Path

from anneal.api.runs import TERMINATION_FILE, RunResult, encode_result


def write_result(result: RunResult) -> None:
    """Leaves `result` in the termination message; ANNEAL_TERMINATION_FILE names another file."""
    Path(os.environ.get("ANNEAL_TERMINATION_FILE", TERMINATION_FILE)).write_bytes(encode_result(result))


def failed(reason: str, message: str, *, retryable: bool) -> RunResult:
    return RunResult(role="serve", outcome="Failed", reason=reason, message=message, retryable=retryable)
