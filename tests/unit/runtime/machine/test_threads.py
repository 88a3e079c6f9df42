"""How many threads to run with: numbers and a clock."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nsedge.runtime.machine.threads import (
    GROW_AFTER_S,
    LONGEST_WAIT_S,
    REGRET_S,
    SHRINK_AFTER_S,
    ThreadChoice,
)
from tests.fakes import FakeClock

EVERY_S = 0.5
SETTLE_S = 2.0
"""What averaging adds."""


class Rig:
    """A choice that is asked twice a second."""

    def __init__(self, most: int) -> None:
        self.clock = FakeClock()
        self.choice = ThreadChoice(most=most)
        self.moves = 0

    def hold(self, free: float, seconds: float) -> int:
        """Threads after `free` cores were left for `seconds`."""
        for _ in range(int(seconds / EVERY_S) + 1):
            before = self.choice.threads
            self.moves += self.choice.take(self.clock(), free) != before
            self.clock.advance(EVERY_S)
        return self.choice.threads


@pytest.mark.parametrize(
    ("most", "free", "threads"),
    [
        (2, 2.0, 2),
        (2, 1.0, 1),
        (2, 1.33, 1),  # a busy process beside two threads of equal right
        (2, 1.5, 2),  # clients and the shim, at half a core together
        (2, 0.0, 1),
        (8, 7.0, 7),
        (8, 7.33, 7),
        (8, 7.5, 8),
        (8, 2.2, 2),
        (1, 0.0, 1),
    ],
)
def test_it_leaves_a_core_to_who_takes_it(most: int, free: float, threads: int) -> None:
    assert Rig(most).hold(free, SHRINK_AFTER_S + SETTLE_S) == threads


def test_a_moment_changes_nothing() -> None:
    rig = Rig(2)
    for _ in range(5):
        assert rig.hold(1.0, SHRINK_AFTER_S - 2 * EVERY_S) == 2
        assert rig.hold(2.0, SETTLE_S) == 2


def test_readings_that_scatter_are_averaged() -> None:
    rig = Rig(2)
    for free in (1.44, 1.29, 1.49, 1.52, 1.23, 1.46, 1.55, 1.2, 1.4, 1.5):
        rig.hold(free, 0)
    assert rig.choice.threads == 1


def test_it_takes_the_core_again_when_it_is_free() -> None:
    rig = Rig(2)
    rig.hold(1.0, SHRINK_AFTER_S + SETTLE_S)
    assert rig.hold(1.9, GROW_AFTER_S - 2 * EVERY_S) == 1
    assert rig.hold(1.9, 2 * EVERY_S + SETTLE_S) == 2


def test_it_never_asks_for_more_than_there_are() -> None:
    rig = Rig(4)
    rig.hold(1.0, SHRINK_AFTER_S + SETTLE_S)
    assert rig.hold(9.0, GROW_AFTER_S + SETTLE_S) == 4


@pytest.mark.parametrize("others", [0.0, 0.3, 0.49, 0.51, 0.6, 0.74, 1.0])
def test_the_same_neighbour_moves_it_once_at_most(others: float) -> None:
    rig = Rig(2)
    rig.hold(2 - others, 600)
    assert rig.moves <= 1


def test_more_threads_that_were_a_mistake_wait_longer_each_time() -> None:
    rig = Rig(2)
    waits = []
    for _ in range(9):
        rig.hold(1.0, SHRINK_AFTER_S + SETTLE_S)
        began_s = rig.clock()
        while rig.choice.threads == 1:
            rig.hold(2.0, 0)
        waits.append(rig.clock() - began_s)
    assert waits == sorted(waits)
    assert waits[0] < 2 * GROW_AFTER_S
    assert waits[-1] == pytest.approx(LONGEST_WAIT_S, rel=0.01)


def test_a_long_quiet_forgives() -> None:
    rig = Rig(2)
    for _ in range(3):
        rig.hold(1.0, SHRINK_AFTER_S + SETTLE_S)
        rig.hold(2.0, REGRET_S)
    rig.hold(2.0, REGRET_S)
    rig.hold(1.0, SHRINK_AFTER_S + SETTLE_S)
    assert rig.hold(2.0, GROW_AFTER_S + SETTLE_S) == 2


@given(most=st.integers(1, 64), frees=st.lists(st.floats(0, 128), max_size=60))
def test_whatever_is_free_it_stays_within_bounds(most: int, frees: Iterable[float]) -> None:
    rig = Rig(most)
    for free in frees:
        assert 1 <= rig.hold(free, 1.0) <= most
