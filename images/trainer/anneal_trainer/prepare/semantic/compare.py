"""From questions to those that ask the same: embeddings propose pairs, and a verifier, if there is one, decides.

This is how decontamination beyond words is done (Yang et al., "Rethinking Benchmark and Contamination for Language
Models with Rephrased Samples", arXiv 2311.04850): nearest neighbours, then a model that is asked about each pair. Who
cannot be asked has not said no: without all vectors there is no result, a pair without a verdict counts as the same.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from anneal.api.runs import EMBEDDER, VERIFIER
from anneal.api.semantic import SemanticCheck
from anneal_hosted.answers import StoredAnswer
from anneal_hosted.errors import BUDGET_EXCEEDED
from anneal_trainer.errors import TrainerError, Unavailable, UserMistake
from anneal_trainer.prepare.asking import Asker, is_said
from anneal_trainer.prepare.chat import Message
from anneal_trainer.prepare.documents import Chat
from anneal_trainer.prepare.semantic.prompts import compare, is_same
from anneal_trainer.prepare.store import Store

#: More of a question is not embedded: most models read 8,192 tokens.
MOST_CHARACTERS = 8_000
#: So many questions can be compared: their vectors are kept in memory and in the workspace.
MOST_QUESTIONS = 20_000
_TEXTS_A_REQUEST = 64
_BLOCK_ROWS = 2_048
#: So many pairs without one verdict tell that there will be none.
_PATIENCE = 8

T = TypeVar("T")
Vectors = NDArray[np.float32]


@dataclass
class Meanings:
    """Compares rows of a store by what they ask. What was asked once is not asked again.

    Attributes:
        pairs: pairs of different questions from the threshold on.
        unjudged: of these, those that the verifier gave no verdict of.
    """

    wanted: SemanticCheck
    store: Store
    asker: Asker
    check: Callable[[], None]
    embedder: str = ""
    verifier: str = ""
    pairs: int = 0
    unjudged: int = 0
    _vectors: dict[str, Vectors] = field(default_factory=dict)
    _verdicts: dict[tuple[str, str], bool | None] = field(default_factory=dict)

    @property
    def compared(self) -> int:
        """Different questions that were embedded."""
        return len(self._vectors)

    def leaks(self, train: Sequence[int], held_out: Sequence[int]) -> dict[int, tuple[int, str]]:
        """Of each row of `train` that asks what one of `held_out` asks, (that row, how sure it is in words).

        Raises UserMistake, Unavailable, Preempted.
        """
        if not train or not held_out:
            return {}
        questions = {row: self._question(row) for row in (*held_out, *train)}
        self._embed(dict.fromkeys(filter(None, questions.values())))
        rows, others = ([r for r in side if questions[r]] for side in (list(dict.fromkeys(train)), held_out))
        near = list(self._near(rows, others, questions))
        self._verify([(questions[row], questions[other]) for row, other, _ in near])
        self.pairs = len({(questions[row], questions[other]) for row, other, _ in near})
        found: dict[int, tuple[int, str]] = {}
        for row, other, likeness in near:
            verdict = self._verdicts.get((questions[row], questions[other]), True)
            if verdict is not False:
                doubt = "" if verdict else ", nobody could tell"
                found.setdefault(row, (other, f"cosine similarity {likeness:.2f}{doubt}"))
        return found

    def _question(self, row: int) -> str:
        """What a row asks, without the system prompt, which many share."""
        prompt = self.store.example(row).prompt
        return "\n".join(message.said for message in prompt if message.role != "system").strip()[:MOST_CHARACTERS]

    def _embed(self, questions: dict[str, None]) -> None:
        missing = [question for question in questions if question not in self._vectors]
        if len(self._vectors) + len(missing) > MOST_QUESTIONS:
            raise UserMistake(
                "TooManyToCompare",
                f"{len(self._vectors) + len(missing)} different questions: {self.asker.field} compares at most"
                f" {MOST_QUESTIONS}. Take it out, or prepare fewer rows",
            )
        requests = _parts(missing, _TEXTS_A_REQUEST)
        replies, is_spent = self.asker.ask(EMBEDDER, [_texts(n, texts) for n, texts in enumerate(requests)])
        for texts, reply in zip(requests, replies, strict=True):
            if reply is None and is_spent:
                raise self._too_dear()
            if reply is None or not is_said(reply):
                raise _unusable(EMBEDDER, self.wanted.embedder.model, reply)
            self.embedder = reply.model
            vectors = np.frombuffer(base64.b64decode(reply.text), dtype="<f4").reshape(len(texts), -1)
            self._vectors |= zip(texts, vectors, strict=True)
        if len({len(vector) for vector in self._vectors.values()}) > 1:
            raise _unusable(EMBEDDER, self.wanted.embedder.model, None)

    def _near(
        self, rows: Sequence[int], others: Sequence[int], questions: dict[int, str]
    ) -> Iterator[tuple[int, int, float]]:
        """(row, other, cosine similarity) from the threshold on, of each row the nearest first."""
        if not rows or not others:
            return
        against = np.stack([self._vectors[questions[other]] for other in others])
        most = 1 if self.wanted.verifier is None else self.wanted.neighbours
        for block in _parts(rows, _BLOCK_ROWS):
            self.check()
            # Rounded, so that sums in another order choose the same.
            likeness = np.round(np.stack([self._vectors[questions[row]] for row in block]) @ against.T, 4)
            nearest = np.argsort(-likeness, axis=1, kind="stable")[:, :most]
            for at, row in enumerate(block):
                for other in nearest[at].tolist():
                    if likeness[at, other] >= float(self.wanted.threshold):
                        yield row, others[other], float(likeness[at, other])

    def _verify(self, pairs: Sequence[tuple[str, str]]) -> None:
        """Verdicts of all pairs; None where there is none."""
        if self.wanted.verifier is None:
            return
        missing = [pair for pair in dict.fromkeys(pairs) if pair not in self._verdicts]
        replies, is_spent = self.asker.ask(VERIFIER, [compare(str(n), *pair) for n, pair in enumerate(missing)])
        if is_spent and None in replies:
            raise self._too_dear()
        for pair, reply in zip(missing, replies, strict=True):
            self._verdicts[pair] = is_same(reply.text) if reply is not None and is_said(reply) else None
            self.verifier = self.verifier or (reply.model if reply is not None else "")
        self.unjudged = sum(verdict is None for verdict in self._verdicts.values())
        if len(self._verdicts) >= _PATIENCE and self.unjudged == len(self._verdicts):
            raise _unusable(VERIFIER, self.wanted.verifier.model, replies[-1] if replies else None)

    def _too_dear(self) -> TrainerError:
        return UserMistake(
            BUDGET_EXCEEDED,
            f"{self.asker.field}.maxCost ({self.wanted.max_cost}) does not suffice to compare all rows, so nobody"
            " knows whether any gives a held-out row away: raise it in a new FineTuneJob. Replies so far are paid for",
        )


def _parts(items: Sequence[T], size: int) -> list[Sequence[T]]:
    return [items[start : start + size] for start in range(0, len(items), size)]


def _texts(number: int, texts: Sequence[str]) -> Chat:
    return Chat(str(number), [Message("user", text) for text in texts])


def _unusable(name: str, model: str, shown: StoredAnswer | None) -> TrainerError:
    reason, said = f"{name.capitalize()}Unusable", f"the {name} {model} gave no usable reply"
    if shown is None:
        return UserMistake(reason, f"{said}: vectors of different lengths. Choose another one")
    if shown.outcome == "timedOut":
        return Unavailable(reason, f"{said}: {shown.detail}. Raise dataset.leakCheck.semantic.timeoutSeconds")
    return UserMistake(
        reason,
        f"{said}; the last one was {shown.outcome}: {shown.text[:100]!r} {shown.detail[:200]}. Choose another one in a"
        " new FineTuneJob",
    )
