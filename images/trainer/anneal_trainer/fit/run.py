"""The second run of a job: train on the prepared rows, from the newest complete checkpoint if there is one.

Nothing here is lost by being killed: what is not in a checkpoint is done again, to the same bit. SIGTERM makes a
checkpoint of the last whole step first.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path

import torch

from anneal.api.artifacts import DigestMismatchError, verify_base_model
from anneal.api.estimate import Strategy
from anneal.api.runs import FitData, FitRun, RunResult
from anneal.estimate.methods import optimizer_of
from anneal.estimate.time import flops_per_token
from anneal_trainer import model, rows
from anneal_trainer.errors import Preempted, Unavailable, UserMistake
from anneal_trainer.fit import memory, moe, room, tensors, validation
from anneal_trainer.fit.batches import StepPlan
from anneal_trainer.fit.checkpoint import Checkpoint, CheckpointStore, fingerprint, passed_over
from anneal_trainer.fit.loop import StopRequested, Trainer, train
from anneal_trainer.fit.methods import Learner, learner
from anneal_trainer.fit.optimizer import optimizer
from anneal_trainer.fit.pace import Meter, Pace, peak_flops
from anneal_trainer.fit.passes import quickest
from anneal_trainer.fit.ranks import Ranks, joined
from anneal_trainer.fit.saver import Saver
from anneal_trainer.fit.sharding import Placement, first_with_experts, placement, put_together, ranks_here
from anneal_trainer.fit.state import TrainingState
from anneal_trainer.preemption import Preemption
from anneal_trainer.progress import Reporter
from anneal_trainer.rows import TrainingRows
from anneal_trainer.workspace import Workspace

_LOG = logging.getLogger(__name__)


def fit(run: FitRun, preemption: Preemption) -> RunResult:
    """Trains to the last step. Raises Preempted, UserMistake."""
    _check_settings(run)
    with joined(_device()) as ranks:
        return _fit(run, preemption, ranks)


def _fit(run: FitRun, preemption: Preemption, ranks: Ranks) -> RunResult:
    workspace = Workspace(Path(run.workspace))
    prepared = rows.read(workspace.train, run.train_digest)
    held = None
    learned = prepared
    if run.training.validation is not None:
        to_learn, to_validate = validation.split(prepared, run.training.validation, run.training.seed)
        learned, held = prepared.take(to_learn), prepared.take(to_validate)
    plan = StepPlan(learned.lengths, run.training)
    store = CheckpointStore(workspace.checkpoints, fingerprint(run), run.training.checkpoint.keep)
    warnings = _Warnings()
    checkpoints = store.usable(warnings)
    newest = next(checkpoints, None)
    if (agreed := ranks.agreed(newest.manifest.step if newest else 0)) != (newest.manifest.step if newest else 0):
        newest = store.at(agreed)
    state = newest.state if newest else TrainingState()
    if state.step < plan.total_steps and not validation.has_stopped(run.training, state):
        trainer = _assemble(run, prepared, plan, preemption, ranks)
        trainer.passes = replace(trainer.passes, rows=learned)
        state = _go_on(trainer, chain([newest] if newest else [], checkpoints), warnings)
        state.remark([*trainer.learner.remarks, *trainer.passes.notes, *warnings.given])
        with Reporter(run.reporting if ranks.leads else None) as reporter, Saver(store, state.step) as saver:
            try:
                _train_and_save(run, trainer, held, state, saver, reporter)
            except room.BeginAgainError as short:
                room.remember(workspace.limit, short.limit)
                raise Preempted(f"{short}; all ranks go on from the last checkpoint") from short
    return RunResult(
        role="fit",
        outcome="Succeeded",
        reason="Trained",
        message=f"{state.step} steps, loss {state.loss}",
        fit=FitData(training=state.status(), checkpoint_step=state.step, resumes=state.resumes),
    )


@dataclass
class _Warnings:
    """What went to the log and belongs into status, too."""

    given: list[str] = field(default_factory=list)

    def __call__(self, sentence: str) -> None:
        _LOG.warning(sentence)
        self.given.append(sentence)


def _go_on(trainer: Trainer, checkpoints: Iterable[Checkpoint], warn: Callable[[str], None]) -> TrainingState:
    """Restores the first of the checkpoints that can be, and says where training goes on.

    Raises Unavailable on every rank that would go on from another step than the leading one.
    """
    state = TrainingState()
    for checkpoint in checkpoints:
        try:
            tensors.restore(checkpoint, trainer.learner, trainer.optimizer)
        except tensors.BrokenTensorsError as error:
            warn(passed_over(checkpoint.path, error))
            continue
        state = checkpoint.state
        break
    # Asked once by every rank, whatever it found: a rank that did not ask would be waited for.
    agreed = trainer.ranks.agreed(state.step)
    if agreed != state.step:
        said = f"the first rank goes on from step {agreed}, and this one can only from step {state.step}"
        raise Unavailable("CheckpointNotSeen", f"{said}: its checkpoints are not what the others see")
    if state.step:
        state.resumes += 1
        _LOG.info("going on from step %d of %d", state.step, trainer.plan.total_steps)
    return state


def _check_settings(run: FitRun) -> None:
    """Numbers that the grammar of the API allows and training does not. Raises UserMistake."""
    if float(run.training.learning_rate or 0) <= 0:
        raise UserMistake("InvalidSettings", "training.learningRate is 0, with which nothing is learned: raise it")
    if float(run.training.max_grad_norm) <= 0:
        raise UserMistake("InvalidSettings", "training.maxGradNorm is 0, with which nothing is learned: raise it")
    if run.training.precision == "BF16" and torch.cuda.is_available() and not torch.cuda.is_bf16_supported():
        raise UserMistake("InvalidSettings", "this accelerator has no bfloat16: set training.precision to FP32")


def _device() -> torch.device:
    """The accelerator that is this rank's, or the CPU."""
    if not torch.cuda.is_available():
        return torch.device("cpu")
    device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
    torch.cuda.set_device(device)
    return device


