"""The last words of a run: one RunResult in the pod's termination file, and the exit code that goes with it.

The kubelet keeps the file in the pod's status, so a result needs no network, no token and no operator at that moment.
Whatever happened, there is exactly one result, and it is written here.
"""

from __future__ import annotations

import errno
import logging
from pathlib import Path
from typing import Literal

from pydantic import ValidationError

from anneal.api.runs import EXIT_PREEMPTED, EXIT_USER_MISTAKE, RunResult, encode_result
from anneal_trainer.errors import Preempted, TrainerError

Role = Literal["prepare", "fit", "publish"]
_LOG = logging.getLogger(__name__)
_FULL = (errno.ENOSPC, errno.EDQUOT)


def result_of(role: Role, error: BaseException) -> RunResult:
    """The result that an exception amounts to. Total: an unknown one is a crash that may be retried."""
    if isinstance(error, Preempted):
        return RunResult(
            role=role, outcome="Preempted", reason="Preempted", message=error.message, retryable=True, fit=error.fit
        )
    reason, message, retryable = _explain(error)
    return RunResult(role=role, outcome="Failed", reason=reason, message=message, retryable=retryable)


def _explain(error: BaseException) -> tuple[str, str, bool]:
    if isinstance(error, TrainerError):
        return error.reason, error.message, error.retryable
    if isinstance(error, ValidationError):
        return "InvalidRun", f"the run document is not valid: {_first_problem(error)}", False
    if isinstance(error, OSError) and error.errno in _FULL:
        return "NoSpaceLeft", f"no space left to write {error.filename or 'a file'}: make the volume larger", True
    if isinstance(error, PermissionError):
        return (
            "PermissionDenied",
            f"{error.filename} may not be read or written: the pod runs as user 65532; change the owner or the mode",
            False,
        )
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return (
            "OutOfMemory",
            f"out of memory ({error}): raise resources.memory, take a larger accelerator, or lower training.maxLength",
            True,
        )
    return "Crashed", f"{type(error).__name__}: {error}", True


def _first_problem(error: ValidationError) -> str:
    first = error.errors(include_url=False, include_context=False)[0]
    where = ".".join(str(part) for part in first["loc"]) or "document"
    return f"{where}: {first['msg']}"


def exit_code(result: RunResult) -> int:
    """0 succeeded, 42 never again with this input, 75 preempted with the state saved, 1 may be tried again."""
    if result.outcome == "Succeeded":
        return 0
    if result.outcome == "Preempted":
        return EXIT_PREEMPTED
    return 1 if result.retryable else EXIT_USER_MISTAKE


def write_result(path: Path, result: RunResult) -> None:
    """Writes the termination message. It is logged as well, for a reader of the pod's log."""
    encoded = encode_result(result)
    _LOG.info("%s: %s", result.outcome, result.message or result.reason)
    path.write_bytes(encoded)
