"""Who leaves for whom: amounts in, victims out."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nsedge.runtime.machine.amounts import Amount, Room
from nsedge.runtime.residency.budget import Fits, FitsLater, Holder, NeverFits, decide


def holder(
    name: str,
    size: int,
    *,
    in_use: bool = False,
    pinned: bool = False,
    guessed: bool = False,
    last_used_s: float = 0.0,
) -> Holder:
    return Holder(
        name=name,
        amount=Amount(size),
        in_use=in_use,
        pinned=pinned,
        guessed=guessed,
        last_used_s=last_used_s,
    )


def test_nobody_leaves_where_there_is_room() -> None:
    assert decide(Amount(5), Room(5), [holder("a", 9)]) == Fits()
    assert decide(Amount(5), Room(), [holder("a", 9)]) == Fits()


def test_the_longest_unused_leaves_first() -> None:
    held = [holder("new", 5, last_used_s=9.0), holder("old", 5, last_used_s=1.0)]
    assert decide(Amount(5), Room(0), held) == Fits(("old",))


def test_a_guess_nobody_used_leaves_before_the_longest_unused() -> None:
    held = [holder("old", 5, last_used_s=1.0), holder("guess", 5, guessed=True, last_used_s=9.0)]
    assert decide(Amount(5), Room(0), held) == Fits(("guess",))


def test_who_need_not_leave_after_all_stays() -> None:
    held = [holder("small", 2, last_used_s=1.0), holder("large", 8, last_used_s=2.0)]
    assert decide(Amount(7), Room(0), held) == Fits(("large",))


def test_what_is_in_use_is_waited_for() -> None:
    held = [holder("busy", 5, in_use=True), holder("idle", 2)]
    assert decide(Amount(6), Room(0), held) == FitsLater(("idle", "busy"))
    assert decide(Amount(2), Room(0), held) == Fits(("idle",))


def test_what_is_pinned_stays_and_the_figures_say_so() -> None:
    held = [holder("pinned", 8, pinned=True), holder("idle", 2)]
    assert decide(Amount(6), Room(1), held) == NeverFits(Room(3))


def test_the_device_counts_by_itself() -> None:
    on_device = Holder(
        name="gpu", amount=Amount(0, 6), in_use=False, pinned=False, guessed=False, last_used_s=0.0
    )
    held = [on_device, holder("cpu", 9)]
    assert decide(Amount(0, 5), Room(100, 0), held) == Fits(("gpu",))


def test_an_exceeded_budget_is_a_room_below_zero() -> None:
    held = [holder("a", 5, last_used_s=1.0), holder("b", 5, last_used_s=2.0)]
    assert decide(Amount(), Room(-3), held) == Fits(("a",))


holders = st.lists(
    st.builds(
        holder,
        st.uuids().map(str),
        st.integers(0, 50),
        in_use=st.booleans(),
        pinned=st.booleans(),
        guessed=st.booleans(),
        last_used_s=st.floats(0, 100),
    ),
    max_size=6,
)


@given(need=st.integers(0, 100), room=st.integers(-20, 100), held=holders)
def test_what_always_holds(need: int, room: int, held: list[Holder]) -> None:
    by_name = {one.name: one for one in held}
    verdict = decide(Amount(need), Room(room), held)
    if isinstance(verdict, NeverFits):
        assert room + sum(one.amount.host for one in held if not one.pinned) < need
        return
    victims = [by_name[name] for name in verdict.victims]
    assert not any(one.pinned for one in victims)
    assert room + sum(one.amount.host for one in victims) >= need
    assert isinstance(verdict, FitsLater) == any(one.in_use for one in victims)
    for spared in victims:  # nobody leaves needlessly
        assert room + sum(one.amount.host for one in victims if one is not spared) < need


@pytest.mark.parametrize("room", [Room(), Room(3, None), Room(None, 3)])
def test_without_bound_anything_fits(room: Room) -> None:
    assert room.holds(Amount(3, 3))
