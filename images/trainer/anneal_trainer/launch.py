"""One pod's ranks: starts them with torchrun, and makes of how each ended how the pod ended.

torchrun knows nothing of results: it ends with 1 after a SIGTERM even when every rank saved its state. So each rank
leaves its result in a file of its own, and the pod's result is the one that matters most.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from anneal.api.runs import Ranks, RunResult, parse_result
from anneal_trainer.preemption import Preemption
from anneal_trainer.termination import exit_code

_RESULT_PREFIX = "ANNEAL_RANK_RESULT"
_JOIN_SECONDS = 900
#: torchrun kills its ranks this long after SIGTERM; less than the pod's grace period.
_LEAVE_SECONDS = 100
_KILLED = "RankKilled"
_LOG = logging.getLogger(__name__)


def launch(ranks: Ranks, run_id: str, preemption: Preemption) -> RunResult:
    """Runs this program once per rank of this pod and waits for all; `run_id` is the same in all pods.

    However the ranks end becomes a result. Raises Preempted before there are any: from then on torchrun listens.
    """
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, len(os.sched_getaffinity(0)) // ranks.per_pod)))
    config = LaunchConfig(
        run_id=run_id,
        min_nodes=ranks.pods,
        max_nodes=ranks.pods,
        nproc_per_node=ranks.per_pod,
        rdzv_backend="static",
        rdzv_endpoint=f"{ranks.address}:{ranks.port}",
        rdzv_configs={"rank": _pod_index(), "timeout": _JOIN_SECONDS},
        max_restarts=0,
        shutdown_timeout=_LEAVE_SECONDS,
    )
    with TemporaryDirectory() as folder:
        os.environ[_RESULT_PREFIX] = str(Path(folder) / "rank-")
        preemption.check("starting its ranks")
        try:
            elastic_launch(config, sys.executable)("-m", "anneal_trainer")
        except (ChildFailedError, SignalException) as error:
            _LOG.info("not every rank ended by itself: %s", type(error).__name__)
        return most_important(left_behind(Path(folder), ranks.per_pod))


def result_file() -> Path | None:
    """Where this process leaves its result when it is a rank that `launch` started."""
    prefix = os.environ.get(_RESULT_PREFIX)
    return Path(f"{prefix}{os.environ['LOCAL_RANK']}") if prefix and "LOCAL_RANK" in os.environ else None


def most_important(results: Sequence[RunResult]) -> RunResult:
    """A mistake of the user before any other failure that says what it was, that before a rank that was killed, that
    before preempted and done.

    torchrun kills ranks that still wait for one that failed, some time later: they are what came of it, not why.
    """

    def weight(result: RunResult) -> int:
        if result.outcome != "Failed":
            return 1 if result.outcome == "Preempted" else 0
        if result.reason == _KILLED:
            return 2
        return 4 if exit_code(result) != 1 else 3

    return max(results, key=weight)


def _pod_index() -> int:
    """The pod's index in its Indexed Job; the Job's controller sets it in every container."""
    return int(os.environ.get("JOB_COMPLETION_INDEX", "0"))


def left_behind(folder: Path, count: int) -> list[RunResult]:
    """How each of the pod's ranks ended, by what it left in `folder`."""
    return [_result_of(folder / f"rank-{rank}", rank) for rank in range(count)]


def _result_of(path: Path, rank: int) -> RunResult:
    try:
        return parse_result(path.read_text())
    except (OSError, ValueError):
        message = (
            f"rank {rank} of pod {_pod_index()} ended without a word: it was killed, which mostly means out of memory"
        )
        return RunResult(role="fit", outcome="Failed", reason=_KILLED, message=message, retryable=True)
