"""Checkpoints that are complete or absent.

A checkpoint is a folder `step-00000025`: what learned (an adapter as it would be published, or all weights), the
optimizer's moments, the counters, and a manifest with the digest of each. It is written aside, brought to the disk, and
named by one rename. A folder that is not what its manifest says is passed over with a warning, and the one before it
serves. All files are safetensors or JSON: reading a checkpoint runs nobody's code.

Neither the random state nor a data cursor is in it: dropout is seeded per step and rows follow from the step.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ValidationError
from safetensors import SafetensorError

from anneal.api.artifacts import digest_of_file, digest_of_json
from anneal.api.runs import FitRun
from anneal_trainer import files
from anneal_trainer.errors import Unavailable
from anneal_trainer.fit.state import TrainingState

#: Stems of safetensors files: what learned, of either kind, and how.
ADAPTER_WEIGHTS = "adapter_model"
MASTERS = "masters"
OPTIMIZER = "optimizer"
ADAPTER_CONFIG = "adapter_config.json"
_STATE = "state.json"
_MANIFEST = "checkpoint.json"
_PREFIX = "step-"
_LOG = logging.getLogger(__name__)


class CheckpointManifest(BaseModel):
    """What a checkpoint consists of, and the training that it belongs to."""

    fingerprint: str
    step: int
    files: dict[str, str]


def fingerprint(run: FitRun) -> str:
    """Digest of all that decides how training goes. A checkpoint of another fingerprint is of another training."""
    training = run.training.model_dump(mode="json", exclude={"checkpoint"})
    return digest_of_json([run.base_digest, run.train_digest, run.method.to_json(), training])


@dataclass(frozen=True)
class Checkpoint:
    """A complete checkpoint on disk."""

    path: Path
    manifest: CheckpointManifest
    state: TrainingState


def complete(folder: Path, warn: Callable[[str], None] = _LOG.warning) -> Iterator[Checkpoint]:
    """The complete checkpoints in a folder, newest first. For a broken one there is a warning instead."""
    for path in reversed(_folders(folder)):
        try:
            yield _verified(path)
        except (OSError, ValueError) as error:
            warn(passed_over(path, error))


def passed_over(path: Path, why: object) -> str:
    return f"checkpoint {path.name} is passed over: {why}"


def _verified(path: Path) -> Checkpoint:
    """Raises OSError or ValueError, in a sentence, unless the folder is what its manifest says."""
    try:
        manifest = CheckpointManifest.model_validate_json((path / _MANIFEST).read_bytes())
    except ValidationError as error:
        raise ValueError("its manifest is broken") from error
    for name, digest in manifest.files.items():
        if digest_of_file(path / name) != digest:
            raise ValueError(f"{name} in it is not what was saved")
    try:
        state = TrainingState.model_validate_json((path / _STATE).read_bytes())
    except ValidationError as error:
        raise ValueError(f"{_STATE} in it is broken") from error
    return Checkpoint(path, manifest, state)


def _folders(folder: Path) -> list[Path]:
    return sorted(p for p in folder.glob(f"{_PREFIX}*") if p.is_dir())


@dataclass(frozen=True)
class CheckpointStore:
    """The checkpoints of one training."""

    folder: Path
    fingerprint: str
    keep: int

    def usable(self, warn: Callable[[str], None] = _LOG.warning) -> Iterator[Checkpoint]:
        """The complete checkpoints of this training, newest first. For others there is a warning instead."""
        for checkpoint in complete(self.folder, warn):
            if checkpoint.manifest.fingerprint == self.fingerprint:
                yield checkpoint
            else:
                warn(passed_over(checkpoint.path, "it has other data or settings"))

    def at(self, step: int) -> Checkpoint | None:
        """The checkpoint of that step, or None for step 0. Raises Unavailable when this pod does not see it (yet)."""
        if step == 0:
            return None
        try:
            return _verified(self.folder / f"{_PREFIX}{step:08d}")
        except (OSError, ValueError) as error:
            said = f"the checkpoint of step {step}, which another pod goes on from, cannot be read here: {error}"
            raise Unavailable("CheckpointNotSeen", said) from error

    def save(self, state: TrainingState, write: Callable[[Path], None]) -> None:
        """Makes a checkpoint of `state` and of the files that `write` puts into a folder; removes the oldest.

        Raises Unavailable when it cannot be written: what was saved before stays, what could not be saved goes.
        """
        final = self.folder / f"{_PREFIX}{state.step:08d}"
        aside = final.with_name(f".{final.name}.partial")
        files.remove_folder(aside)
        files.remove_folder(final)
        try:
            aside.mkdir(parents=True)
            write(aside)
            (aside / _STATE).write_text(state.model_dump_json(), encoding="utf-8")
            digests = {p.name: digest_of_file(p) for p in sorted(aside.iterdir())}
            manifest = CheckpointManifest(fingerprint=self.fingerprint, step=state.step, files=digests)
            (aside / _MANIFEST).write_text(manifest.model_dump_json(), encoding="utf-8")
            files.settle(aside, final)
        except (OSError, SafetensorError) as error:
            files.remove_folder(aside)
            if files.is_full(error):
                raise Unavailable("NoSpaceLeft", self._no_room_for(state.step)) from error
            said = f"the checkpoint of step {state.step} could not be written into the workspace: {error}"
            raise Unavailable("CheckpointNotSaved", said) from error
        best = state.validated.best_step if state.validated else state.step
        for old in _folders(self.folder)[: -self.keep]:
            if old.name != f"{_PREFIX}{best:08d}":
                files.remove_folder(old)

    def _no_room_for(self, step: int) -> str:
        whole = [p.name.removeprefix(_PREFIX).lstrip("0") for p in _folders(self.folder)]
        before = f"the one of step {whole[-1]} is whole, and training goes on from it" if whole else "there is none yet"
        return (
            f"no space left in the workspace for the checkpoint of step {step}; {before}. Expand its claim, or create"
            " the job anew with a larger workspace.size or a smaller training.checkpoint.keep"
        )
