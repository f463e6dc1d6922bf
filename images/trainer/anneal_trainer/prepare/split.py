"""The held-out draw: which rows are kept from training, so that the Evaluation asks what the model has not seen.

Drawn by group, not by row: rows with one prompt, prompts much alike, and rows of one customer or document are all held
out or all trained on. A model that has seen a held-out prompt would be judged on its memory. The draw depends on the
seed and on what the rows say, so neither the order of the rows nor the file that they came in changes it, and adding a
row moves few others.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from anneal_trainer.prepare.chat import Message, canonical


@dataclass(frozen=True)
class Example:
    """A valid row: what is asked, and the answer to it.

    Attributes:
        tools: those that are offered, as the JSON of a list.
        scoring: what plugins are handed with an answer to it, as the JSON of an object; empty where there is none.
    """

    messages: tuple[Message, ...]
    tools: str = ""
    scoring: str = ""

    @property
    def prompt(self) -> tuple[Message, ...]:
        return self.messages[:-1]

    @property
    def reference(self) -> str:
        return self.messages[-1].said


@dataclass(frozen=True)
class Split:
    """Indices into the rows, each list in an order that depends on content alone."""

    train: list[int] = field(default_factory=list)
    held_out: list[int] = field(default_factory=list)


@dataclass(frozen=True)
class Candidate:
    """A row as the draw sees it."""

    index: int
    key: bytes
    """Digest of what it says."""
    group: int
    """Rows of one group stay together."""
    category: str = ""
    is_call: bool = False
    """Whether its answer is the call of a tool, which no metric compares: it is trained on."""


def keys_of(example: Example) -> tuple[bytes, bytes]:
    """sha256 of (all messages, all but the answer), with the tools: equal for equal text and roles."""
    said = hashlib.sha256(f"tools:{example.tools} ".encode() if example.tools else b"")
    for message in example.prompt:
        said.update(_unambiguous(message))
    prompt = said.digest()
    said.update(_unambiguous(example.messages[-1]))
    return said.digest(), prompt


def _unambiguous(message: Message) -> bytes:
    content, more = message.content.encode(), message.to_json()
    plain = b"%s %d %s" % (message.role.encode(), len(content), content)
    return plain if len(more) == 2 else b"tools:%s " % canonical(more).encode() + plain


def draw(rows: Sequence[Candidate], held_out: int, seed: int) -> Split:
    """Holds out `held_out` rows, or a few less when groups are so large that no choice of them gives just that.

    Groups are visited in the order of sha256(seed, key of their first row). One with more rows than are still wanted of
    its category, or at all, is passed over; a second round fills up with what categories have too few of.
    """
    groups = _in_order(rows, seed)
    wanted = _shares(rows, held_out)
    chosen: set[int] = set()
    left = held_out
    for by_category in (True, False):
        for number, group in enumerate(groups):
            sizes = Counter(row.category for row in group)
            fits = len(group) <= left and not (by_category and any(sizes[c] > wanted[c] for c in sizes))
            if number not in chosen and fits and not any(row.is_call for row in group):
                chosen.add(number)
                wanted.subtract(sizes)
                left -= len(group)
    split = Split()
    for number, group in enumerate(groups):
        (split.held_out if number in chosen else split.train).extend(row.index for row in group)
    return split


def _in_order(rows: Sequence[Candidate], seed: int) -> list[list[Candidate]]:
    groups: dict[int, list[Candidate]] = {}
    for row in rows:
        groups.setdefault(row.group, []).append(row)
    ordered = [sorted(group, key=lambda row: row.key) for group in groups.values()]
    return sorted(ordered, key=lambda group: rank(seed, group[0].key))


def _shares(rows: Sequence[Candidate], held_out: int) -> Counter[str]:
    """How many of each category make up `held_out`: their shares, rounded so that they add up (largest remainders)."""
    sizes = Counter(row.category for row in rows)
    exact = {name: held_out * size / len(rows) for name, size in sizes.items()}
    wanted = Counter({name: int(share) for name, share in exact.items()})
    by_remainder = sorted(exact, key=lambda name: (wanted[name] - exact[name], name))
    wanted.update(by_remainder[: held_out - wanted.total()])
    return wanted


def rank(seed: int, key: bytes) -> bytes:
    """Where something with that key is in a random order by `seed`."""
    return hashlib.sha256(b"%d:%s" % (seed, key)).digest()


def identifiers(keys: Sequence[bytes]) -> list[str]:
    """An id for each row from its content key: 16 hex digits, with -2, -3 … after the first of equal rows."""
    seen: dict[bytes, int] = {}
    names = []
    for key in keys:
        seen[key] = seen.get(key, 0) + 1
        names.append(key.hex()[:16] if seen[key] == 1 else f"{key.hex()[:16]}-{seen[key]}")
    return names
