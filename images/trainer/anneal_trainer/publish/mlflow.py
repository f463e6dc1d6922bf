"""A finished training as a run of an MLflow tracking server, by MLflow's REST API 2.0.

Five requests of JSON; MLflow's own client has 21 requirements for them (docs/adr/0013-tracking.md). The artifact is
whole by then and must stay so: whatever goes wrong here becomes a sentence. A pod that starts again finds its run by
the object's uid and sends the same points again, which the server keeps once.
"""

from __future__ import annotations

import base64
import http.client
import json
import logging
import time
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

from anneal.api.artifacts import Manifest
from anneal.api.runs import MLflowServer, PublishRun
from anneal.api.tracking import TrackingStatus
from anneal_trainer.errors import TrainerError, UserMistake
from anneal_trainer.fit.state import TrainingState
from anneal_trainer.publish.scalars import scalars_of
from anneal_trainer.sources.credentials import Credentials
from anneal_trainer.sources.leash import ForbiddenAddress, Leash

_URI, _TOKEN, _USER, _PASSWORD = (f"MLFLOW_TRACKING_{key}" for key in ("URI", "TOKEN", "USERNAME", "PASSWORD"))
_API = "/api/2.0/mlflow"
_UID_TAG = "anneal.dev/uid"
#: Server errors are tried again after so many seconds; then the artifact has waited long enough.
_WAITS = (1.0, 4.0)
_LONGEST_ANSWER = 16 * 1024**2
#: Limits of the API: characters of a parameter's value, parameters of a request.
_LONGEST_VALUE, _MOST_PARAMETERS = 500, 100
_LOG = logging.getLogger(__name__)