def _assemble(run: FitRun, prepared: TrainingRows, plan: StepPlan, preemption: Preemption, ranks: Ranks) -> Trainer:
    """Loads the base, adapts it, and puts together what the loop works with."""
    if "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(len(os.sched_getaffinity(0)))
    device = _device()
    dtype = _precision(run, device)
    try:
        verify_base_model(Path(run.model.path), run.base_digest)
    except DigestMismatchError as error:
        raise UserMistake("ModelChanged", f"{run.model.uri} changed after the data was prepared: {error}") from error
    place = memory.Place(device, ranks.least(memory.available_bytes(device)))
    placed = placement(_strategy(run, prepared, place, dtype), device)
    place = replace(place, shards=placed.shards)
    learns = _load(run, dtype, device, placed, ranks)
    learns.model.train()
    with put_together(first_with_experts(learns.model)):
        slow = moe.speed_up(learns.model, dtype)
    way = memory.pass_plan(learns.model, run.method, prepared, run.training.tokens_per_step, place, dtype)
    notes: list[str] = []
    if placed.shards > 1 and (limit := room.remembered(Workspace(Path(run.workspace)).limit, ranks)) is not None:
        way = limit.of(way)
        notes.append(f"{limit}: more ran out of memory")
    memory.recompute(learns.model, way)
    preemption.check("loading the base model")
    _LOG.info(
        "%d rows, %d steps, %d trainable parameters on %s in %s, passes of up to %d tokens",
        len(prepared), plan.total_steps, sum(p.numel() for _, p in learns.trainable), device, dtype, way.tokens,
    )  # fmt: skip
    passes = quickest(learns.model, prepared, device, way.tokens, dtype)
    passes = replace(passes, notes=(*notes, *slow, *passes.notes))
    _LOG.info("rows are run %s", passes.way.lower())
    return Trainer(
        learner=learns,
        optimizer=optimizer(learns, optimizer_of(run.method), float(run.training.weight_decay)),
        passes=passes,
        plan=plan,
        training=run.training,
        preemption=preemption,
        ranks=ranks,
        placement=placed,
        meter=_meter(run, learns, prepared, device, dtype),
    )


