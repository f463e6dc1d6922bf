"""Containers of the user's that score answers: what they may touch, and how one at work is told.

They run between the asking and the judging, in one pod: the kubelet starts each init container when the one before it
has ended well, so nothing waits for a file and nobody needs to be told to go on. A new pod begins with empty volumes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from anneal.api.metrics import Metric
from anneal.api.plugins import Plugin
from anneal.api.runs import ANSWERS_DIR, ANSWERS_FILE, PLUGINS_DIR, SCORES_DIR, SCORES_FILE
from anneal.api.workloads import Resources
from anneal.kinds import pods
from anneal.kinds.children import container, resource_requirements
from anneal.kinds.contract import Object, Seen
from anneal.kinds.times import seconds_since

#: The init container that asks; without plugins the main container does that itself.
RESPOND = "respond"
#: In memory, so that the limit is one that a write meets: a volume on disk that grows too large costs the whole pod.
_SCORES_SIZE, _TMP_SIZE = "64Mi", "256Mi"
_ANSWERS_PATH, _SCORES_PATH = "/answers", "/scores"
#: SIGKILL and SIGTERM: somebody else ended it. Everything but these (and 0) is its own doing, and would be again.
_KILLED = [137, 143]

Json = dict[str, Any]


@dataclass(frozen=True)
class AtWork:
    """The plugin that runs."""

    metric: str
    plugin: Plugin
    seconds_left: float


def plugins_of(metrics: Sequence[Metric]) -> Iterator[tuple[str, Plugin]]:
    """(name of the metric, its plugin), in the order of the spec."""
    return ((m.name, m.plugin) for m in metrics if m.plugin is not None)


def containers(seen: Seen, metrics: Sequence[Metric]) -> list[Json]:
    """Init containers, each with the answers to read, a directory to write to, and nothing else of the pod's."""
    return [_container(seen, n, name, plugin) for n, (name, plugin) in enumerate(plugins_of(metrics))]


def volumes(metrics: Sequence[Metric]) -> list[Json]:
    """What passes between evaluator and plugins, and a /tmp for each plugin that is no one else's."""
    chosen = list(plugins_of(metrics))
    if not chosen:
        return []
    found: list[Json] = [{"name": "answers", "emptyDir": {}}]
    for n in range(len(chosen)):
        found.append({"name": f"scores-{n}", "emptyDir": {"medium": "Memory", "sizeLimit": _SCORES_SIZE}})
        found.append({"name": f"plugin-tmp-{n}", "emptyDir": {"medium": "Memory", "sizeLimit": _TMP_SIZE}})
    return found


def answers_mount() -> Json:
    """For the evaluator that asks."""
    return {"name": "answers", "mountPath": f"{PLUGINS_DIR}/{ANSWERS_DIR}"}


def scores_mounts(metrics: Sequence[Metric]) -> list[Json]:
    """For the evaluator that judges."""
    return [
        {"name": f"scores-{n}", "mountPath": f"{PLUGINS_DIR}/{SCORES_DIR}/{name}", "readOnly": True}
        for n, (name, _) in enumerate(plugins_of(metrics))
    ]


def failure_rules(metrics: Sequence[Metric]) -> list[Mapping[str, Any]]:
    """Of the Job's podFailurePolicy: a plugin that fails by itself ends the Job, whatever exit code it chose."""
    return [
        {
            "action": "FailJob",
            "onExitCodes": {"containerName": pods.GUEST + name, "operator": "NotIn", "values": _KILLED},
        }
        for name, _ in plugins_of(metrics)
    ]


def at_work(pod: Object | None, metrics: Sequence[Metric], now: datetime) -> AtWork | None:
    """The plugin of the pod that runs, if one does."""
    for name, plugin in plugins_of(metrics):
        if pod is not None and (running := pods.running_since(pod, pods.GUEST + name)) is not None:
            return AtWork(name, plugin, plugin.timeout_seconds - seconds_since(running, now))
    return None


def _container(seen: Seen, number: int, name: str, plugin: Plugin) -> Json:
    return container(
        seen,
        name=pods.GUEST + name,
        image=plugin.image,
        requirements=resource_requirements(Resources(cpu=plugin.cpu, memory=plugin.memory)),
        mounts=[],
        # Not what other containers have: the run document names the models, and a shared /tmp holds others' files.
        volumeMounts=[
            {"name": "answers", "mountPath": _ANSWERS_PATH, "readOnly": True},
            {"name": f"scores-{number}", "mountPath": _SCORES_PATH},
            {"name": f"plugin-tmp-{number}", "mountPath": "/tmp"},
        ],
        env=[
            {"name": "HOME", "value": "/tmp"},
            {"name": "ANNEAL_ANSWERS", "value": f"{_ANSWERS_PATH}/{ANSWERS_FILE}"},
            {"name": "ANNEAL_SCORES", "value": f"{_SCORES_PATH}/{SCORES_FILE}"},
        ],
        **({"command": list(plugin.command)} if plugin.command else {}),
        **({"args": list(plugin.args)} if plugin.args else {}),
    )
