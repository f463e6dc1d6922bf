"""The init container of every serving pod: no model is laid out unless it is the one that was published and judged.

It verifies the digest of every base and every artifact, then writes what the server beside it reads: the model
repository of Triton, or the options of vLLM. A wrong digest ends the pod with the file that
differs, and is not retried.
"""

from __future__ import annotations

import os
import shutil
import sys
import traceback
from pathlib import Path

from anneal.api.artifacts import DigestMismatchError, Manifest, verify_artifact, verify_base_model
from anneal.api.runs import EXIT_USER_MISTAKE, RUN_FILE, MountedPath, RunResult, ServedModel, ServeRun, parse_run
from anneal_serving.parts import parts_of, tokenizer_of
from anneal_serving.repository import Settings, write_model
from anneal_serving.termination import failed, write_result
from anneal_serving.vllm import UnservableError, write_configuration


def main() -> int:
    """Exit code of the container; the reason is in the termination message."""
    try:
        run = parse_run(Path(os.environ.get("ANNEAL_RUN_FILE", RUN_FILE)).read_bytes())
        if not isinstance(run, ServeRun):
            raise ValueError(f"the run document is for the role {run.role}, not serve")
        result, code = lay_out(run)
    except Exception as error:
        traceback.print_exc()
        message = f"What the server reads could not be laid out: {error}"
        result, code = failed("LayoutFailed", message, retryable=True), 1
    write_result(result)
    if result.message:
        print(result.message, file=sys.stderr)
    return code


def lay_out(run: ServeRun) -> tuple[RunResult, int]:
    """Verifies every model of `run`, writes what its server reads, and says how that ended and with which exit code.

    Faults of the storage (OSError on reading) are raised: the next try can succeed.
    """
    try:
        for model in run.models:
            verify(model)
    except DigestMismatchError as error:
        return failed("DigestMismatch", str(error), retryable=False), EXIT_USER_MISTAKE
    _empty(Path(run.repository))
    try:
        write_configuration(run, run.vllm) if run.vllm is not None else _write_repository(run)
    except UnservableError as error:
        return failed("ModelUnservable", str(error), retryable=False), EXIT_USER_MISTAKE
    message = f"{len(run.models)} models verified and laid out."
    return RunResult(role="serve", outcome="Succeeded", reason="LaidOut", message=message), 0


def _write_repository(run: ServeRun) -> None:
    threads = max(1, len(os.sched_getaffinity(0)) // max(1, len(run.models)))
    for index, model in enumerate(run.models):
        base, adapter = parts_of(model)
        settings = Settings(base=base, adapter=adapter, tokenizer=tokenizer_of(model, run.models), threads=threads)
        gpu = index % run.accelerators if run.accelerators else None
        write_model(Path(run.repository), model.name, settings, run.max_batch_size, gpu)


def verify(model: ServedModel) -> None:
    """Raises DigestMismatchError, naming the model, the URI and the file that differs.

    The base of a whole model is not looked at: nothing of it is served.
    """
    subject = model.adapter or model.base
    try:
        if model.adapter is not None:
            manifest = _verified_artifact(model.adapter, model)
            if manifest.contents == "Model":
                return
        subject = model.base
        verify_base_model(_directory(model.base), model.base_digest)
    except ValueError as error:
        advice = "Restore the files, or train and judge again."
        message = f"Model {model.name} is not served, {subject.uri} is not what was published: {error}. {advice}"
        raise DigestMismatchError(message) from error


def _verified_artifact(artifact: MountedPath, model: ServedModel) -> Manifest:
    if model.adapter_digest is None:
        raise DigestMismatchError("it has no digest to be verified against")
    manifest = verify_artifact(_directory(artifact), model.adapter_digest)
    if manifest.base_digest != model.base_digest:
        raise DigestMismatchError(f"it was tuned from the base {manifest.base_digest}, not {model.base_digest}")
    return manifest


def _directory(location: MountedPath) -> Path:
    path = Path(location.path)
    if not path.is_dir():
        raise DigestMismatchError("there is no such directory; it was moved or deleted")
    return path


def _empty(repository: Path) -> None:
    """Clears what an earlier start of this container may have left; the directory itself is a mount."""
    for entry in repository.iterdir() if repository.is_dir() else ():
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        else:
            entry.unlink()
