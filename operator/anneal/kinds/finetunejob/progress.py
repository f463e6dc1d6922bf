"""What status keeps of a training that is not over: how far it is, its checkpoint, how often it was interrupted.

Progress is lossy: a new leader has no report, so what is known stays until a newer one comes. Nothing here goes back.
"""

from __future__ import annotations

from anneal.api.finetunejob import FineTuneJobStatus, Usage
from anneal.api.training import CheckpointStatus, Progress
from anneal.kinds import pods
from anneal.kinds.contract import Object
from anneal.kinds.finetunejob.context import Context
from anneal.kinds.results import pods_of
from anneal.kinds.times import timestamp


def reported(ctx: Context, job: Object | None) -> FineTuneJobStatus:
    """Status with what the newest report says, and with the checkpoints that preempted pods of `job` spoke of."""
    status, report = ctx.status, ctx.seen.progress
    if report is not None:
        progress = Progress.model_validate(report.model_dump(include=set(Progress.model_fields)))
        status = status.model_copy(update={"progress": progress})
        status = interrupted(checkpointed(ctx, status, report.checkpoint_step or 0), report.resumes)
    for pod in pods_of(ctx.seen, job) if job is not None else ():
        status = checkpointed(ctx, status, _saved_by(pod))
    return status


def checkpointed(ctx: Context, status: FineTuneJobStatus, step: int) -> FineTuneJobStatus:
    """Status with a checkpoint at `step`, if that is newer than the one that it knows. Its time is when it was seen."""
    if step <= (status.checkpoint.step if status.checkpoint else 0):
        return status
    return status.model_copy(update={"checkpoint": CheckpointStatus(step=step, time=timestamp(ctx.now))})


def interrupted(status: FineTuneJobStatus, times: int) -> FineTuneJobStatus:
    """Status with at least so many interruptions.

    Only training itself can count them, in its checkpoint: a pod that was evicted or suspended is deleted, often
    before anybody looked at it. Its word may come late or twice, so the largest number that was ever said is kept.
    """
    usage = status.usage or Usage()
    if times <= usage.preemptions:
        return status
    return status.model_copy(update={"usage": usage.model_copy(update={"preemptions": times})})


def standing_still(status: FineTuneJobStatus) -> FineTuneJobStatus:
    """Status of a training that is suspended: it has no expected end, and its deadline's clock stands still."""
    progress = status.progress.model_copy(update={"eta_seconds": None}) if status.progress else None
    return status.model_copy(update={"progress": progress, "active_since": None})


def _saved_by(pod: Object) -> int:
    """Step of the checkpoint that a preempted pod spoke of; 0 for any other pod, or when it could not say."""
    if not pods.is_preempted(pod):
        return 0
    try:
        result = pods.result_of(pod)
    except ValueError:
        return 0
    return result.fit.checkpoint_step if result.fit is not None else 0
