"""Where rows lie in a pass and which of them share: rules that hold for any lengths and any beginnings."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from anneal_trainer.fit.packing import best_fit, collate, passes_of
from anneal_trainer.fit.prefix import LEAST_SAVING, Group, groups
from anneal_trainer.prepare.template import Rendered
from anneal_trainer.rows import TrainingRows, flatten

CPU = torch.device("cpu")


@st.composite
def datasets(draw: st.DrawFn) -> TrainingRows:
    """Rows of few different tokens, so that many begin alike, in trees of all shapes."""
    rows = []
    for _ in range(draw(st.integers(1, 9))):
        tokens = draw(st.lists(st.integers(0, 1), min_size=2, max_size=14))
        answer = draw(st.integers(1, len(tokens) - 1))
        marks = [False] * (len(tokens) - answer) + draw(st.lists(st.booleans(), min_size=answer, max_size=answer))
        marks[len(tokens) - answer] = True
        rows.append(Rendered(tokens, marks))
    return flatten(rows)


def saved(found: list[Group]) -> int:
    return sum(g.shared * (len(g.rows) - 1) for g in found)


@settings(deadline=None)
@given(rows=datasets())
def test_groups_hold_every_row_once_and_share_what_is_alike_and_not_labelled(rows: TrainingRows) -> None:
    found = groups(rows, np.arange(len(rows)))
    assert sorted(i for g in found for i in g.rows) == list(range(len(rows)))
    for group in (g for g in found if g.shared):
        assert len(group.rows) > 1
        tokens, labelled = zip(*(rows.row(i) for i in group.rows), strict=True)
        assert len({t[: group.shared].tobytes() for t in tokens}) == 1
        # The first token that a row has for itself is not labelled either: the shared part cannot predict it.
        assert not any(marks[: group.shared + 1].any() for marks in labelled)
        assert group.shared * (len(group.rows) - 1) >= LEAST_SAVING * sum(map(len, tokens))


#: One of the rows is long: of two rows that begin alike too little is saved, of all four enough.
ONE_LONG = [
    Rendered([0] * length, [n == answer for n in range(length)]) for length, answer in ((3, 2), (4, 3), (9, 2), (4, 3))
]


@settings(deadline=None, max_examples=60)
@example(rows=flatten(ONE_LONG))
@given(rows=datasets())
def test_no_single_group_would_save_more(rows: TrainingRows) -> None:
    """The best of all pairs and of all rows that begin like a pair is found, or better."""
    found = saved(groups(rows, np.arange(len(rows))))
    for one, other in combinations(range(len(rows)), 2):
        limit = min(int(np.argmax(rows.row(i)[1])) - 1 for i in (one, other))
        first, second = (rows.row(i)[0] for i in (one, other))
        for shared in range(1, limit + 1):
            if first[shared - 1] != second[shared - 1]:
                break
            alike = [
                i for i in range(len(rows))
                if np.argmax(rows.row(i)[1]) > shared and (rows.row(i)[0][:shared] == first[:shared]).all()
            ]  # fmt: skip
            gain = shared * (len(alike) - 1)
            if gain >= LEAST_SAVING * sum(int(rows.lengths[i]) for i in alike):
                assert found >= gain


@settings(deadline=None)
@given(rows=datasets(), best=st.integers(4, 40), most=st.integers(4, 60), data=st.data())
def test_a_pass_predicts_every_label_from_the_tokens_before_it(
    rows: TrainingRows, best: int, most: int, data: st.DataObject
) -> None:
    """Each label's row is found again by following, in the line, what attention may see of it."""
    indices = np.array(data.draw(st.permutations(range(len(rows)))))
    passes = passes_of(groups(rows, indices), rows, best, most)
    assert sorted(i for part in passes for g in part for i in g.rows) == list(range(len(rows)))
    predicted = []
    for part in passes:
        batch = collate(part, rows, CPU)
        layout, line = batch.inputs["layout"], batch.tokens[0]
        assert sum(layout.lengths) == len(line) == len(batch.inputs["position_ids"][0])
        assert len(line) <= most or sum(len(g.rows) for g in part) == 1
        places = torch.arange(len(line)).split(layout.lengths)
        for where, target in zip(batch.where.tolist(), batch.targets.tolist(), strict=True):
            number = next(n for n, p in enumerate(places) if where in p)
            after = layout.spans[number].after
            seen = [*(places[after].tolist() if after is not None else []), *places[number].tolist()]
            seen = seen[: seen.index(where) + 1]
            assert batch.inputs["position_ids"][0, seen].tolist() == list(range(len(seen)))
            predicted.append((line[seen].tolist(), target))
    expected = [
        (tokens[:place].tolist(), int(tokens[place]))
        for tokens, labelled in (rows.row(i) for i in range(len(rows)))
        for place in np.flatnonzero(labelled)
    ]
    assert sorted(predicted) == sorted(expected)


@settings(deadline=None)
@given(sizes=st.lists(st.integers(1, 30), max_size=40), capacity=st.integers(1, 40))
def test_bins_are_full_enough(sizes: list[int], capacity: int) -> None:
    bins = best_fit(sizes, capacity)
    assert sorted(i for b in bins for i in b) == list(range(len(sizes)))
    filled = [sum(sizes[i] for i in b) for b in bins]
    assert all(f <= capacity or len(b) == 1 for f, b in zip(filled, bins, strict=True))
    # No two bins would fit into one: what best fit guarantees.
    assert all(a + b > capacity for a, b in combinations(filled, 2))


def test_the_kernel_for_rows_of_any_length_is_told_the_same() -> None:
    """What attention on accelerators gets: places of keys, and where those of each row begin."""
    first, second = (
        Rendered([1, 2, 3, 4, 5, 6], [False] * 5 + [True]),
        Rendered([1, 2, 3, 9, 9, 9, 9], [False] * 6 + [True]),
    )
    layout = collate([Group((0, 1), 3)], flatten([first, second]), CPU).inputs["layout"]
    assert layout.lengths == [3, 2, 3]
    assert layout.queries.tolist() == [0, 3, 5, 8]
    assert layout.keys.tolist() == [0, 3, 8, 14]
    assert layout.seen.tolist() == [0, 1, 2, 0, 1, 2, 3, 4, 0, 1, 2, 5, 6, 7]
    assert layout.longest == (3, 6)
    assert collate([Group((0,)), Group((1,))], flatten([first, second]), CPU).inputs["layout"].seen is None
