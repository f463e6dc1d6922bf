"""When two states of a cluster are the same, and what must be so in each of them."""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Mapping
from typing import Any

from tests.support.memory_api import Event, Id, MemoryApi, Object
from tests.support.world import is_ready
from tests.sweep.simulation import Simulation

from anneal.api.conditions import is_true
from anneal.kinds.children import OWNER_UID, ROLE
from anneal.kinds.modeldeployment.children import REVISION, TRAFFIC

OURS = ("FineTuneJob", "Evaluation", "ModelDeployment")
#: Lost without harm: what happened is in status.
LOSSY = frozenset({"Event"})
#: Times, and what says who led.
_PASSING = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z|(?<=CA of leader-)\d+")
#: By identity, with the object itself, so that the identity stays its own: most objects are shared by many states.
_TEXTS: dict[int, tuple[Object, str]] = {}
_TIMELESS: dict[int, tuple[Object, Any]] = {}


def fingerprint(simulation: Simulation) -> str:
    """The state of cluster, world and story at this moment, in few characters. Versions do not count."""
    parts = [_text(o) for o in simulation.api.all() if o["kind"] not in LOSSY]
    world = simulation.world
    parts += [str(simulation.api.clock.time), str(simulation.steps_done)]
    parts += [repr(sorted(world.kubelet.pods.items())), repr(sorted(world.jobs.items()))]
    parts.append(repr(sorted((i, n) for i, n in simulation.api.created.items() if i.kind not in LOSSY)))
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def end_state(simulation: Simulation) -> dict[str, Any]:
    """What is there at the end of a story, without times and versions: what a disturbed run is compared with."""
    return {
        "/".join(Id(o["kind"], o["metadata"]["namespace"], o["metadata"]["name"])): _timeless(o)
        for o in simulation.api.all()
        if o["kind"] not in LOSSY
    }


def creations(simulation: Simulation) -> Counter[Id]:
    """How often each object came into being over the whole story."""
    return Counter({i: n for i, n in simulation.api.created.items() if i.kind not in LOSSY})


def watch_history(api: MemoryApi) -> None:
    """From now on fail at the first write that takes back what was final."""
    before = {o["metadata"]["uid"]: o for o in api.all(*OURS)}

    def check(event: Event) -> None:
        obj = event.obj
        if obj["kind"] not in OURS or event.type == "DELETED":
            return
        old = before.get(obj["metadata"]["uid"], {})
        before[obj["metadata"]["uid"]] = obj
        for final in ("Complete", "Failed"):
            assert not is_true(old, final) or is_true(obj, final), f"{final} went back: {obj['status']}"
        seen = [o.get("status", {}).get("observedGeneration", 0) for o in (old, obj)]
        assert seen[0] <= seen[1] <= obj["metadata"]["generation"], f"observedGeneration went from {seen[0]}: {obj}"

    api.subscribers.append(check)


def watch_traffic(api: MemoryApi) -> None:
    """From now on fail at the first write that sends traffic where nothing answers, or takes away what it goes to."""
    api.subscribers.append(lambda event: _check_traffic(api, event))


def _check_traffic(api: MemoryApi, event: Event) -> None:
    labels = event.obj["metadata"].get("labels") or {}
    owners = [o for o in api.all("ModelDeployment") if o["metadata"]["uid"] == labels.get(OWNER_UID)]
    if event.type == "DELETED" or not owners or owners[0]["spec"]["replicas"] == 0:
        return
    namespace = event.obj["metadata"]["namespace"]
    if labels.get(ROLE) == TRAFFIC:
        revision = event.obj["spec"]["selector"][REVISION]
        pods = [p for p in api.all("Pod") if p["metadata"]["labels"].get(REVISION) == revision]
        assert any(is_ready(p) for p in pods), f"traffic goes to revision {revision}, of which no pod answers"
    if event.obj["kind"] == "Deployment" and event.obj["spec"]["replicas"] == 0:
        service = api.peek("Service", owners[0]["metadata"]["name"], namespace)
        goes_to = service and service["spec"]["selector"][REVISION]
        assert goes_to != labels[REVISION], f"the pods of revision {goes_to} go, and traffic goes to them"


def orphans(api: MemoryApi) -> list[str]:
    """Children whose object is gone."""
    alive = {o["metadata"]["uid"] for o in api.all(*OURS)}
    owners = [(o, (o["metadata"].get("labels") or {}).get(OWNER_UID)) for o in api.all()]
    return [f"{o['kind']} {o['metadata']['name']}" for o, uid in owners if uid is not None and uid not in alive]


def difference(expected: Mapping[str, Any], found: Mapping[str, Any]) -> str:
    """The first few places where two end states differ, for the reader of a failure."""
    lines = [f"missing: {k}" for k in expected.keys() - found.keys()]
    lines += [f"unexpected: {k}" for k in found.keys() - expected.keys()]
    for key in expected.keys() & found.keys():
        lines += _differences(key, expected[key], found[key])
    return "\n".join(sorted(lines)[:20])


def _differences(path: str, expected: Any, found: Any) -> list[str]:
    if expected == found:
        return []
    if isinstance(expected, Mapping) and isinstance(found, Mapping):
        keys = sorted({*expected, *found})
        return [line for k in keys for line in _differences(f"{path}.{k}", expected.get(k), found.get(k))]
    if isinstance(expected, list) and isinstance(found, list) and len(expected) == len(found):
        pairs = enumerate(zip(expected, found, strict=True))
        return [line for n, (a, b) in pairs for line in _differences(f"{path}[{n}]", a, b)]
    return [f"{path}: expected {expected!r}, found {found!r}"]


def _text(obj: Object) -> str:
    """The object as text, without its version."""
    known = _TEXTS.get(id(obj))
    if known is None:
        metadata = {m: v for m, v in obj["metadata"].items() if m != "resourceVersion"}
        known = _TEXTS[id(obj)] = (obj, json.dumps({**obj, "metadata": metadata}, sort_keys=True))
    return known[1]


def _timeless(obj: Object) -> Any:
    known = _TIMELESS.get(id(obj))
    if known is None:
        known = _TIMELESS[id(obj)] = (obj, json.loads(_PASSING.sub("*", _text(obj))))
    return known[1]
