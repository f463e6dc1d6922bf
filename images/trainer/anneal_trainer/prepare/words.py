"""The words of rows as numbers, and the runs of words by which texts are compared.

Case and punctuation do not tell texts apart, digits do: a refund of 10 is not a refund of 500. Scripts without spaces
count each character as a word. A text that is shorter than a run is one run of its own, so that short rows are compared
like all others.
"""

from __future__ import annotations

import re
from array import array
from dataclasses import dataclass
from itertools import count

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

#: Kana, CJK ideographs, Thai, Lao, Khmer and Burmese are written without spaces between words.
_UNSPACED = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
_WORD = re.compile(f"[{_UNSPACED}]|[^\\W_{_UNSPACED}]+")
_MIX = np.uint64(0x9E3779B97F4A7C15)
#: A run that more than this share of the rows has, and more than this many rows, is their template: it says nothing of
#: any of them, and by it all would be alike.
TEMPLATE_SHARE, TEMPLATE_ROWS = 0.1, 20

Numbers = NDArray[np.int64]


@dataclass(frozen=True)
class Words:
    """Texts as numbers of words: text i is words[starts[i]:ends[i]]. 0 is no word."""

    words: NDArray[np.uint32]
    starts: Numbers
    ends: Numbers

    def __len__(self) -> int:
        return len(self.starts)

    @property
    def counts(self) -> Numbers:
        """(texts,) how many words each has."""
        counts: Numbers = self.ends - self.starts
        return counts

    def of(self, text: int) -> NDArray[np.uint32]:
        return self.words[self.starts[text] : self.ends[text]]

    def chosen(self, texts: NDArray[np.integer] | slice) -> Words:
        return Words(self.words, self.starts[texts], self.ends[texts])


class Dialogues:
    """The words of many rows, question and answer one after the other, in four bytes a word.

    With `kin`, words have the numbers that they have there.
    """

    def __init__(self, kin: Dialogues | None = None) -> None:
        self._known: dict[str, int] = {} if kin is None else kin._known
        self._next: count[int] = count(1) if kin is None else kin._next
        self._words = array("I")
        self._borders = array("q", [0])

    def __len__(self) -> int:
        return len(self._borders) // 2

    def followed_by(self, kin: Dialogues) -> Dialogues:
        """A copy with the rows of `kin`, of the same words, after its own."""
        both = Dialogues(self)
        both._words = self._words + kin._words
        both._borders = self._borders + array("q", [len(self._words) + border for border in kin._borders[1:]])
        return both

    def add(self, question: str, answer: str) -> None:
        for text in (question, answer):
            known, following = self._known, self._next
            found = _WORD.findall(text.casefold())
            self._words.extend([known.get(w) or known.setdefault(w, next(following)) for w in found])
            self._borders.append(len(self._words))

    @property
    def questions(self) -> Words:
        return self._between(0, 1)

    @property
    def answers(self) -> Words:
        return self._between(1, 2)

    @property
    def whole(self) -> Words:
        return self._between(0, 2)

    def _between(self, first: int, second: int) -> Words:
        # Copied: an array whose memory is lent out can no longer grow.
        borders = np.array(self._borders, dtype=np.int64)
        ends = borders[second::2]
        return Words(np.array(self._words, dtype=np.uint32), borders[first::2][: len(ends)], ends)

    def are_numbers(self) -> NDArray[np.bool_]:
        """(words + 1,) whether a word is written in digits, by its number."""
        found = np.zeros(len(self._known) + 1, dtype=np.bool_)
        found[[n for word, n in self._known.items() if word[0].isdigit()]] = True
        return found


@dataclass(frozen=True)
class Runs:
    """Which text has which runs of words: `has` is (texts, distinct runs), 1 where it has."""

    has: sparse.csr_array

    @property
    def sizes(self) -> Numbers:
        """(texts,) distinct runs of each."""
        sizes: Numbers = np.diff(self.has.indptr).astype(np.int64)
        return sizes


def runs(texts: Words, length: int) -> Runs:
    """The runs of `length` words of every text, without those of the template that most share.

    A text of nothing but template is one run: itself, whole.
    """
    has = _incidence(*codes(texts, length), len(texts))
    return Runs(_without_template(has, texts))


def codes(texts: Words, length: int) -> tuple[NDArray[np.uint64], Numbers]:
    """(code, text) of every run of `length` words; a text that is shorter is one run."""
    per_text = np.maximum(texts.counts - length + 1, 1)
    of = np.repeat(np.arange(len(texts)), per_text)
    at = np.arange(per_text.sum()) + np.repeat(texts.starts - np.cumsum(per_text) + per_text, per_text)
    limit = np.repeat(texts.ends, per_text)
    padded = np.append(texts.words, np.uint32(0))
    mixed = np.zeros(len(at), dtype=np.uint64)
    for step in range(length):
        word = padded[np.where(at + step < limit, at + step, len(texts.words))]
        mixed = (mixed + word.astype(np.uint64) + np.uint64(1)) * _MIX
        mixed ^= mixed >> np.uint64(29)
    return mixed, of


def _incidence(found: NDArray[np.uint64], of: Numbers, texts: int) -> sparse.csr_array:
    distinct, column = np.unique(found, return_inverse=True)
    shape = (texts, max(1, len(distinct)))
    has = sparse.coo_array((np.ones(len(of), dtype=np.int32), (of, column)), shape=shape).tocsr()
    has.data[:] = 1  # however often a text has a run
    return has


def _without_template(has: sparse.csr_array, texts: Words) -> sparse.csr_array:
    template = np.bincount(has.indices, minlength=has.shape[1]) > max(TEMPLATE_ROWS, TEMPLATE_SHARE * has.shape[0])
    if not template.any():
        return has
    keep = ~template[has.indices]
    of = np.repeat(np.arange(has.shape[0]), np.diff(has.indptr))
    bare = np.flatnonzero(np.bincount(of[keep], minlength=has.shape[0]) == 0)
    known: dict[bytes, int] = {}
    whole = [known.setdefault(texts.of(int(text)).tobytes(), has.shape[1] + len(known)) for text in bare]
    members = np.concatenate([has.indices[keep], np.array(whole, dtype=np.int64)]).astype(np.uint64)
    return _incidence(members, np.concatenate([of[keep], bare]), has.shape[0])
