"""Slots are integers: nothing lost, nothing used twice, rows contiguous."""

from __future__ import annotations

import pytest

from nsedge.runtime.decode.sequence import LEGAL_MOVES, Limits, Sequence, State
from nsedge.runtime.decode.slots import Exchange, Slots


def full(rows: int, *, of: int | None = None) -> Slots:
    slots = Slots(count=of or rows)
    for row in range(rows):
        slots.take(row)
        slots.promote(row)
    return slots


def test_a_filled_row_runs_where_it_lies() -> None:
    slots = Slots(count=2)
    for row in range(2):
        assert slots.take(slots.oldest()) == row
        assert slots.promote(row) is None
    assert not slots.free
    slots.check()


def test_the_last_row_takes_the_place_of_one_that_ended() -> None:
    slots = full(3)
    assert slots.give(0) == Exchange(2, 0)
    assert slots.give(1) is None
    assert slots.running == 1
    slots.check()


def test_a_row_that_filled_while_others_ended_moves_up() -> None:
    slots = full(2, of=3)
    assert slots.take(slots.oldest()) == 2
    slots.give(0)
    slots.give(0)
    assert slots.promote(2) == Exchange(2, 0)
    assert slots.is_free(2)
    slots.check()


def test_two_filling_rows_change_places_where_the_later_is_read_first() -> None:
    slots = Slots(count=3)
    slots.take(0)
    slots.take(1)
    assert slots.promote(1) == Exchange(1, 0)
    slots.check()
    assert slots.promote(1) is None
    assert (slots.running, slots.filling, slots.free) == (2, 0, 1)


def test_rows_are_taken_anew_in_the_order_in_which_they_were_given_back() -> None:
    slots = full(3)
    slots.give(1)
    slots.give(1)
    slots.give(0)
    assert [slots.take(slots.oldest()) for _ in range(3)] == [2, 1, 0]


def test_a_free_row_that_makes_way_keeps_its_age() -> None:
    slots = full(3)
    for _ in range(3):
        slots.give(slots.running - 1)
    slots.take(1)
    assert slots.promote(1) == Exchange(1, 0)
    assert [slots.take(slots.oldest()) for _ in range(2)] == [2, 1]


def test_misuse_raises_and_changes_nothing() -> None:
    slots = Slots(count=1)
    with pytest.raises(RuntimeError, match="not running"):
        slots.give(0)
    with pytest.raises(RuntimeError, match="not filling"):
        slots.promote(0)
    slots.take(0)
    with pytest.raises(RuntimeError, match="not free"):
        slots.take(0)
    with pytest.raises(RuntimeError, match="no row is free"):
        slots.oldest()
    slots.give_filling(0)
    assert slots.is_free(0)
    with pytest.raises(ValueError, match="at least one"):
        Slots(count=0)


@pytest.mark.parametrize("source", State)
@pytest.mark.parametrize("target", State)
def test_only_moves_of_the_table_are_made(source: State, target: State) -> None:
    sequence = Sequence(prompt_ids=(1,), limits=Limits(max_tokens=1), submitted_s=0.0, state=source)
    if target in LEGAL_MOVES[source]:
        sequence.move(target)
        assert sequence.state is target
    else:
        with pytest.raises(RuntimeError, match="cannot go from"):
            sequence.move(target)
        assert sequence.state is source


def test_where_rows_need_not_be_contiguous_none_ever_moves() -> None:
    slots = Slots(count=4, contiguous=False)
    for row in (0, 1, 2):
        slots.take(row)
    assert [slots.promote(row) for row in (2, 0, 1)] == [None] * 3
    assert slots.give(0) is None
    assert (slots.running, slots.free, slots.is_free(0)) == (2, 2, True)
    slots.check()
    with pytest.raises(RuntimeError, match="row 0 is not running"):
        slots.give(0)
