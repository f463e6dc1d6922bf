"""Rows that say what another row says: equal rows, one question with several answers, and questions much alike."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.sparse.csgraph import connected_components

from anneal_trainer.prepare import similar
from anneal_trainer.prepare.similar import Pairs
from anneal_trainer.prepare.store import Store
from anneal_trainer.prepare.words import Numbers, Words, runs

#: Words of the runs by which two texts are compared.
RUN = 3


def exact(keys: Sequence[bytes]) -> dict[int, int]:
    """Of each row that an earlier row equals, the first of them."""
    first: dict[bytes, int] = {}
    return {row: first[key] for row, key in enumerate(keys) if first.setdefault(key, row) != row}


def conflicts(rows: Iterable[int], store: Store) -> list[list[int]]:
    """Groups of rows with one prompt and different answers."""
    answers: dict[bytes, dict[bytes, int]] = {}
    for row in rows:
        answers.setdefault(store.prompts[row], {}).setdefault(store.keys[row], row)
    return [list(different.values()) for different in answers.values() if len(different) > 1]


def near(store: Store, pairs: Pairs, threshold: float) -> dict[int, int]:
    """Of each row that repeats an earlier one but for a few words, that one, which repeats no other itself.

    Prompts are much alike (`pairs`), answers too, and numbers are equal: rows that tell a model where the border
    between two answers is differ in one word, and are the last ones to be left out.
    """
    first, second = pairs
    close = similar.jaccard(runs(store.words.answers, RUN).has, first, second) >= threshold - 1e-9
    first, second = first[close], second[close]
    is_number = store.words.are_numbers()
    numbers = [_numbers(words, is_number) for words in (store.words.questions, store.words.answers)]
    repeats: dict[int, int] = {}
    for i, j in zip(first.tolist(), second.tolist(), strict=True):
        same = all(of(i) == of(j) for of in numbers)
        if same and i not in repeats and j not in repeats:
            repeats[j] = i
    return repeats


def _numbers(texts: Words, is_number: NDArray[np.bool_]) -> Callable[[int], list[int]]:
    def of(text: int) -> list[int]:
        own = texts.of(text)
        return sorted(own[is_number[own]].tolist())

    return of


def groups(store: Store, pairs: Pairs | None) -> Numbers:
    """(rows,) a number that rows have in common which must stay together: one prompt, one group, prompts much alike."""
    linked = [np.array(list(pairs), dtype=np.int64)] if pairs is not None else []
    linked += [_links(store.prompts), _links([group for _, group in store.labels])]
    first, second = np.concatenate(linked, axis=1)
    ones = np.ones(len(first), dtype=np.int8)
    graph = sparse.coo_array((ones, (first, second)), shape=(len(store), len(store)))
    return np.asarray(connected_components(graph, directed=False)[1], dtype=np.int64)


def _links(names: Sequence[object]) -> Numbers:
    """(2, links) from the first row with a name to each further one; the empty name links nothing."""
    first: dict[object, int] = {}
    links = [(first.setdefault(name, row), row) for row, name in enumerate(names) if name]
    return np.array(links, dtype=np.int64).reshape(-1, 2).T
