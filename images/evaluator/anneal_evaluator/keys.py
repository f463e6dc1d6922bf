"""API keys of hosted models, as the kubelet mounts them: one file each, read when it is needed and never written.

They are looked for before any model is loaded. A Secret that is not there would leave a pod waiting for ever without
a word, so its volume is optional and this module says what is missing.
"""

from __future__ import annotations

import time
from pathlib import Path

from anneal.api.runs import JUDGE, KEY_FILE, EvaluateRun
from anneal.api.subjects import Hosted
from anneal_evaluator.errors import KEY_MISSING, EvaluationError

#: How long a Secret may come later than the pod, in seconds; after that the Job tries again with a new pod.
PATIENCE_SECONDS = 20.0
_POLL_SECONDS = 1.0


def check_keys(run: EvaluateRun, patience_seconds: float = PATIENCE_SECONDS) -> None:
    """Raises EvaluationError unless everyone hosted that names a Secret has its key."""
    end = time.monotonic() + patience_seconds
    while True:
        try:
            for name, hosted in [*((b.name, b.hosted) for b in run.baselines), (JUDGE, run.judge)]:
                if hosted is not None:
                    key_of(name, hosted, Path(run.keys))
            return
        except EvaluationError:
            if time.monotonic() > end:
                raise
            time.sleep(_POLL_SECONDS)


def key_of(name: str, hosted: Hosted, keys: Path) -> str | None:
    """The API key of the hosted model `name`; None when it needs none. Raises EvaluationError."""
    secret = hosted.secret_ref
    if secret is None:
        return None
    try:
        return _read(keys / name / KEY_FILE)
    except (OSError, ValueError) as error:
        why = "does not exist" if isinstance(error, FileNotFoundError) else f"cannot be used: {error}"
        whose = "the judge" if name == JUDGE else f"baseline {name}"
        message = (
            f"The API key of {whose}, key '{secret.key}' of Secret '{secret.name}' in this namespace, {why}."
            f" Create it: kubectl create secret generic {secret.name} --from-file={secret.key}=FILE"
        )
        raise EvaluationError(KEY_MISSING, message, retryable=True) from error


def _read(path: Path) -> str:
    key = path.read_text(encoding="utf-8").strip()
    if not key:
        raise ValueError("it is empty")
    if not key.isascii() or not key.isprintable() or " " in key:
        raise ValueError("it is not one line of printable ASCII without spaces")
    return key
