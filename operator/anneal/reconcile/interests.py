"""Which keys an event wakes.

An event is a hint and its content is never used to decide anything, so all that matters is whom to wake: the object
itself, the owner of a child, and every object whose last plan looked at this one by name or in a listing.
"""

from __future__ import annotations

from collections.abc import Iterable

from anneal.kinds.children import OWNER
from anneal.kinds.contract import Key, Listing, Object, Reference, Wanted

#: In place of a name: every object of the kind in the namespace.
_ALL = "*"


class Interests:
    """What each key last looked at, and from that whom an event concerns."""

    def __init__(self, kinds: Iterable[str]) -> None:
        """`kinds` are those that are reconciled."""
        self._kinds = frozenset(kinds)
        self._watched: dict[Key, frozenset[Key]] = {}  # who -> what
        self._watchers: dict[Key, set[Key]] = {}  # what -> who

    def add(self, key: Key, wanted: Iterable[Wanted]) -> None:
        """Note, before looking, that `key` looks at these objects too."""
        targets = frozenset(_target(key.namespace, wish) for wish in wanted)
        self._watched[key] = self._watched.get(key, frozenset()) | targets
        for target in targets:
            self._watchers.setdefault(target, set()).add(key)

    def replace(self, key: Key, wanted: Iterable[Wanted]) -> None:
        """Note that these are all the objects that `key` looks at."""
        kept = frozenset(_target(key.namespace, wish) for wish in wanted)
        for target in self._watched.pop(key, frozenset()) - kept:
            self._watchers[target].discard(key)
            if not self._watchers[target]:
                del self._watchers[target]
        if kept:
            self._watched[key] = kept

    def wakes(self, obj: Object) -> set[Key]:
        """The keys to reconcile after an event on `obj`."""
        metadata = obj["metadata"]
        itself = Key(obj["kind"], metadata.get("namespace", ""), metadata["name"])
        woken = self._watchers.get(itself, set()) | self._watchers.get(itself._replace(name=_ALL), set())
        if itself.kind in self._kinds:
            return woken | {itself}
        owner_kind, slash, owner_name = str(metadata.get("annotations", {}).get(OWNER, "")).partition("/")
        if slash and owner_kind in self._kinds:
            return woken | {Key(owner_kind, itself.namespace, owner_name)}
        return woken

    def __len__(self) -> int:
        """Objects that somebody looks at."""
        return len(self._watchers)


def _target(namespace: str, wish: Wanted) -> Key:
    match wish:
        case Reference(kind, name):
            return Key(kind, namespace, name)
        case Listing(kind, _):
            # Whatever labels an object has now, it may just have lost those that were asked for.
            return Key(kind, namespace, _ALL)
