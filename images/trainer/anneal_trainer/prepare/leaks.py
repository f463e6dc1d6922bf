"""The last look: is anything that is trained on much like anything that is held out?

The split keeps what is alike together, so after a draw this proves that it did; of a held-out file from elsewhere it is
the only proof. Two ways in which a row gives a held-out answer away: its prompt is much alike (Jaccard index of word
triples), or the held-out prompt is inside of it, among other text (share of its runs of eight words).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from anneal_trainer.prepare.words import TEMPLATE_ROWS, TEMPLATE_SHARE, Dialogues, Numbers, Runs, Words, codes

#: Runs of this many words seldom meet by chance (the lower of the two lengths usual for decontamination, 8 and 13).
LONG_RUN = 8
_BLOCK_ROWS = 20_000


def find(
    words: Dialogues, questions: Runs, train: Sequence[int], held_out: Sequence[int], threshold: float
) -> dict[int, int]:
    """Of each row of `train` that gives one of `held_out` away, the one that it is most like.

    `questions` are the runs of three words of all prompts.
    """
    if not train or not held_out:
        return {}
    rows, others = np.asarray(train), np.asarray(held_out)
    long = _LongRuns(words.questions.chosen(others))
    whole = words.whole
    found: dict[int, int] = {}
    for start in range(0, len(rows), _BLOCK_ROWS):
        block = rows[start : start + _BLOCK_ROWS]
        likeness = _alike(questions, block, others).maximum(long.share_in(whole.chosen(block)))
        found |= _closest(likeness, block, others, threshold)
    return found


def _alike(questions: Runs, rows: Numbers, others: Numbers) -> sparse.csr_array:
    """(rows, others) the Jaccard index of prompts."""
    common = (questions.has[rows] @ questions.has[others].T).tocoo()
    sizes = questions.sizes
    either = sizes[rows[common.row]] + sizes[others[common.col]] - common.data
    return sparse.csr_array((common.data / either, (common.row, common.col)), shape=common.shape)


class _LongRuns:
    """The long runs of the held-out prompts that have any, without those of the template."""

    def __init__(self, prompts: Words) -> None:
        found, of = codes(prompts, LONG_RUN)
        counted = prompts.counts[of] >= LONG_RUN
        self._known, columns = np.unique(found[counted], return_inverse=True)
        shape = (len(prompts), max(1, len(self._known)))
        has = sparse.coo_array((np.ones(len(columns)), (of[counted], columns)), shape=shape).tocsr()
        has.data[:] = 1
        often = np.asarray(has.sum(axis=0)) > max(TEMPLATE_ROWS, TEMPLATE_SHARE * len(prompts))
        self._has = sparse.csr_array(has * ~often)
        self._has.eliminate_zeros()

    def share_in(self, texts: Words) -> sparse.csr_array:
        """(texts, prompts) the share of the runs of each prompt that a text has."""
        found, of = codes(texts, LONG_RUN)
        common = self._in(found, of, len(texts)) @ self._has.T
        sizes = np.maximum(np.diff(self._has.indptr), 1)
        return sparse.csr_array(common / sizes)

    def _in(self, found: NDArray[np.uint64], of: Numbers, texts: int) -> sparse.csr_array:
        columns = np.searchsorted(self._known, found)
        known = np.zeros(len(found), dtype=np.bool_)
        if len(self._known):
            columns = np.minimum(columns, len(self._known) - 1)
            known = self._known[columns] == found
        shape = (texts, self._has.shape[1])
        has = sparse.coo_array((np.ones(known.sum()), (of[known], columns[known])), shape=shape).tocsr()
        has.data[:] = 1
        return has


def _closest(likeness: sparse.csr_array, rows: Numbers, others: Numbers, threshold: float) -> dict[int, int]:
    cells = sparse.coo_array(likeness)
    near = cells.data >= threshold - 1e-9
    order = np.lexsort((cells.col[near], -cells.data[near], cells.row[near]))
    found: dict[int, int] = {}
    for row, other in zip(cells.row[near][order], cells.col[near][order], strict=True):
        found.setdefault(int(rows[row]), int(others[other]))
    return found