def _meter(run: FitRun, learns: Learner, rows: TrainingRows, device: torch.device, dtype: torch.dtype) -> Meter:
    """What steps are measured by: the operations of this model, and the accelerators of all ranks."""
    work = memory.work(learns.model, run.method, rows, device, dtype)
    peak = peak_flops(device, dtype, run.teraflops)
    return Meter(device, flops_per_token(work, rows.shape(), 0.0), peak * ranks_here().count if peak else None)


def _strategy(run: FitRun, prepared: TrainingRows, place: memory.Place, dtype: torch.dtype) -> Strategy:
    """What the operator planned, or what fits here."""
    if run.ranks is None:
        return "DDP"
    shape, tokens = model.shape(Path(run.model.path)), run.training.tokens_per_step
    planned = run.ranks.strategy
    chosen = planned or memory.strategy(shape, run.method, prepared, tokens, place, dtype.itemsize)
    _LOG.info("%d ranks, spread by %s", ranks_here().count, chosen)
    return chosen


def _load(run: FitRun, dtype: torch.dtype, device: torch.device, placed: Placement, ranks: Ranks) -> Learner:
    """The model, where it is trained. One that is dealt out passes through the pod's memory, a rank at a time."""

    def dealt() -> Learner:
        loaded = learner(run, dtype, torch.device("cpu"))
        placed.place(loaded.model, dtype, device)
        return loaded

    return learner(run, dtype, device) if placed.shards == 1 else ranks.in_turn(dealt)


def _precision(run: FitRun, device: torch.device) -> torch.dtype:
    """Arithmetic of the run: Auto is bfloat16 on accelerators that have it, else float32."""
    if run.training.precision == "FP32":
        return torch.float32
    if run.training.precision == "BF16":
        return torch.bfloat16
    return torch.bfloat16 if device.type == "cuda" and torch.cuda.is_bf16_supported() else torch.float32


class StoppedEarly(Exception):  # noqa: N818 - a way to leave the loop, not an error
    """Nothing is gained any more."""


def _train_and_save(
    run: FitRun,
    trainer: Trainer,
    held: TrainingRows | None,
    state: TrainingState,
    saver: Saver,
    reporter: Reporter,
) -> None:
    """Runs the loop, saving and reporting after steps, and once more when told to go."""
    kept_step = state.step
    pace = Pace(state, trainer.plan.total_steps)

    def save() -> None:
        nonlocal kept_step
        if kept_step != state.step:
            if trainer.ranks.leads:
                saver.start(state, tensors.content(trainer.learner, trainer.optimizer, run.model.uri))
            else:
                tensors.take_part(trainer.learner, trainer.optimizer)
        kept_step = state.step

    def after_step() -> None:
        saver.check()
        total = trainer.plan.total_steps
        best = stopped = False
        if held is not None and validation.is_due(run.training, state.step, total):
            best = _validate(trainer, held, state)
            # The leading rank decides for all: losses may differ in their last bits from one machine to another.
            stopped = bool(trainer.ranks.agreed(int(validation.has_stopped(run.training, state))))
        if best or stopped or state.step % run.training.checkpoint.every_steps == 0 or state.step == total:
            save()
        reporter.report(pace.report(saver.saved_step))
        if stopped:
            raise StoppedEarly

    try:
        train(trainer, state, after_step)
    except StoppedEarly:
        _LOG.info("training ends at step %d: the validation loss does not fall any more", state.step)
    except StopRequested:
        save()
        saver.finish()
        reporter.report(pace.report(kept_step))
        raise Preempted(
            f"preempted at step {state.step} of {trainer.plan.total_steps}",
            FitData(training=state.status(), checkpoint_step=kept_step, resumes=state.resumes),
        ) from None
    saver.finish()
    reporter.report(pace.report(kept_step))


def _validate(trainer: Trainer, held: TrainingRows, state: TrainingState) -> bool:
    """Asks the rows set aside. Whether this step is the best so far."""
    stopping = trainer.training.early_stopping
    found = validation.loss(trainer, held)
    best = state.validate_with(found, float(stopping.min_delta) if stopping else 0.0)
    _LOG.info("step %d of %d, validation loss %.4g", state.step, trainer.plan.total_steps, found)
    if validation.has_stopped(trainer.training, state):
        state.remark(
            [f"ended early at step {state.step} of {trainer.plan.total_steps}: the validation loss fell no more"]
        )
    return best
