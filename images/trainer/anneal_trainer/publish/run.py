"""The last run of a job: make the artifact, a folder that is named by its own digest and never changes again.

It is put together beside its final place, on the same file system, and gets its name by one rename: a reader sees a
whole artifact or none. The same training gives the same digest, so publishing twice finds its own work done.
"""

from __future__ import annotations

import shutil
import time
from dataclasses import dataclass
from pathlib import Path

from anneal.api.artifacts import (
    HELD_OUT_FILE,
    MANIFEST_FILE,
    DigestMismatchError,
    Manifest,
    describe,
    digest_of_file,
    verify_artifact,
)
from anneal.api.runs import PublishData, PublishRun, RunResult
from anneal_trainer import files
from anneal_trainer.errors import UserMistake
from anneal_trainer.fit.checkpoint import Checkpoint, complete
from anneal_trainer.fit.schedule import learning_rate
from anneal_trainer.publish import card, mlflow, tensorboard, weights
from anneal_trainer.publish.mirror import mirrored
from anneal_trainer.publish.page import page
from anneal_trainer.publish.scalars import scalars_of
from anneal_trainer.workspace import Workspace

CARD_FILE = "README.md"
REPORT_FILE = "report.json"
PAGE_FILE = "report.html"
EVENTS_FILE = "tensorboard/events.out.tfevents.0.anneal"
_CHAT_TEMPLATE = "chat_template.jinja"
#: What makes up a tokenizer. The template is written apart: the base may have none.
_TOKENIZER_PATTERNS = ("tokenizer*", "special_tokens_map.json", "added_tokens.json", "vocab.json", "merges.txt")


@dataclass(frozen=True)
class _Parts:
    """What the artifact is made from."""

    base: Path
    workspace: Workspace
    checkpoint: Checkpoint


def publish(run: PublishRun) -> RunResult:
    """Writes the artifact below `run.output`, or finds it there. Raises UserMistake."""
    parts = _collect(run)
    output = Path(run.output.path)
    output.mkdir(parents=True, exist_ok=True)
    aside = output / f".{run.object.uid}.partial"
    files.remove_folder(aside)
    aside.mkdir()
    manifest = _write_model(aside, parts, run)
    _write_beside(aside, parts, run, manifest)
    name = manifest.digest.removeprefix("sha256:")[:16]
    uri = f"{run.output.uri.rstrip('/')}/{name}"
    if (output / name).exists():
        _check_existing(output / name, uri, manifest, run)
        files.remove_folder(aside)
    else:
        files.settle(aside, output / name)
    mirror_uri = mirrored(output / name, run.mirror) if run.mirror is not None else None
    state = parts.checkpoint.state
    told = mlflow.tell(run.mlflow, run, manifest, state) if run.mlflow is not None else None
    return RunResult(
        role="publish",
        outcome="Succeeded",
        reason="Published",
        message=f"published {uri}" + (f" and {mirror_uri}" if mirror_uri else ""),
        publish=PublishData(
            uri=uri,
            mirror_uri=mirror_uri,
            digest=manifest.digest,
            size_bytes=manifest.size_bytes,
            held_out_uri=f"{uri}/{HELD_OUT_FILE}",
            held_out_count=run.counts.held_out,
            tracking=told,
        ),
    )


def _collect(run: PublishRun) -> _Parts:
    """The parts, each the one that was recorded. Raises UserMistake when the workspace is not what it was."""
    workspace = Workspace(Path(run.workspace))
    for path, digest in ((workspace.held_out, run.test_digest), (workspace.chat_template, run.chat_template_hash)):
        if not path.is_file() or digest_of_file(path) != digest:
            raise UserMistake(
                "WorkspaceChanged", f"{path.name} in the workspace is not what prepare wrote: create the job anew"
            )
    step = run.trained.steps if run.trained.best_step is None else run.trained.best_step
    finished = [c for c in complete(workspace.checkpoints) if c.manifest.step == step]
    if not finished:
        raise UserMistake(
            "WorkspaceChanged",
            f"the workspace has no complete checkpoint of step {step}, which was to be published: create the job anew",
        )
    return _Parts(Path(run.model.path), workspace, finished[0])


def _write_model(folder: Path, parts: _Parts, run: PublishRun) -> Manifest:
    """Writes what the digest covers: weights, tokenizer, template; then the manifest that says so."""
    weights.write(folder, run, parts.checkpoint)
    for path in {p for pattern in _TOKENIZER_PATTERNS for p in parts.base.glob(pattern) if p.is_file()}:
        shutil.copyfile(path, folder / path.name)
    shutil.copyfile(parts.workspace.chat_template, folder / _CHAT_TEMPLATE)
    manifest = Manifest(
        files=describe(folder, folder.iterdir()),
        base_digest=run.base_digest,
        chat_template_hash=run.chat_template_hash,
    )
    files.write_json(folder / MANIFEST_FILE, manifest.to_json())
    return manifest


def _write_beside(folder: Path, parts: _Parts, run: PublishRun, manifest: Manifest) -> None:
    """Writes what people and the Evaluation read, which does not change what the model answers."""
    (folder / HELD_OUT_FILE).parent.mkdir()
    shutil.copyfile(parts.workspace.held_out, folder / HELD_OUT_FILE)
    report = card.report(run, manifest, parts.checkpoint.state, parts.workspace)
    files.write_json(folder / REPORT_FILE, report)
    files.write(folder / CARD_FILE, card.text(run, manifest, parts.checkpoint.state).encode())
    steps = run.trained.steps
    rates = [(float(step), learning_rate(run.training, step, steps)) for step in range(1, steps + 1, 1 + steps // 200)]
    counts = {"read": run.counts.read, "invalid": run.counts.invalid} | {
        "trained on": run.counts.train,
        "held out": run.counts.held_out,
    }
    files.write(folder / PAGE_FILE, page(report, rates, counts).encode())
    state = parts.checkpoint.state
    began = time.time() - state.whole.seconds
    files.write(folder / EVENTS_FILE, tensorboard.events(scalars_of(run, state), began))


def _check_existing(folder: Path, uri: str, manifest: Manifest, run: PublishRun) -> None:
    """Raises UserMistake unless the folder is this artifact, unchanged, with these held-out rows."""
    try:
        verify_artifact(folder, manifest.digest)
        held_out = folder / HELD_OUT_FILE
        if not held_out.is_file() or digest_of_file(held_out) != run.test_digest:
            raise DigestMismatchError(f"{HELD_OUT_FILE} holds other rows")
    except DigestMismatchError as error:
        raise UserMistake(
            "OutputOccupied",
            f"{uri} is there already, but is not what its name says ({error}): remove it or choose another output.uri",
        ) from error
