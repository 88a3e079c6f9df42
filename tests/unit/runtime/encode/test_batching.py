"""Which inputs go together."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from nsedge.runtime.encode.batching import MAX_PADDING, Batcher, Input
from nsedge.runtime.encode.rows import Picture
from tests.unit.runtime.encode.rig import Rig


def batcher_of(*lengths: int) -> Batcher:
    rig, batcher = Rig(), Batcher()
    rig.ask("a", (1,))
    for due_s, length in enumerate(lengths):
        batcher.add(Input(rig.works["a"], due_s, (1,) * length, due_s))
    return batcher


def taken(batcher: Batcher, *, budget: int = 100, rows: int = 10) -> list[int]:
    return [one.length for one in batcher.take(budget_tokens=budget, max_rows=rows)]


def test_the_one_that_is_due_first_is_in_the_batch_with_those_of_its_length() -> None:
    batcher = batcher_of(10, 50, 10, 11, 3)
    assert taken(batcher) == [10, 10, 11]
    assert taken(batcher) == [50]
    assert taken(batcher) == [3]
    assert taken(batcher) == []


def test_a_budget_bounds_rows_times_the_longest() -> None:
    assert taken(batcher_of(10, 10, 10, 10), budget=30) == [10, 10, 10]
    assert taken(batcher_of(10, 10, 10), rows=2) == [10, 10]


def test_one_goes_even_where_it_is_beyond_the_budget() -> None:
    assert taken(batcher_of(200), budget=10) == [200]


def test_pictures_go_with_pictures_however_long_texts_are() -> None:
    rig, batcher = Rig(), Batcher()
    rig.ask("a", (1,))
    rows = [(1,) * 10, picture(10), (1,) * 10, picture(10), picture(10)]
    for due_s, row in enumerate(rows):
        batcher.add(Input(rig.works["a"], due_s, row, due_s))
    batches = []
    while batch := batcher.take(budget_tokens=20, max_rows=8):
        assert len({one.is_picture for one in batch}) == 1
        batches.append(sorted(one.index for one in batch))
    assert batches == [[0, 2], [1, 3], [4]]


def picture(patches: int) -> Picture:
    return Picture(np.zeros((3, 2, 2), np.uint8), patches)


@given(st.lists(st.integers(1, 64), min_size=1, max_size=60))
def test_batches_hold_their_bounds_and_nothing_is_lost(lengths: list[int]) -> None:
    batcher, seen = batcher_of(*lengths), []
    while len(batcher):
        first = min(batcher, key=lambda one: one.due_s)
        batch = batcher.take(budget_tokens=128, max_rows=8)
        assert first in batch
        padded = len(batch) * max(one.length for one in batch)
        assert len(batch) <= 8
        assert len(batch) == 1 or padded <= 128
        assert sum(one.length for one in batch) >= (1 - MAX_PADDING) * padded
        seen += [one.index for one in batch]
    assert sorted(seen) == list(range(len(lengths)))
