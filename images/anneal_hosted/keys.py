"""API keys, as the kubelet mounts them: one file each, read when it is needed and never written.

A Secret that is not there would leave a pod waiting for ever without a word, so its volume is optional and this module
says what is missing.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from anneal.api.runs import KEY_FILE
from anneal.api.subjects import Hosted
from anneal_hosted.errors import KEY_MISSING, RunError

#: How long a Secret may come later than the pod, in seconds; after that the Job tries again with a new pod.
PATIENCE_SECONDS = 20.0
_POLL_SECONDS = 1.0


def await_keys(look: Callable[[], object], patience_seconds: float = PATIENCE_SECONDS) -> None:
    """Calls `look` until it raises no RunError; after `patience_seconds` that is raised."""
    end = time.monotonic() + patience_seconds
    while True:
        try:
            look()
            return
        except RunError:
            if time.monotonic() > end:
                raise
            time.sleep(_POLL_SECONDS)


def read_key(whose: str, hosted: Hosted, directory: Path) -> str | None:
    """The API key in `directory`; None when `hosted` needs none. `whose` is for people. Raises RunError."""
    secret = hosted.secret_ref
    if secret is None:
        return None
    try:
        return _read(directory / KEY_FILE)
    except (OSError, ValueError) as error:
        why = "does not exist" if isinstance(error, FileNotFoundError) else f"cannot be used: {error}"
        message = (
            f"The API key of {whose}, key '{secret.key}' of Secret '{secret.name}' in this namespace, {why}."
            f" Create it: kubectl create secret generic {secret.name} --from-file={secret.key}=FILE"
        )
        raise RunError(KEY_MISSING, message, retryable=True) from error


def _read(path: Path) -> str:
    key = path.read_text(encoding="utf-8").strip()
    if not key:
        raise ValueError("it is empty")
    if not key.isascii() or not key.isprintable() or " " in key:
        raise ValueError("it is not one line of printable ASCII without spaces")
    return key
