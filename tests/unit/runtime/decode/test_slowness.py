"""What a machine's slow moments look like, from numbers."""

from __future__ import annotations

import numpy as np
import pytest

from nsedge.runtime.decode.slowness import Median, Slowness


@pytest.mark.parametrize("first", [0.001, 1.0, 50.0])
def test_a_median_comes_to_lie_in_the_middle_from_wherever_it_began(first: float) -> None:
    random = np.random.default_rng(3)
    made = Median(first, step=0.01)
    for newest in np.exp(random.normal(0.0, 0.3, 2000)):
        made.add(float(newest))
    assert made.value == pytest.approx(1.0, rel=0.15)


def test_a_median_moves_a_step_at_most_and_never_past_what_was_measured() -> None:
    made = Median(1.0, step=0.02)
    for _ in range(100):
        made.add(1.0)
    made.add(100.0)
    assert made.value == pytest.approx(1.02)
    made.add(1.01)
    assert made.value == pytest.approx(1.01)


def test_steps_as_expected_leave_nothing_to_fear() -> None:
    made = Slowness()
    assert made.tail > 1.0
    for _ in range(100):
        made.add(1.0)
    assert (made.now, made.tail) == (1.0, 1.0)


def test_a_slow_moment_is_seen_within_steps_and_is_no_surprise_while_it_lasts() -> None:
    made = Slowness()
    for _ in range(100):
        made.add(1.0)
    for _ in range(300):
        made.add(1.6)
    assert made.now == pytest.approx(1.6)
    assert made.tail == pytest.approx(1.0, abs=0.02)


def test_one_hiccup_counts_as_at_most_twice_what_was() -> None:
    made = Slowness()
    made.add(100.0)
    assert made.now == 1.25


def test_the_tail_is_what_one_step_in_a_hundred_exceeds() -> None:
    made = Slowness()
    random = np.random.default_rng(7)
    for draw in random.random(4000):
        made.add(1.8 if draw < 0.02 else 1.0)
    assert 1.5 <= made.tail <= 1.8
