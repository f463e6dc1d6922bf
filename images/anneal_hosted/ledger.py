"""What hosted answers cost, on disk, so that no budget is exceeded even by a process that dies.

A question is noted at the most that it can cost before it is sent, and at what it did cost after its answer is
stored. What a killed process had under way may have been paid for, and nobody can know: it counts at its most. Lines
are only ever appended; a line torn by a crash was noted for a question that was not sent yet, or is a true price whose
answer is on disk (`settle_stored`).
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from pathlib import Path

from pydantic import Field, ValidationError

from anneal.api.costs import amount
from anneal.api.model import ApiModel
from anneal_hosted.errors import BUDGET_EXCEEDED, mistake
from anneal_hosted.log import Log, write_lines


class Entry(ApiModel):
    """One line of the ledger."""

    model: str = Field(description="Who was asked.")
    key: str = Field(description="Key of the question, as in the answer file.")
    most: Decimal | None = Field(default=None, description="About to be asked; what that can cost at most.")
    cost: Decimal | None = Field(default=None, description="Asked; what it cost.")
    batch: list[str] | None = Field(default=None, description="`key` is a batch of these questions, about to be sent.")
    name: str | None = Field(default=None, description="What the provider calls that batch.")
    is_over: bool | None = Field(default=None, description="Nothing of that batch is left to do.")


@dataclass(frozen=True)
class Sent:
    """A batch that was announced: our key of it, its questions, and what the provider calls it, if that is known."""

    model: str
    key: str
    keys: Sequence[str]
    name: str | None = None


class Ledger:
    """What was spent, and what is under way. Entries are durable when a method returns."""

    def __init__(self, path: Path, budget: Decimal | None, advice: str = "") -> None:
        """`advice`: what the sentence about a budget that is used up ends with."""
        self._path, self._budget, self._advice = path, budget, advice
        self._spent: dict[str, Decimal] = defaultdict(Decimal)
        self._open: dict[tuple[str, str], Decimal] = {}
        self._batches: dict[tuple[str, str], Sent] = {}
        self._changed = asyncio.Condition()
        self._log = Log(path)
        for entry in _entries(path):
            self._count(entry)
        #: Questions of a process that died, by (model, key): paid for or not, they count at their most.
        self.lost = dict(self._open)
        self._open.clear()

    def spent(self, model: str | None = None) -> Decimal:
        """Spent on `model`, or on all of them, lost questions among it."""
        lost = (cost for (name, _), cost in self.lost.items() if model in (None, name))
        return sum(lost, Decimal(0)) + sum(
            (cost for name, cost in self._spent.items() if model in (None, name)), Decimal(0)
        )

    def settle_stored(self, costs: Mapping[tuple[str, str], Decimal]) -> None:
        """Settles what a dead process had stored the answer of, but not its price."""
        for question in self.lost.keys() & costs.keys():
            del self.lost[question]
            entry = Entry(model=question[0], key=question[1], cost=costs[question])
            write_lines(self._path, _line(entry))
            self._count(entry)

    async def reserve(self, model: str, key: str, most: Decimal) -> None:
        """Notes a request before it is sent; waits for others to be settled where the budget needs it.

        Raises RunError when nothing is under way and the budget does not cover `most`.
        """
        entry = Entry(model=model, key=key, most=most)
        async with self._changed:
            while self._budget is not None and self._total() + most > self._budget:
                if not self._open:
                    raise self._exceeded(model, most)
                await self._changed.wait()
            self._count(entry)
        await self._log.append(_line(entry))

    async def settle(self, model: str, key: str, cost: Decimal) -> None:
        """Notes what a reserved question did cost."""
        entry = Entry(model=model, key=key, cost=cost)
        async with self._changed:
            if (model, key) not in self._open:
                # Asked by a process that died, in a batch that was found again.
                self.lost.pop((model, key), None)
            self._count(entry)
            self._changed.notify_all()
        # Whoever may be asked for this notes it behind this line, so no crash leaves the one without the other.
        await self._log.append(_line(entry))

    async def announce(self, model: str, key: str, wanted: Sequence[tuple[str, Decimal | None]]) -> Sent:
        """Notes a batch before it is sent: of the questions `wanted` (key, the most it can cost) the first that the
        budget covers. Waits and raises as `reserve` does.
        """
        async with self._changed:
            while not (count := self._covered(wanted)):
                if not self._open:
                    raise self._exceeded(model, wanted[0][1] or Decimal(0))
                await self._changed.wait()
            entries = [Entry(model=model, key=key, batch=[question for question, _ in wanted[:count]])]
            entries += [
                Entry(model=model, key=question, most=most) for question, most in wanted[:count] if most is not None
            ]
            for entry in entries:
                self._count(entry)
        await self._log.append(b"".join(map(_line, entries)))
        return self._batches[model, key]

    async def name(self, sent: Sent, name: str) -> None:
        """Notes what the provider calls a batch."""
        await self._note(Entry(model=sent.model, key=sent.key, name=name))

    async def close(self, sent: Sent) -> None:
        """Notes that nothing of a batch is left to do."""
        await self._note(Entry(model=sent.model, key=sent.key, is_over=True))

    def left(self, model: str) -> list[Sent]:
        """The batches of `model` that were announced and of which something is left to do."""
        return [sent for sent in self._batches.values() if sent.model == model]

    def _covered(self, wanted: Sequence[tuple[str, Decimal | None]]) -> int:
        """How many of the first of `wanted` the budget covers."""
        total = self._total()
        for count, (_, most) in enumerate(wanted):
            total += most or 0
            if self._budget is not None and total > self._budget:
                return count
        return len(wanted)

    async def _note(self, entry: Entry) -> None:
        self._count(entry)
        await self._log.append(_line(entry))

    def _total(self) -> Decimal:
        return self.spent() + sum(self._open.values(), Decimal(0))

    def _exceeded(self, model: str, most: Decimal) -> Exception:
        return mistake(
            BUDGET_EXCEEDED,
            f"{amount(self.spent())} of the budget ({self._budget}) are spent, and the next question to {model} may"
            f" cost {amount(most)}, so it is not asked. {self._advice}",
        )

    def _count(self, entry: Entry) -> None:
        question = (entry.model, entry.key)
        if entry.batch is not None:
            self._batches[question] = Sent(entry.model, entry.key, tuple(entry.batch))
            return
        if entry.name is not None and question in self._batches:
            self._batches[question] = replace(self._batches[question], name=entry.name)
            return
        if entry.is_over:
            self._batches.pop(question, None)
            return
        before = self._open.pop(question, Decimal(0))
        if entry.most is not None:
            # Asked again while the first attempt is open: that one was lost.
            self._spent[entry.model] += before
            self._open[question] = entry.most
        elif entry.cost is not None:
            self._spent[entry.model] += entry.cost


def _line(entry: Entry) -> bytes:
    return entry.model_dump_json(by_alias=True, exclude_none=True).encode() + b"\n"


def _entries(path: Path) -> list[Entry]:
    """The whole lines. A last line without an end gets one, torn or not, so that the next one is whole."""
    if not path.exists():
        return []
    content = path.read_bytes()
    if content and not content.endswith(b"\n"):
        with path.open("ab") as stream:
            stream.write(b"\n")
    found = []
    for line in content.split(b"\n"):
        try:
            found.append(Entry.model_validate_json(line))
        except ValidationError:
            continue
    return found
