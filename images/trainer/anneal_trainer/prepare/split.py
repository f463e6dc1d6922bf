"""The held-out draw: which rows are kept from training, so that the Evaluation asks what the model has not seen.

Drawn by prompt, not by row: rows with one prompt are all held out or all trained on. A model that has seen a held-out
prompt would be judged on its memory. The draw depends on the seed and on what the rows say, so neither the order of
the rows nor the file that they came in changes it, and adding a row moves few others.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field

from anneal_trainer.prepare.formats import Message


@dataclass(frozen=True)
class Example:
    """A valid row: what is asked, and the answer to it."""

    messages: tuple[Message, ...]

    @property
    def prompt(self) -> tuple[Message, ...]:
        return self.messages[:-1]

    @property
    def reference(self) -> str:
        return self.messages[-1].content


@dataclass(frozen=True)
class Split:
    """Indices into the examples, each list in an order that depends on content alone."""

    train: list[int] = field(default_factory=list)
    held_out: list[int] = field(default_factory=list)


def key_of(messages: Sequence[Message]) -> str:
    """sha256, in hex, of messages: equal for equal text and roles."""
    text = json.dumps([[m.role, m.content] for m in messages], ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def draw(examples: Sequence[Example], held_out: int, seed: int) -> Split:
    """Holds out `held_out` examples, or a few less when prompts repeat so that no choice of prompts gives just that.

    Prompts are visited in the order of sha256(seed, prompt); one with more rows than are still wanted is passed over.
    """
    groups: dict[str, list[int]] = {}
    for index, example in enumerate(examples):
        groups.setdefault(key_of(example.prompt), []).append(index)
    split = Split()
    for prompt in sorted(groups, key=lambda p: _rank(seed, p)):
        rows = sorted(groups[prompt], key=lambda i: key_of(examples[i].messages))
        fits = len(split.held_out) + len(rows) <= held_out
        (split.held_out if fits else split.train).extend(rows)
    return split


def _rank(seed: int, prompt: str) -> str:
    return hashlib.sha256(f"{seed}:{prompt}".encode()).hexdigest()


def identifiers(keys: Sequence[str]) -> list[str]:
    """An id for each row from its content key: 16 hex digits, with -2, -3 … after the first of equal rows."""
    seen: dict[str, int] = {}
    names = []
    for key in keys:
        seen[key] = seen.get(key, 0) + 1
        names.append(key[:16] if seen[key] == 1 else f"{key[:16]}-{seen[key]}")
    return names
