"""Which texts are much alike: all pairs, exactly, without looking at all pairs.

Two sets whose Jaccard index is at least t share one of the rarest few of their members: of n members, the
n - ceil(t n) + 1 rarest (prefix filtering: Chaudhuri, Ganti and Kaushik 2006; Bayardo, Ma and Srikant 2007). Only pairs
that share one are counted out, so nothing is missed, as sketches miss some, and a hundred thousand rows take seconds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from anneal_trainer.prepare.words import Numbers, Runs

#: Products of one block and members of one comparison: bounds memory to some hundred megabytes.
_BLOCK = 8_000_000
Pairs = tuple[Numbers, Numbers]


def pairs(runs: Runs, threshold: float, check: Callable[[], None]) -> Pairs:
    """(i, j), i < j, of all pairs of texts with a Jaccard index of at least `threshold`, in order.

    `check` is called now and then, to let a run be interrupted.
    """
    has = _rarest_first(runs.has)
    rare = _rarest(has, threshold)
    found = [np.zeros((2, 0), dtype=np.int64)]
    for first, second in _candidates(rare, runs.sizes, threshold):
        check()
        close = jaccard(has, first, second) >= threshold - 1e-9
        found.append(np.stack([first[close], second[close]]))
    both = np.concatenate(found, axis=1)
    order = np.lexsort((both[1], both[0]))
    return both[0][order], both[1][order]


def jaccard(has: sparse.csr_array, first: Numbers, second: Numbers) -> NDArray[np.float64]:
    """(pairs,) the Jaccard index of each pair of texts; 1 for two texts without any run."""
    sizes = np.diff(has.indptr).astype(np.int64)
    common = np.zeros(len(first), dtype=np.int64)
    for part in _parts(sizes[first] + sizes[second]):
        common[part] = (has[first[part]] * has[second[part]]).sum(axis=1)
    either = sizes[first] + sizes[second] - common
    return np.where(either > 0, common / np.maximum(either, 1), 1.0)


def _rarest_first(has: sparse.csr_array) -> sparse.csr_array:
    """The same sets with their members numbered by how few texts have them."""
    rank = np.empty(has.shape[1], dtype=np.int64)
    rank[np.argsort(np.bincount(has.indices, minlength=has.shape[1]), kind="stable")] = np.arange(has.shape[1])
    sorted_ = sparse.csr_array((has.data, rank[has.indices], has.indptr), shape=has.shape)
    sorted_.sort_indices()
    return sorted_


def _rarest(has: sparse.csr_array, threshold: float) -> sparse.csr_array:
    """Of each text the rarest members, one of which any text must have that is much alike."""
    sizes = np.diff(has.indptr).astype(np.int64)
    wanted = sizes - np.ceil(threshold * sizes - 1e-9).astype(np.int64) + 1
    of = np.repeat(np.arange(len(sizes)), sizes)
    keep = np.arange(has.nnz) - has.indptr[:-1][of] < wanted[of]
    shared = np.bincount(has.indices[keep], minlength=has.shape[1]) > 1
    keep &= shared[has.indices]
    indptr = np.concatenate([[0], np.cumsum(np.bincount(of[keep], minlength=len(sizes)))])
    return sparse.csr_array((has.data[keep], has.indices[keep], indptr), shape=has.shape)


def _candidates(rare: sparse.csr_array, sizes: Numbers, threshold: float) -> Iterator[Pairs]:
    """Pairs i < j that share one of their rarest members and are of sizes that can be alike."""
    those_with = rare.T.tocsr()
    spread = np.bincount(rare.indices, minlength=rare.shape[1])[rare.indices]
    work = np.concatenate([[0], np.cumsum(spread)])
    for part in _parts(work[rare.indptr[1:]] - work[rare.indptr[:-1]]):
        product = (rare[part] @ those_with).tocoo()
        first, second = product.row.astype(np.int64) + part.start, product.col.astype(np.int64)
        small, large = np.minimum(sizes[first], sizes[second]), np.maximum(sizes[first], sizes[second])
        keep = (first < second) & (small >= threshold * large - 1e-9)
        yield first[keep], second[keep]


def _parts(work: Numbers) -> Iterator[slice]:
    """Stretches of about _BLOCK work each, none empty."""
    ends = np.cumsum(work)
    start = 0
    while start < len(work):
        done = ends[start - 1] if start else 0
        end = max(start + 1, int(np.searchsorted(ends, done + _BLOCK, side="right")))
        yield slice(start, end)
        start = end
