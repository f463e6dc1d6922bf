"""From training rows to more of them: write after a few seeds, sift, have the rest checked, and again until enough.

Seeds are training rows alone, so nothing that is held out leaves the pod. What costs nothing comes first: a written row
is cleaned and checked like any other, must repeat no row and give no held-out row away, and only then is the validator
paid to look at it. On the same replies, which are on disk, the same rows are chosen, however often the pod starts.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Literal

from anneal.api.augmentation import Augmentation
from anneal.api.runs import GENERATOR, VALIDATOR, PrepareRun
from anneal_hosted.answers import StoredAnswer
from anneal_trainer.errors import TrainerError, Unavailable, UserMistake
from anneal_trainer.prepare.against import Against
from anneal_trainer.prepare.asking import Asker, is_said
from anneal_trainer.prepare.augment import prompts
from anneal_trainer.prepare.augment.sift import Sieve
from anneal_trainer.prepare.chat import Message, RowError
from anneal_trainer.prepare.choose import Choice
from anneal_trainer.prepare.documents import Chat
from anneal_trainer.prepare.read import Reader

#: Fewest seeds of a round: so many replies are had before the first row of theirs is checked.
_LEAST_SEEDS = 16
#: So many questions in a row without one usable reply tell that there will be none.
_PATIENCE = 8
#: A round asks for this part of what is missing, so that few are written for nothing.
_PART = 4

Ended = Literal["Enough", "Share", "Cost", "Seeds"]


@dataclass(frozen=True)
class Origin:
    """Where a written row comes from: the training row that it was written after, and who wrote and checked it."""

    seed: int
    generator: str
    validator: str = ""


@dataclass
class Growth:
    """What came of it.

    Attributes:
        origins: of each accepted row, by its number in the store, in the order in which they were accepted.
        rejected: of each written row that is not used, (its number among the written rows, reason, sentence).
    """

    origins: dict[int, Origin] = field(default_factory=dict)
    rejected: list[tuple[int, str, str]] = field(default_factory=list)
    asked: int = 0
    unanswered: int = 0
    written: int = 0
    ended: Ended = "Seeds"

    def reasons(self) -> Counter[str]:
        return Counter(reason for _, reason, _ in self.rejected)


@dataclass
class Grower:
    """Adds written rows to a store and to the training rows of a choice."""

    run: PrepareRun
    wanted: Augmentation
    reader: Reader
    asker: Asker
    check: Callable[[], None]
    against: Against | None = None
    growth: Growth = field(default_factory=Growth)
    _checked: int = 0
    _verdicts_had: int = 0

    def grow(self, choice: Choice) -> None:
        """Raises UserMistake, Unavailable, Preempted."""
        # A row with tools is a conversation with more than a question: what is written after it would be none.
        seeds = [row for row in dict.fromkeys(choice.train) if row not in self.reader.store.with_tools]
        most = self._most(choice)
        sieve = Sieve(self.run, self.reader.store, choice, self.check, self.against)
        self.reader.begin("row")
        at = 0
        while len(self.growth.origins) < most and at < len(seeds):
            count = self._seeds_for(most - len(self.growth.origins))
            is_spent = self._round(seeds[at : at + count], sieve, most)
            at += count
            if is_spent:
                self.growth.ended = "Cost"
                break
        if len(self.growth.origins) >= most:
            self.growth.ended = "Enough" if most == self.wanted.rows else "Share"
        choice.train += list(self.growth.origins)

    def _most(self, choice: Choice) -> int:
        share = Decimal(self.wanted.max_share)
        return min(self.wanted.rows, int(len(choice.train) * share / (1 - share)))

    def _seeds_for(self, missing: int) -> int:
        enough = -(-missing // self.wanted.per_seed)
        return min(enough, max(_LEAST_SEEDS, enough // _PART))

    def _round(self, seeds: Sequence[int], sieve: Sieve, most: int) -> bool:
        """Asks after `seeds`; whether maxCost is spent."""
        chats = [self._request(seed) for seed in seeds]
        replies, is_spent = self.asker.ask(GENERATOR, chats)
        taken = list(self._taken(seeds, replies))
        kept: dict[int, Origin] = dict(taken)
        self.check()
        for row, (reason, why) in sieve.refused(list(kept)).items():
            self._reject(row, reason, why)
            del kept[row]
        verdicts, cannot_pay = self._verdicts(kept)
        for row, origin in kept.items():
            self._settle(row, origin, verdicts.get(row), sieve, most)
        return is_spent or cannot_pay

    def _request(self, seed: int) -> Chat:
        messages = self.reader.store.example(seed).messages
        return prompts.write_after(self._name(seed), messages, self.wanted.instructions, self.wanted.per_seed)

    def _taken(self, seeds: Sequence[int], replies: Sequence[StoredAnswer | None]) -> Iterator[tuple[int, Origin]]:
        """The written rows that are rows at all, in the store now."""
        answered = [reply for reply in replies if reply is not None]
        found = {n: prompts.rows_in(reply.text) for n, reply in enumerate(replies) if reply and is_said(reply)}
        self.growth.asked += len(answered)
        usable = [rows for rows in found.values() if rows]
        self.growth.unanswered += len(answered) - len(usable)
        if not usable and not self.growth.written and self.growth.asked >= _PATIENCE:
            raise _unusable(GENERATOR, self.wanted.generator.model, self.growth.asked, answered[-1])
        for n, seed in enumerate(seeds):
            reply = replies[n]
            for written in (found.get(n) or ())[: self.wanted.per_seed]:
                self.growth.written += 1
                if reply is not None and (row := self._keep(seed, written)) is not None:
                    yield row, Origin(seed, reply.model)

    def _keep(self, seed: int, written: prompts.WrittenRow) -> int | None:
        """The number of the row in the store, or None for one that could not be learned from."""
        store, number = self.reader.store, self.growth.written
        before = store.example(seed).messages[:-2]
        messages = [*before, Message("user", written.prompt), Message("assistant", written.answer)]
        try:
            self.reader.keep(messages, number, store.labels[seed])
        except RowError as error:
            self.growth.rejected.append((number, "Invalid", str(error)))
            return None
        return len(store) - 1

    def _verdicts(self, kept: dict[int, Origin]) -> tuple[dict[int, StoredAnswer], bool]:
        """What the validator said of each, and whether maxCost is spent."""
        if not kept:
            return {}, False
        store = self.reader.store
        chats = [
            prompts.check(
                self._name(row),
                store.example(origin.seed).messages,
                store.example(row).messages,
                self.wanted.instructions,
            )
            for row, origin in kept.items()
        ]
        replies, is_spent = self.asker.ask(VALIDATOR, chats)
        said = [reply for reply in replies if reply is not None]
        self._checked += len(said)
        self._verdicts_had += sum(is_said(reply) and prompts.is_correct(reply.text) is not None for reply in said)
        if not self._verdicts_had and self._checked >= _PATIENCE:
            raise _unusable(VALIDATOR, self.wanted.validator.model, self._checked, said[-1])
        return {row: reply for row, reply in zip(kept, replies, strict=True) if reply is not None}, is_spent

    def _settle(self, row: int, origin: Origin, reply: StoredAnswer | None, sieve: Sieve, most: int) -> None:
        verdict = prompts.is_correct(reply.text) if is_said(reply) and reply is not None else None
        if reply is None or verdict is None:
            why = "maxCost was spent before it was checked" if reply is None else f"no verdict ({reply.outcome})"
            self._reject(row, "Unjudged", why)
        elif not verdict:
            self._reject(row, "Incorrect", f"{reply.model} finds it incorrect")
        elif len(self.growth.origins) >= most:
            self._reject(row, "Surplus", "there were enough rows by then")
        else:
            self.growth.origins[row] = Origin(origin.seed, origin.generator, reply.model)
            return
        sieve.forget(row)

    def _reject(self, row: int, reason: str, why: str) -> None:
        self.growth.rejected.append((self.reader.store.place(row)[1], reason, why))

    def _name(self, row: int) -> str:
        return self.reader.store.keys[row].hex()[:16]


def _unusable(name: str, model: str, asked: int, shown: StoredAnswer) -> TrainerError:
    reason, so_far = f"{name.capitalize()}Unusable", f"the {name} {model} gave no usable reply to the first {asked}"
    if shown.outcome == "timedOut":
        # What comes too late may be paid for all the same, so nobody tries all day.
        return Unavailable(
            reason, f"{so_far} questions; to the last one it gave {shown.detail}: raise augmentation.timeoutSeconds"
        )
    return UserMistake(
        reason,
        f"{so_far} questions; the last one was {shown.outcome}: {shown.text[:100]!r} {shown.detail[:150]}. It must"
        f" reply in the JSON that it is asked for alone: choose another {name}, or raise its maxTokens if it thinks at"
        " length",
    )
