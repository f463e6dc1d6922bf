"""Readiness, proven by answers: one token from every model of the run.

A server's own health endpoints are not asked: Triton's stay good when a model's process has died, an empty model
repository is "ready", and vLLM's is good before anything was decoded. So the probe infers. A model of Triton that is
busy with a long batch is not a dead one: when the answer does not come in time, a fresh heartbeat of its decoding loop
counts as the proof.

Standard library only, and no imports of ours: kubelet starts this program every few seconds.
"""

from __future__ import annotations

import http.client
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

RUN_FILE = "/etc/anneal/run.json"
SERVER = "localhost:8000"
#: Longest wait for one token, in seconds. The probe's timeoutSeconds must leave room for one wait per model.
ANSWER_SECONDS = 4.0
#: Oldest heartbeat that still counts as life, in seconds: several decoding steps of a slow CPU.
HEARTBEAT_SECONDS = 10.0


def heartbeat_file(model: str) -> Path:
    """File whose modification time is that of the model's last decoding step; server and probe share /tmp."""
    return Path(tempfile.gettempdir()) / f"anneal-{model}.heartbeat"


class Dialect(NamedTuple):
    """How a server is asked for one token."""

    path: str
    question: Callable[[str], dict[str, Any]]
    tokens: Callable[[Any], Any]
    """Tokens decoded, in an answer."""


TRITON = Dialect(
    "/v2/models/{model}/generate",
    lambda model: {"text_input": "ping", "max_tokens": 1},
    lambda answer: answer["num_output_tokens"],
)
VLLM = Dialect(
    "/v1/chat/completions",
    lambda model: {"model": model, "messages": [{"role": "user", "content": "ping"}], "max_tokens": 1},
    lambda answer: answer["usage"]["completion_tokens"],
)


def why_not_ready(server: str, dialect: Dialect, models: list[str]) -> str | None:
    """The first reason in a sentence, or None when every model answers."""
    if not models:
        return "the run names no model, so there is nothing that could answer"
    for model in models:
        reason = _why_silent(server, dialect, model)
        if reason is not None:
            return f"model {model} does not answer: {reason}"
    return None


def _why_silent(server: str, dialect: Dialect, model: str) -> str | None:
    connection = http.client.HTTPConnection(server, timeout=ANSWER_SECONDS)
    path, question = dialect.path.format(model=model), json.dumps(dialect.question(model))
    try:
        connection.request("POST", path, question, {"Content-Type": "application/json"})
        response = connection.getresponse()
        body = response.read(65_536)
    except TimeoutError:
        return None if _decodes(model) else f"nothing came back in {ANSWER_SECONDS:g} s and it is not decoding either"
    except (OSError, http.client.HTTPException) as error:
        return f"{server} is not reachable ({error})"
    finally:
        connection.close()
    if response.status != http.client.OK:
        return f"HTTP {response.status}: {body[:300].decode(errors='replace')}"
    try:
        complete = dialect.tokens(json.loads(body)) == 1
    except (ValueError, KeyError, TypeError):
        complete = False
    return None if complete else f"the answer is not one token: {body[:300].decode(errors='replace')}"


def _decodes(model: str) -> bool:
    try:
        return time.time() - heartbeat_file(model).stat().st_mtime < HEARTBEAT_SECONDS
    except OSError:
        return False


def main() -> int:
    """0 when every model of the run answers, else 1 with the reason on one line."""
    run_file = Path(os.environ.get("ANNEAL_RUN_FILE", RUN_FILE))
    server = os.environ.get("ANNEAL_SERVER", SERVER)
    try:
        run = json.loads(run_file.read_bytes())
        dialect = TRITON if run.get("vllm") is None else VLLM
        models = [str(model["name"]) for model in run["models"]]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        reason: str | None = f"the run document {run_file} cannot be read: {error}"
    else:
        reason = why_not_ready(server, dialect, models)
    if reason is None:
        return 0
    print(" ".join(reason.split()), file=sys.stderr)
    return 1
