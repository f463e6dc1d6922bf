"""Checkpoints that are complete or absent.

A checkpoint is a folder `step-00000025`: the adapter as it would be published, the optimizer's moments, the counters,
and a manifest with the digest of each. It is written aside, brought to the disk, and named by one rename. A folder
that is not what its manifest says is passed over with a warning, and the one before it serves. All files are
safetensors or JSON: reading a checkpoint runs nobody's code.

Neither the random state nor a data cursor is in it: dropout is seeded per step and rows follow from the step.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ValidationError

from anneal.api.artifacts import digest_of_file, digest_of_json
from anneal.api.runs import FitRun
from anneal_trainer import files
from anneal_trainer.errors import Unavailable
from anneal_trainer.fit.state import TrainingState

ADAPTER_WEIGHTS = "adapter_model.safetensors"
ADAPTER_CONFIG = "adapter_config.json"
OPTIMIZER = "optimizer.safetensors"
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
    return digest_of_json([run.base_digest, run.train_digest, run.lora.model_dump(mode="json"), training])


@dataclass(frozen=True)
class Checkpoint:
    """A complete checkpoint on disk."""

    path: Path
    manifest: CheckpointManifest

    def state(self) -> TrainingState:
        return TrainingState.model_validate_json((self.path / _STATE).read_bytes())


def complete(folder: Path) -> list[Checkpoint]:
    """The complete checkpoints in a folder, newest first. Broken ones are passed over with a warning."""
    found = []
    for path in reversed(_folders(folder)):
        try:
            found.append(_verified(path))
        except (OSError, ValueError) as error:
            _LOG.warning("checkpoint %s is passed over: %s", path.name, error)
    return found


def _verified(path: Path) -> Checkpoint:
    """Raises OSError or ValueError, in a sentence, unless the folder is what its manifest says."""
    try:
        manifest = CheckpointManifest.model_validate_json((path / _MANIFEST).read_bytes())
    except ValidationError as error:
        raise ValueError("its manifest is broken") from error
    for name, digest in manifest.files.items():
        if digest_of_file(path / name) != digest:
            raise ValueError(f"{name} in it is not what was saved")
    return Checkpoint(path, manifest)


def _folders(folder: Path) -> list[Path]:
    return sorted(p for p in folder.glob(f"{_PREFIX}*") if p.is_dir())


@dataclass(frozen=True)
class CheckpointStore:
    """The checkpoints of one training."""

    folder: Path
    fingerprint: str
    keep: int

    def newest(self) -> Checkpoint | None:
        """The newest complete checkpoint of this training."""
        for checkpoint in complete(self.folder):
            if checkpoint.manifest.fingerprint == self.fingerprint:
                return checkpoint
            _LOG.warning("checkpoint %s is passed over: it has other data or settings", checkpoint.path.name)
        return None

    def at(self, step: int) -> Checkpoint | None:
        """The checkpoint of that step, or None for step 0. Raises Unavailable when this pod does not see it (yet)."""
        if step == 0:
            return None
        try:
            return _verified(self.folder / f"{_PREFIX}{step:08d}")
        except (OSError, ValueError) as error:
            said = f"the checkpoint of step {step}, which another pod goes on from, cannot be read here: {error}"
            raise Unavailable("CheckpointNotSeen", said) from error

    def save(self, state: TrainingState, tensors: Mapping[str, bytes]) -> None:
        """Writes a checkpoint of `state` with the files given, and removes the oldest beyond `keep`."""
        final = self.folder / f"{_PREFIX}{state.step:08d}"
        aside = final.with_name(f".{final.name}.partial")
        files.remove_folder(aside)
        files.remove_folder(final)
        aside.mkdir(parents=True)
        for name, content in tensors.items():
            files.write(aside / name, content)
        files.write(aside / _STATE, state.model_dump_json().encode())
        digests = {p.name: digest_of_file(p) for p in sorted(aside.iterdir())}
        manifest = CheckpointManifest(fingerprint=self.fingerprint, step=state.step, files=digests)
        files.write(aside / _MANIFEST, manifest.model_dump_json().encode())
        files.settle(aside, final)
        for old in _folders(self.folder)[: -self.keep]:
            files.remove_folder(old)
