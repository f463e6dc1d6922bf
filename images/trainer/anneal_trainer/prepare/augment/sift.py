"""Which written rows say nothing new, or too much: known by looking at them, before anyone is paid to."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from anneal.api.runs import PrepareRun
from anneal_trainer.prepare import deduplicate, leaks, similar
from anneal_trainer.prepare.against import Against
from anneal_trainer.prepare.choose import Choice
from anneal_trainer.prepare.store import Store
from anneal_trainer.prepare.words import runs

Refusal = tuple[str, str]


class Sieve:
    """Compares written rows with all rows that are used, and with each other."""

    def __init__(
        self, run: PrepareRun, store: Store, choice: Choice, check: Callable[[], None], against: Against | None = None
    ) -> None:
        self._run, self._store, self._check, self._against = run, store, check, against
        self._held_out = sorted(set(choice.held_out))
        self._used = {*choice.train, *choice.held_out}
        self._keys = {store.keys[row] for row in self._used}
        self._prompts = {store.prompts[row] for row in self._used}

    def refused(self, written: Sequence[int]) -> dict[int, Refusal]:
        """(reason, sentence) of each row that may not be used; the others count as used from now on."""
        found: dict[int, Refusal] = {}
        for row in written:
            if (refusal := self._same(row)) is not None:
                found[row] = refusal
            else:
                self._keys.add(self._store.keys[row])
                self._prompts.add(self._store.prompts[row])
        fresh = [row for row in written if row not in found]
        alike = self._alike(fresh)
        self._used.update(row for row in fresh if row not in alike)
        for row in alike:
            self.forget(row)
        return found | alike

    def forget(self, row: int) -> None:
        """The row is not used after all."""
        self._used.discard(row)
        self._keys.discard(self._store.keys[row])
        self._prompts.discard(self._store.prompts[row])

    def _same(self, row: int) -> Refusal | None:
        if self._store.keys[row] in self._keys:
            return "Duplicate", "a row that is used says the same"
        if self._store.prompts[row] in self._prompts:
            return "Conflict", "a row that is used has the same prompt and another answer"
        return None

    def _alike(self, fresh: Sequence[int]) -> dict[int, Refusal]:
        if not fresh:
            return {}
        store, run = self._store, self._run
        questions = runs(store.words.questions, deduplicate.RUN)
        leaking = leaks.find(store.words, questions, fresh, self._held_out, float(run.leak_check.threshold))
        found = dict.fromkeys(leaking, ("Leak", "it gives a held-out row away"))
        for leaks_of_file in self._against.leaks(fresh) if self._against is not None else ():
            found |= {row: ("Leak", f"it gives away {place}") for row, place in leaks_of_file.items()}
        held_out, candidates = set(self._held_out), set(fresh)
        first, second = similar.pairs(questions, float(run.deduplication.threshold), self._check)
        for earlier, row in zip(first.tolist(), second.tolist(), strict=True):
            if row not in candidates or row in found:
                continue
            if earlier in held_out:
                found[row] = ("Leak", "its prompt is much like that of a held-out row")
            elif earlier in self._used or (earlier in candidates and earlier not in found):
                found[row] = ("NearDuplicate", "its prompt is much like that of a row that is used")
        return found
