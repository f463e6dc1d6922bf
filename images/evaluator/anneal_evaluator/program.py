"""`python -m anneal_evaluator`: reads the run document, judges, and always leaves its last words for the kubelet.

`python -m anneal_evaluator keys` only looks whether the API keys are there, before any model is loaded;
`python -m anneal_evaluator respond` only asks, and hands the answers to the plugins that score them.
"""

from __future__ import annotations

import os
import signal
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

from anneal.api.runs import EXIT_PREEMPTED, EXIT_USER_MISTAKE, RUN_FILE, EvaluateRun, RunResult, parse_run
from anneal_evaluator.errors import (
    INTERNAL_ERROR,
    INVALID_RUN,
    STORAGE_FAILED,
    EvaluationError,
    mistake,
)
from anneal_evaluator.evaluate import evaluate, respond
from anneal_evaluator.keys import check_keys
from anneal_evaluator.termination import write_result
from anneal_hosted.errors import PreemptedError

_PREEMPTED = RunResult(
    role="evaluate",
    outcome="Preempted",
    reason="Preempted",
    message="Stopped before the end; answers so far are kept and not asked again.",
    retryable=True,
)


def do(arguments: Sequence[str]) -> int:
    """Exit code: 0 done, 42 a mistake of the user, 75 preempted, 1 anything that may go better next time."""
    signal.signal(signal.SIGTERM, _preempted)
    try:
        run = _read_run()
        if arguments == ["keys"]:
            check_keys(run)
            return 0
        result = respond(run) if arguments == ["respond"] else evaluate(run)
    except PreemptedError:
        write_result(_PREEMPTED)
        return EXIT_PREEMPTED
    except EvaluationError as error:
        result = _failed(error.reason, str(error), retryable=error.retryable)
    except OSError as error:
        traceback.print_exc()
        message = f"The evaluation cannot read or write its files: {error}. Answers so far are kept."
        result = _failed(STORAGE_FAILED, message, retryable=True)
    except Exception as error:
        traceback.print_exc()
        result = _failed(INTERNAL_ERROR, f"The evaluator failed: {type(error).__name__}: {error}", retryable=True)
    write_result(result)
    print(f"{result.reason}: {result.message}", flush=True)
    if result.outcome == "Succeeded":
        return 0
    return 1 if result.retryable else EXIT_USER_MISTAKE


def _read_run() -> EvaluateRun:
    path = Path(os.environ.get("ANNEAL_RUN_FILE", RUN_FILE))
    try:
        run = parse_run(path.read_bytes())
    except ValueError as error:
        raise mistake(INVALID_RUN, f"The run document {path} is not one: {error}") from error
    if not isinstance(run, EvaluateRun):
        raise mistake(INVALID_RUN, f"The run document {path} is for the role {run.role}, not evaluate.")
    return run


def _failed(reason: str, message: str, *, retryable: bool) -> RunResult:
    return RunResult(role="evaluate", outcome="Failed", reason=reason, message=message, retryable=retryable)


def _preempted(signum: int, frame: FrameType | None) -> None:
    """Ends at once: every answer is on disk the moment it is had. While some are under way, they are waited for
    instead (`asking.ask_all`).
    """
    write_result(_PREEMPTED)
    sys.stderr.flush()
    os._exit(EXIT_PREEMPTED)
