"""Slots are integers: nothing lost, nothing used twice, rows contiguous."""

from __future__ import annotations

import pytest

from nsedge.runtime.cores import _quota_cores, usable_cores
from nsedge.runtime.sequence import LEGAL_MOVES, Limits, Sequence, State
from nsedge.runtime.slots import Move, Slots


def test_a_filled_row_runs_where_it_lies() -> None:
    slots = Slots(count=2)
    assert slots.take() == 0
    assert slots.promote() is None
    assert slots.take() == 1
    assert slots.promote() is None
    assert not slots.can_take
    slots.check()


def test_the_last_row_moves_into_a_hole() -> None:
    slots = Slots(count=3)
    for _ in range(3):
        slots.take()
        slots.promote()
    assert slots.give(0) == Move(2, 0)
    assert slots.give(1) is None
    assert slots.running == 1
    slots.check()


def test_a_row_that_filled_while_others_ended_moves_up() -> None:
    slots = Slots(count=3)
    for _ in range(2):
        slots.take()
        slots.promote()
    assert slots.take() == 2
    slots.give(0)
    slots.give(0)
    assert slots.promote() == Move(2, 0)
    slots.check()


def test_misuse_raises_and_changes_nothing() -> None:
    slots = Slots(count=1)
    with pytest.raises(RuntimeError, match="not running"):
        slots.give(0)
    with pytest.raises(RuntimeError, match="no row is filling"):
        slots.promote()
    slots.take()
    with pytest.raises(RuntimeError, match="can be taken"):
        slots.take()
    slots.give_filling()
    assert slots.can_take
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


def test_cores_are_bounded_by_the_quota(tmp_path) -> None:  # type: ignore[no-untyped-def]
    file = tmp_path / "cpu.max"
    for text, cores in (("150000 100000", 2), ("max 100000", None), ("nonsense", None)):
        file.write_text(text)
        assert _quota_cores(file) == cores
    assert _quota_cores(tmp_path / "absent") is None
    assert usable_cores() >= 1
