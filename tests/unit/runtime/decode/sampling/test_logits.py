"""What is asked of logits, against what NumPy says of the whole."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from nsedge.runtime.decode.sampling.logits import HostLogits

sizes = st.sampled_from([1, 5, 63, 64, 65, 640, 1000, 8192])


def some(seed: int, rows: int, size: int, levels: int) -> NDArray[np.float32]:
    """Few levels make many equal ones."""
    drawn = np.random.default_rng(seed).integers(-levels, levels, (rows, size), endpoint=True)
    return drawn.astype(np.float32)


@settings(max_examples=100, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    rows=st.integers(1, 5),
    size=sizes,
    levels=st.sampled_from([1, 3, 10**6]),
    more=st.booleans(),
)
def test_the_best_is_the_first_of_the_greatest(
    seed: int, rows: int, size: int, levels: int, more: bool
) -> None:
    array = some(seed, rows, size, levels)
    ids, values = HostLogits(array).best(more=more)
    assert ids.tolist() == array.argmax(axis=1).tolist()
    assert values.tolist() == array.max(axis=1).tolist()


@pytest.mark.parametrize("more", [False, True])
def test_what_is_no_number_shows_in_the_best(more: bool) -> None:
    array = np.ones((3, 640), np.float32)
    array[0, 77], array[1, 600] = np.nan, np.inf
    assert np.isfinite(HostLogits(array).best(more=more)[1]).tolist() == [False, False, True]


@settings(max_examples=100, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    size=sizes,
    levels=st.sampled_from([1, 30, 10**6]),
    count=st.sampled_from([1, 4, 64, 1000]),
    more=st.booleans(),
    left_out=st.floats(0.0, 1.0),
)
def test_the_greatest_are_there_whatever_else_is(
    seed: int, size: int, levels: int, count: int, more: bool, left_out: float
) -> None:
    array = some(seed, 4, size, levels)
    array[np.random.default_rng(seed).random(array.shape) < left_out] = -np.inf
    logits = HostLogits(array)
    if more:
        logits.best(more=True)
    rows = [3, 0]
    found = logits.greatest(rows, count)
    for place, row in enumerate(rows):
        number = int(found.counts[place])
        ids = found.ids[place, :number]
        assert ids.tolist() == sorted(set(ids.tolist()))
        assert found.values[place, :number].tolist() == array[row, ids].tolist()
        assert (found.values[place, number:] == -np.inf).all()
        others = np.delete(array[row], ids)
        finite = int(np.isfinite(array[row]).sum())
        assert number >= min(count, finite)
        if others.size and number:
            assert others.max() <= array[row, ids].min()
        if found.whole[place]:
            assert not np.isfinite(others).any()
        else:
            assert number >= count


def test_edits_are_seen_by_whatever_is_asked_then() -> None:
    logits = HostLogits(np.ones((2, 128), np.float32))
    logits.best(more=True)
    array, places = logits.edit([1])
    array[places[0], 5] = 9.0
    assert logits.best(more=True)[0].tolist() == [0, 5]
    assert logits.greatest([1], 1).ids[0, 0] == 5
    assert logits.row(1)[5] == 9.0


def test_rows_may_be_left_out() -> None:
    array = np.arange(12, dtype=np.float32).reshape(3, 4)
    assert HostLogits(array).select([2, 0]).row(1).tolist() == [0.0, 1.0, 2.0, 3.0]
    assert HostLogits(array).select([]).array.shape == (0, 4)
    for rows in ([0, 1, 2], [1, 2], [2]):
        assert np.shares_memory(HostLogits(array).select(rows).array, array), "nothing is copied"
    assert HostLogits(array).vocabulary == 4


def test_a_row_of_zeros_is_blank_and_no_other() -> None:
    array = np.zeros((3, 500), np.float32)
    array[1, 499], array[2, 0] = 1e-30, -1.0
    assert HostLogits(array).blank([0, 1, 2]) == [0]
    assert HostLogits(array).blank([2]) == []
