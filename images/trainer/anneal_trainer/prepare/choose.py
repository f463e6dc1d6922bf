"""Which of the valid rows are used, and for what: repeats, conflicts, the held-out draw, balance, leaks, in that order.

Each step sees what the ones before left. A row that is left out keeps its reason, and the row that it repeats.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from anneal.api.runs import PrepareRun
from anneal_trainer.errors import UserMistake
from anneal_trainer.prepare import balance, deduplicate, leaks, similar
from anneal_trainer.prepare.against import Against
from anneal_trainer.prepare.split import Candidate, Split, draw
from anneal_trainer.prepare.store import Store
from anneal_trainer.prepare.words import Runs, runs

#: Where a valid row is, in words: "line 3 of pvc://…".
Where = Callable[[int], str]


class Meanings(Protocol):
    """What finds rows that ask the same in other words."""

    def leaks(self, train: Sequence[int], held_out: Sequence[int]) -> Mapping[int, tuple[int, str]]:
        """Of each row of `train` that asks what one of `held_out` asks, (that row, how sure it is in words)."""


@dataclass
class Choice:
    """What becomes of every valid row: in `train`, in `held_out`, or left out for a reason.

    Attributes:
        left_out: of each row that is not used, (reason, sentence).
        conflicts: groups of rows with one prompt and different answers.
        leaked: of each file of `leakCheck.against`, the training rows that gave a row of it away, and the place of it.
    """

    train: list[int] = field(default_factory=list)
    held_out: list[int] = field(default_factory=list)
    left_out: dict[int, tuple[str, str]] = field(default_factory=dict)
    conflicts: list[list[int]] = field(default_factory=list)
    leaked: list[dict[int, str]] = field(default_factory=list)

    def reasons(self) -> Counter[str]:
        return Counter(reason for reason, _ in self.left_out.values())


def choose(
    store: Store,
    run: PrepareRun,
    where: Where,
    check: Callable[[], None],
    grow: Callable[[Choice], None] | None = None,
    against: Against | None = None,
    meanings: Meanings | None = None,
) -> Choice:
    """Decides about every row. `check` is called now and then, to let the run be interrupted. Raises UserMistake.

    `grow` may add rows to the store and to those that are trained on. Rows that leak are taken out before, so that
    nothing is written after them; what it adds must not leak into the files of `against`, and leaks into held-out rows
    are looked for once more, with `meanings` also in other words.
    """
    choice = Choice()
    wanted = run.deduplication
    given = _given(store, run)
    if wanted.exact == "Drop":
        sides = [key + bytes([row in given]) for row, key in enumerate(store.keys)]
        _leave_out(choice, deduplicate.exact(sides), "Duplicate", "the same as", where)
    _settle_conflicts(choice, store, run, [row for row in _used(choice, store) if row not in given], where)
    questions = runs(store.words.questions, deduplicate.RUN)
    pairs = None
    if wanted.near != "Ignore":
        threshold = float(wanted.threshold)
        pairs = similar.pairs(questions, threshold, check)
        if wanted.near == "Drop":
            unused = np.array([row in choice.left_out or row in given for row in range(len(store))], dtype=np.bool_)
            own = ~(unused[pairs[0]] | unused[pairs[1]])
            repeats = deduplicate.near(store, (pairs[0][own], pairs[1][own]), threshold)
            _leave_out(choice, repeats, "NearDuplicate", "much like", where)
    split = _split(choice, store, run, given, pairs)
    choice.train, choice.held_out = split.train, split.held_out
    _even(choice, store, run)
    check()
    if against is not None:
        choice.leaked = against.leaks(choice.train)
        close = {row: place for of_file in reversed(choice.leaked) for row, place in of_file.items()}
        _stop_leaks(choice, run, close, _AGAINST, where)
    _check_held_out(choice, store, run, questions, where, meanings)
    if grow is not None:
        grow(choice)
        _check_held_out(choice, store, run, runs(store.words.questions, deduplicate.RUN), where, meanings)
    return choice


def _given(store: Store, run: PrepareRun) -> frozenset[int]:
    """The rows of the held-out file, if there is one: the last source."""
    if run.held_out_source is None:
        return frozenset()
    return frozenset(np.flatnonzero(store.sources() == len(run.sources)).tolist())


def _used(choice: Choice, store: Store) -> list[int]:
    return [row for row in range(len(store)) if row not in choice.left_out]


def _leave_out(choice: Choice, repeats: Mapping[int, int], reason: str, how: str, where: Where) -> None:
    for row, other in repeats.items():
        choice.left_out.setdefault(row, (reason, f"{how} {where(other)}"))


def _settle_conflicts(choice: Choice, store: Store, run: PrepareRun, rows: list[int], where: Where) -> None:
    choice.conflicts = deduplicate.conflicts(rows, store)
    if not choice.conflicts or run.deduplication.conflicts == "Keep":
        return
    if run.deduplication.conflicts == "Fail":
        first = choice.conflicts[0]
        raise UserMistake(
            "ConflictingRows",
            f"{len(choice.conflicts)} prompts have different answers, the first one in {where(first[0])} and"
            f" {where(first[1])}: correct them, or set dataset.deduplication.conflicts to Drop or Keep",
        )
    prompts = {store.prompts[group[0]] for group in choice.conflicts}
    for row in rows:
        if store.prompts[row] in prompts:
            choice.left_out[row] = ("Conflict", "its prompt has different answers in other rows")


def _split(choice: Choice, store: Store, run: PrepareRun, given: frozenset[int], pairs: similar.Pairs | None) -> Split:
    groups = deduplicate.groups(store, pairs)
    used = _used(choice, store)
    rows = [
        Candidate(row, store.keys[row], int(groups[row]), store.labels[row][0], row in store.calling) for row in used
    ]
    if run.held_out_source is None:
        return draw(rows, held_out_of(run), run.split.seed)
    ordered = draw(rows, 0, run.split.seed).train
    return Split([row for row in ordered if row not in given], [row for row in ordered if row in given])


def held_out_of(run: PrepareRun) -> int:
    """How many rows are to be held out, where they are drawn."""
    wanted = run.split.held_out
    return 150 if wanted is None else wanted


def _even(choice: Choice, store: Store, run: PrepareRun) -> None:
    if run.balance is None:
        return
    categories = [category for category, _ in store.labels]
    choice.train, dropped = balance.even(choice.train, categories, run.balance)
    for row in dropped:
        choice.left_out[row] = ("Balance", f"its category '{categories[row][:40]}' has too many rows")


@dataclass(frozen=True)
class _Kept:
    """Rows that nothing trained on may give away, in words."""

    reason: str
    failure: str
    them: str
    gives: str
    """What a training row does, before the place of the row that it gives away."""
    remedy: str


_HELD_OUT = _Kept(
    reason="Leak",
    failure="HeldOutLeaked",
    them="held-out rows",
    gives="gives away the held-out",
    remedy="The held-out rows must be others than the training rows",
)
_SEMANTIC = _Kept(
    reason="SemanticLeak",
    failure="HeldOutLeaked",
    them="held-out rows",
    gives="asks in other words what the held-out",
    remedy="Raise dataset.leakCheck.semantic.threshold, or add a verifier: not all that is alike is the same",
)
_AGAINST = _Kept(
    reason="LeakAgainst",
    failure="AgainstLeaked",
    them="rows of dataset.leakCheck.against",
    gives="gives away",
    remedy="None is left to train on",
)


def _check_held_out(
    choice: Choice, store: Store, run: PrepareRun, questions: Runs, where: Where, meanings: Meanings | None
) -> None:
    """Takes out what gives a held-out row away, by its words first: that costs nothing. Raises UserMistake."""
    found = leaks.find(store.words, questions, choice.train, choice.held_out, float(run.leak_check.threshold))
    _stop_leaks(choice, run, {row: where(other) for row, other in found.items()}, _HELD_OUT, where)
    if meanings is not None:
        same = meanings.leaks(choice.train, choice.held_out)
        told = {row: f"{where(other)} ({how})" for row, (other, how) in same.items()}
        _stop_leaks(choice, run, told, _SEMANTIC, where)


def _stop_leaks(choice: Choice, run: PrepareRun, found: Mapping[int, str], kept: _Kept, where: Where) -> None:
    """Takes out the rows of `found`, which says what each gives away. Raises UserMistake."""
    if not found:
        return
    row = next(iter(found))
    example = f"{where(row)} is much like {found[row]}"
    if run.leak_check.policy == "Fail":
        raise UserMistake(
            kept.failure,
            f"{len(found)} training rows give {kept.them} away: {example}. Take them out, or set"
            " dataset.leakCheck.policy to Drop",
        )
    if len(found) >= len(set(choice.train)):
        raise UserMistake(
            kept.failure, f"all {len(found)} training rows give {kept.them} away: {example}. {kept.remedy}"
        )
    for leak, place in found.items():
        choice.left_out.setdefault(leak, (kept.reason, f"{kept.gives} {place}"))
    choice.train = _without(choice.train, found)


def _without(rows: Iterable[int], unwanted: Container[int]) -> list[int]:
    return [row for row in rows if row not in unwanted]
