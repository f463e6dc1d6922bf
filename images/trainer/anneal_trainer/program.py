"""The boundary of the program: a run document in, a result and an exit code out, whatever happens between.

Each role is imported only when it is run: publish needs no torch and starts in a blink.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import get_args

from pydantic import ValidationError

from anneal.api.runs import RUN_FILE, TERMINATION_FILE, FitRun, PrepareRun, PublishRun, Run, RunResult, parse_run
from anneal_trainer.errors import Preempted, TrainerError, UserMistake
from anneal_trainer.launch import launch, result_file
from anneal_trainer.preemption import Preemption
from anneal_trainer.process import collect_again
from anneal_trainer.startup import (
    import_launcher,
    import_models,
    import_tokenizers,
    leave_out_torch,
    leave_out_unused,
)
from anneal_trainer.termination import Role, exit_code, result_of, write_result

_LOG = logging.getLogger("anneal_trainer")


def do(preemption: Preemption) -> int:
    """Does what the run document says. Returns the exit code; the result is in the termination file."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", stream=sys.stdout)
    logging.captureWarnings(capture=True)
    warnings.simplefilter("ignore", FutureWarning)  # libraries talking to each other
    # Models and data come from volumes. Without this, transformers asks the network first and waits for it.
    os.environ.update(HF_HUB_OFFLINE="1", TRANSFORMERS_VERBOSITY="error", TOKENIZERS_PARALLELISM="false")
    # Threads that wait for each other sleep instead of spinning. On a node that does other work too, spinning threads
    # keep the very thread that they wait for off its core: a step took 6 times as long, measured on two busy cores.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    result = run(Path(os.environ.get("ANNEAL_RUN_FILE", RUN_FILE)), preemption)
    if (mine := result_file()) is not None:
        write_result(mine, result)
    else:
        write_result(Path(os.environ.get("ANNEAL_TERMINATION_FILE", TERMINATION_FILE)), result)
    return exit_code(result)


def run(document: Path, preemption: Preemption) -> RunResult:
    """The result of the run that `document` describes. Total: every exception becomes a result."""
    role: Role = "prepare"
    try:
        text = document.read_bytes()
        role = _role_of(text)
        return _do(text, preemption)
    except (TrainerError, Preempted, ValidationError) as error:
        return result_of(role, error)
    except Exception as error:
        _LOG.exception("the run ended with an error that it does not know")
        return result_of(role, error)


def _role_of(text: bytes) -> Role:
    """The role as the document has it, read apart from the rest so that an invalid document still has one."""
    try:
        role = json.loads(text).get("role")
    except (ValueError, AttributeError):
        role = None
    return role if role in get_args(Role) else "prepare"


def _do(text: bytes, preemption: Preemption) -> RunResult:
    job = parse_run(text)
    try:
        work = _imported(job, preemption)
    finally:
        collect_again()
    return work()


def _imported(job: Run, preemption: Preemption) -> Callable[[], RunResult]:
    """What does the run, with all imports behind it."""
    if isinstance(job, PrepareRun):
        leave_out_torch()
        import_tokenizers()
        from anneal_trainer.prepare.run import prepare

        return partial(prepare, job, preemption)
    if isinstance(job, FitRun) and job.ranks is not None and result_file() is None:
        import_launcher()
        return partial(launch, job.ranks, job.object.uid, preemption)
    if isinstance(job, FitRun):
        leave_out_unused(job.method)
        import_models(adapters=job.method.full is None)
        from anneal_trainer.fit.run import fit

        return partial(fit, job, preemption)
    if isinstance(job, PublishRun):
        if job.contents == "Model":
            leave_out_unused(job.method)
            import_models(adapters=job.method.full is None)
        from anneal_trainer.publish.run import publish

        return partial(publish, job)
    raise UserMistake("InvalidRun", f"the trainer has no role '{job.role}': use prepare, fit or publish")
