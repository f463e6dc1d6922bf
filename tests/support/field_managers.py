"""Server-side apply, as far as Anneal uses it: who owns which field, and what an apply changes.

A path is a tuple of steps; a step is a field's name, `("key", …)` for an element of a list that is a map, or
`("value", …)` for an element of a list that is a set. Which lists are maps is known by the field's name, as the API
server knows it from the type.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

Step = Any
Path = tuple[Step, ...]
Fields = frozenset[Path]

#: Lists whose elements are told apart by these members.
LIST_KEYS: Mapping[str, tuple[str, ...]] = {
    "conditions": ("type",),
    "containers": ("name",),
    "initContainers": ("name",),
    "env": ("name",),
    "volumes": ("name",),
    "volumeMounts": ("mountPath",),
    "ports": ("containerPort", "port", "protocol"),
    "ownerReferences": ("uid",),
    "revisions": ("name",),
    "baselines": ("name",),
    "metrics": ("name",),
    "imagePullSecrets": ("name",),
}
SETS = frozenset({"finalizers"})
#: Maps that are replaced as a whole.
ATOMIC = frozenset({"selector", "nodeSelector"})


def fields_of(value: Any, name: str = "", path: Path = ()) -> Iterator[Path]:
    """The paths of everything that `value` says, leaves only (and the keys of list elements)."""
    if isinstance(value, dict) and value and name not in ATOMIC:
        for member, child in value.items():
            yield from fields_of(child, member, (*path, member))
    elif isinstance(value, list) and name in LIST_KEYS and value:
        for element in value:
            step = _key(name, element)
            yield (*path, step)
            yield from fields_of(element, "", (*path, step))
    elif isinstance(value, list) and name in SETS and value:
        for element in value:
            yield (*path, ("value", element))
    else:
        yield path


def merge(live: Any, wanted: Any, name: str = "") -> Any:
    """`live` with all that `wanted` says, in its order; whatever `wanted` is silent about stays."""
    if isinstance(live, dict) and isinstance(wanted, dict) and name not in ATOMIC:
        return {**live, **{m: merge(live[m], v, m) if m in live else v for m, v in wanted.items()}}
    if isinstance(live, list) and isinstance(wanted, list) and name in LIST_KEYS:
        known = {_key(name, e): e for e in live}
        said = {_key(name, e): e for e in wanted}
        merged = [merge(known[k], e) if k in known else e for k, e in said.items()]
        return [*merged, *[e for k, e in known.items() if k not in said]]
    if isinstance(live, list) and isinstance(wanted, list) and name in SETS:
        return [*live, *[e for e in wanted if e not in live]]
    return wanted


def remove(live: Any, gone: Fields, name: str = "") -> Any:
    """`live` without the paths in `gone`, and without what is empty for want of them."""
    if not gone:
        return live
    by_step: dict[Step, set[Path]] = {}
    for path in gone:
        by_step.setdefault(path[0], set()).add(path[1:])
    if isinstance(live, dict):
        left = {
            m: remove(v, frozenset(by_step[m]), m) if m in by_step else v
            for m, v in live.items()
            if () not in by_step.get(m, ())
        }
        return {m: v for m, v in left.items() if v or m not in by_step}
    if isinstance(live, list) and name in LIST_KEYS:
        kept = [(e, by_step.get(_key(name, e), set())) for e in live]
        return [remove(e, frozenset(paths)) for e, paths in kept if () not in paths]
    if isinstance(live, list) and name in SETS:
        return [e for e in live if ("value", e) not in by_step]
    return live


def apply(
    live: Mapping[str, Any], wanted: Mapping[str, Any], managers: Mapping[str, Fields], manager: str
) -> tuple[dict[str, Any], dict[str, Fields]]:
    """(the object, the managers) after a forced apply of `wanted` by `manager`.

    What the manager said before and no longer says is removed, unless another manager says it too.
    """
    said = frozenset(fields_of(wanted))
    others = {m: f for m, f in managers.items() if m != manager}
    claimed: Fields = frozenset().union(*others.values())
    dropped = managers.get(manager, frozenset()) - said - claimed
    merged = merge(remove(live, dropped), wanted)
    changed = frozenset(p for p in said & claimed if not _same(live, merged, p))
    return dict(merged), {**{m: f - changed for m, f in others.items()}, manager: said}


def _key(name: str, element: Mapping[str, Any]) -> Step:
    return ("key", *[(k, element.get(k)) for k in LIST_KEYS[name] if k in element])


def _same(a: Any, b: Any, path: Path) -> bool:
    return _text(_at(a, path)) == _text(_at(b, path))


def _at(value: Any, path: Path, name: str = "") -> Any:
    for step in path:
        if isinstance(value, dict):
            name, value = step, value.get(step)
        elif isinstance(value, list):
            value = next((e for e in value if name in LIST_KEYS and _key(name, e) == step), None)
    return value


def _text(value: Any) -> str:
    return json.dumps(value, sort_keys=True)