class _Refused(Exception):  # noqa: N818 - an answer
    """The server answered with an error: its code, and its sentence."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(f"it answered {status} {code}" + (f": {message[:200]}" if message else ""))
        self.status, self.code = status, code


def tell(
    server: MLflowServer, run: PublishRun, manifest: Manifest, state: TrainingState, leash: Leash | None = None
) -> TrackingStatus:
    """Makes, or completes, the run of this training. Never raises: what went wrong is in the message."""
    leash = leash or Leash(timeout_seconds=20.0)
    try:
        with leash.held():
            client = _client(Credentials.read(server.credentials), leash)
            page = _told(client, server.experiment, run, manifest, state)
    except Exception as error:
        said = _sentence(error)
        _LOG.warning("MLflow is not told of the training: %s", said)
        return TrackingStatus(message=f"MLflow could not be told of the training, the artifact is whole: {said}"[:512])
    return TrackingStatus(run_uri=page, message=f"MLflow has the training as {page}"[:512])


def _sentence(error: Exception) -> str:
    if isinstance(error, TrainerError):
        return error.message
    return f"its answer has no {error}" if isinstance(error, KeyError) else str(error) or type(error).__name__


@dataclass(frozen=True)
class _Client:
    """Requests of JSON to one server."""

    url: str
    headers: Mapping[str, str] = field(repr=False)
    credentials: Credentials
    timeout: float

    def ask(self, path: str, body: Any = None, **query: str) -> dict[str, Any]:
        """The answer to a POST of `body`, or to a GET without one. Raises _Refused, OSError, HTTPException."""
        for wait in _WAITS:
            try:
                return self._ask_once(path, body, query)
            except _Refused as refusal:
                if refusal.status < 500 and refusal.status != http.client.TOO_MANY_REQUESTS:
                    raise
            except ForbiddenAddress:
                raise
            except (OSError, http.client.HTTPException) as error:
                _LOG.info("MLflow did not answer (%s), and is asked again", error)
            time.sleep(wait)
        return self._ask_once(path, body, query)

    def _ask_once(self, path: str, body: Any, query: Mapping[str, str]) -> dict[str, Any]:
        parts = urlsplit(self.url)
        connection: http.client.HTTPConnection
        if parts.scheme == "https":
            connection = http.client.HTTPSConnection(
                parts.hostname or "", parts.port, timeout=self.timeout, context=self.credentials.tls()
            )
        else:
            connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=self.timeout)
        target = f"{parts.path.rstrip('/')}{_API}/{path}" + (f"?{urlencode(query)}" if query else "")
        content = None if body is None else json.dumps(body, allow_nan=False)
        with closing(connection):
            connection.request("GET" if body is None else "POST", target, content, dict(self.headers))
            response = connection.getresponse()
            answer = response.read(_LONGEST_ANSWER)
        return _parsed(response.status, response.reason, answer)


def _parsed(status: int, phrase: str, answer: bytes) -> dict[str, Any]:
    """The object in an answer. Raises _Refused for an error and for what is no answer of MLflow."""
    try:
        document = json.loads(answer)
    except ValueError:
        document = None
    if status != http.client.OK:
        told = document if isinstance(document, dict) else {"message": _plain(answer)}
        raise _Refused(status, str(told.get("error_code", phrase)), str(told.get("message", "")))
    if not isinstance(document, dict):
        raise _Refused(status, "no JSON object", "is it an MLflow server?")
    return document


def _plain(answer: bytes) -> str:
    """Text that people can read: MLflow itself tells in such that it was called by a host that it does not allow."""
    text = " ".join(answer.decode(errors="replace").split())
    return text if text.isprintable() and not text.startswith("<") else ""


def _client(credentials: Credentials, leash: Leash) -> _Client:
    """Raises UserMistake where the Secret does not have what is needed."""
    url, secret = credentials.get(_URI), credentials.secret
    if url is None:
        found = ", ".join(sorted(credentials.values)) or "no keys, or is not there"
        raise UserMistake("SecretUnusable", f"Secret '{secret}' has no key {_URI}; it has {found}")
    if urlsplit(url).scheme not in ("http", "https") or not urlsplit(url).hostname:
        raise UserMistake("SecretUnusable", f"key {_URI} of Secret '{secret}' is not an http(s) URL")
    headers = {"Content-Type": "application/json", "User-Agent": "anneal"}
    token, user, password = (credentials.get(key) for key in (_TOKEN, _USER, _PASSWORD))
    if (token or user) and urlsplit(url).scheme != "https":
        raise UserMistake("SecretUnusable", f"{_URI} of Secret '{secret}' is not https, and keys are not sent in clear")
    if token:
        headers["Authorization"] = f"Bearer {token}"
    elif user:
        pair = base64.b64encode(f"{user}:{password or ''}".encode()).decode()
        headers["Authorization"] = f"Basic {pair}"
    return _Client(url.rstrip("/"), headers, credentials, leash.timeout_seconds)


def _told(client: _Client, experiment: str, run: PublishRun, manifest: Manifest, state: TrainingState) -> str:
    """Sends everything. Returns the page of the run."""
    number = _experiment(client, experiment)
    run_id, began = _run(client, number, run, manifest, round(1000 * (time.time() - state.whole.seconds)))
    # Times follow from the beginning, so that a point that is sent twice is the same point.
    metrics = [
        {"key": key, "value": value, "timestamp": began + after, "step": step}
        for step, after, key, value in _values(run, state)
    ]
    parameters = [{"key": key, "value": value[:_LONGEST_VALUE]} for key, value in _parameters(run)]
    client.ask("runs/log-batch", {"run_id": run_id, "metrics": metrics, "params": parameters[:_MOST_PARAMETERS]})
    ended = began + round(1000 * state.whole.seconds)
    client.ask("runs/update", {"run_id": run_id, "status": "FINISHED", "end_time": ended})
    return f"{client.url}/#/experiments/{quote(number)}/runs/{quote(run_id)}"


def _experiment(client: _Client, name: str) -> str:
    """Its number; it is made if it is not there."""
    try:
        return str(client.ask("experiments/get-by-name", experiment_name=name)["experiment"]["experiment_id"])
    except _Refused as refusal:
        if refusal.code != "RESOURCE_DOES_NOT_EXIST":
            raise
    try:
        return str(client.ask("experiments/create", {"name": name})["experiment_id"])
    except _Refused as refusal:
        if refusal.code != "RESOURCE_ALREADY_EXISTS":  # another job was quicker
            raise
    return str(client.ask("experiments/get-by-name", experiment_name=name)["experiment"]["experiment_id"])


def _run(client: _Client, experiment: str, run: PublishRun, manifest: Manifest, began: int) -> tuple[str, int]:
    """(id, beginning in ms) of this training's run: the one that a pod before this one made, or a new one."""
    query = {"experiment_ids": [experiment], "filter": f"tags.`{_UID_TAG}` = '{run.object.uid}'", "max_results": 1}
    for found in client.ask("runs/search", query).get("runs", []):
        return str(found["info"]["run_id"]), int(found["info"]["start_time"])
    tags = {
        _UID_TAG: run.object.uid,
        "anneal.dev/object": f"{run.object.namespace}/{run.object.name}",
        "anneal.dev/artifact": manifest.digest,
        "anneal.dev/output": run.output.uri,
        "anneal.dev/base": f"{run.model.uri} {run.base_digest}",
    }
    made = client.ask(
        "runs/create",
        {
            "experiment_id": experiment,
            "run_name": run.object.name,
            "start_time": began,
            "tags": [{"key": key, "value": value} for key, value in tags.items()],
        },
    )
    return str(made["run"]["info"]["run_id"]), began


def _values(run: PublishRun, state: TrainingState) -> Iterator[tuple[int, int, str, float]]:
    """(step, ms since the beginning, metric, value): at most 128 points of 5 metrics, of 1,000 that a request has."""
    for step, seconds, scalars in scalars_of(run, state):
        for key, value in scalars.items():
            yield step, round(1000 * seconds), key, value


def _parameters(run: PublishRun) -> Iterator[tuple[str, str]]:
    """(name, value) of every setting."""
    yield "base", run.model.uri
    for name, settings in {**run.method.to_json(), "training": run.training.to_json()}.items():
        for key, value in settings.items():
            yield f"{name}.{key}", value if isinstance(value, str) else json.dumps(value)
