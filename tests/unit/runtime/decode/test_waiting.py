"""The order of those that wait."""

from __future__ import annotations

import pytest

from nsedge.api import Priority
from nsedge.runtime.decode.sequence import Limits, Sequence
from nsedge.runtime.decode.waiting import CLASS_DELAY_S, TOKEN_DELAY_S, TimeHeap, place_s


def sequence(
    *, at_s: float = 0.0, tokens: int = 10, priority: Priority = Priority.NORMAL
) -> Sequence:
    return Sequence(
        prompt_ids=(1,) * tokens,
        limits=Limits(max_tokens=1),
        submitted_s=at_s,
        priority=priority,
    )


def order(*sequences: Sequence) -> list[Sequence]:
    heap = TimeHeap()
    for one in sequences:
        heap.push(place_s(one), one)
    taken = []
    while heap.first() is not None:
        taken.append(heap.pop())
    return taken


def test_equal_ones_go_in_the_order_in_which_they_came() -> None:
    several = [sequence() for _ in range(5)]
    assert order(*several) == several


def test_short_prompts_go_first_but_not_for_ever() -> None:
    long = sequence(tokens=1000)
    short = sequence(at_s=1.0, tokens=10)
    late = sequence(at_s=1.0 + 1000 * TOKEN_DELAY_S, tokens=10)
    assert order(long, short, late) == [short, long, late]


@pytest.mark.parametrize("lower", [Priority.NORMAL, Priority.BATCH])
def test_a_lower_class_waits_a_bounded_time(lower: Priority) -> None:
    patient = sequence(priority=lower)
    soon = sequence(at_s=CLASS_DELAY_S[lower] - 0.1, priority=Priority.INTERACTIVE)
    late = sequence(at_s=CLASS_DELAY_S[lower] + 0.1, priority=Priority.INTERACTIVE)
    assert order(patient, late, soon) == [soon, patient, late]


def test_every_class_has_its_delay_and_they_are_in_order() -> None:
    assert list(CLASS_DELAY_S) == list(Priority)
    assert list(CLASS_DELAY_S.values()) == sorted(CLASS_DELAY_S.values())


def test_those_that_left_cost_nothing_and_do_not_pile_up() -> None:
    heap = TimeHeap()
    several = [sequence(at_s=n) for n in range(1000)]
    for one in several:
        heap.push(place_s(one), one)
    for one in several[:-1]:
        heap.discard(one)
        heap.discard(one)
    assert len(heap) == 1
    assert len(heap._heap) < 100
    assert heap.first() == (place_s(several[-1]), several[-1])
    assert heap.pop() is several[-1]
    assert heap.first() is None
