"""Which keys an event wakes.

An event is a hint and its content is never used to decide anything, so all that matters is whom to wake: the object
itself, the owner of a child, and every object whose last plan looked at this one by name or in a listing.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

from anneal.kinds.children import OWNER
from anneal.kinds.contract import Key, Listing, Object, Reference, Wanted


class Interests:
    """What each key last looked at, and from that whom an event concerns."""

    def __init__(self, kinds: Iterable[str]) -> None:
        """`kinds` are those that are reconciled."""
        self._kinds = frozenset(kinds)
        self._wanted: dict[Key, frozenset[Wanted]] = {}
        self._by_name: defaultdict[Key, set[Key]] = defaultdict(set)
        self._by_kind: defaultdict[tuple[str, str], set[Key]] = defaultdict(set)

    def add(self, key: Key, wanted: Iterable[Wanted]) -> None:
        """Note, before looking, that `key` looks at these objects too."""
        self._wanted[key] = self._wanted.get(key, frozenset()) | frozenset(wanted)
        for wish in wanted:
            self._askers(key.namespace, wish).add(key)

    def replace(self, key: Key, wanted: Iterable[Wanted]) -> None:
        """Note that these are all the objects that `key` looks at."""
        kept = frozenset(wanted)
        for wish in self._wanted.pop(key, frozenset()) - kept:
            self._askers(key.namespace, wish).discard(key)
        if kept:
            self._wanted[key] = kept

    def wakes(self, obj: Object) -> set[Key]:
        """The keys to reconcile after an event on `obj`."""
        metadata = obj["metadata"]
        itself = Key(obj["kind"], metadata.get("namespace", ""), metadata["name"])
        woken = self._by_name.get(itself, set()) | self._by_kind.get((itself.kind, itself.namespace), set())
        if itself.kind in self._kinds:
            return woken | {itself}
        owner_kind, slash, owner_name = str(metadata.get("annotations", {}).get(OWNER, "")).partition("/")
        if slash and owner_kind in self._kinds:
            woken = woken | {Key(owner_kind, itself.namespace, owner_name)}
        return woken

    def _askers(self, namespace: str, wish: Wanted) -> set[Key]:
        match wish:
            case Reference(kind, name):
                return self._by_name[Key(kind, namespace, name)]
            case Listing(kind, _):
                # Whatever its labels are now, it may just have lost those that were asked for.
                return self._by_kind[kind, namespace]
