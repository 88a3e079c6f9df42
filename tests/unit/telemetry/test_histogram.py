"""Durations in buckets, and how late a loop comes round."""

from __future__ import annotations

import asyncio
import math

import pytest

from nsedge.telemetry.histogram import (
    LAG_BOUNDS_S,
    TOKEN_BOUNDS_S,
    WAIT_BOUNDS_S,
    Histogram,
    Stopwatch,
)
from nsedge.telemetry.loop_lag import EVERY_S, LoopLag
from tests.fakes import FakeClock


def seen(*durations: float, bounds: tuple[float, ...] = (1.0, 2.0, 4.0)) -> Histogram:
    watch = Stopwatch(bounds)
    for seconds in durations:
        watch.add(seconds)
    return watch.read()


@pytest.mark.parametrize("bounds", [WAIT_BOUNDS_S, TOKEN_BOUNDS_S, LAG_BOUNDS_S])
def test_bounds_rise(bounds: tuple[float, ...]) -> None:
    assert sorted(set(bounds)) == list(bounds)


def test_a_bound_belongs_to_the_bucket_below_it() -> None:
    told = seen(0.5, 1.0, 1.5, 4.0, 9.0)
    assert told.counts == (2, 1, 1, 1)
    assert told.count == 5
    assert told.sum_s == 16.0
    assert told.mean_s == pytest.approx(3.2)


def test_a_quantile_is_taken_within_its_bucket() -> None:
    told = seen(0.5, 0.5, 3.0, 3.0)
    assert told.quantile(0.25) == pytest.approx(0.5)
    assert told.quantile(0.5) == pytest.approx(1.0)
    assert told.quantile(0.75) == pytest.approx(3.0)
    assert told.quantile(1.0) == pytest.approx(4.0)


def test_what_is_beyond_is_told_as_the_last_bound() -> None:
    assert seen(100.0).quantile(0.5) == 4.0


def test_of_nothing_there_is_no_quantile_and_no_mean() -> None:
    assert math.isnan(seen().quantile(0.5))
    assert math.isnan(seen().mean_s)


def test_the_difference_of_two_looks() -> None:
    earlier, later = seen(0.5, 3.0), seen(0.5, 3.0, 3.5)
    assert later.since(earlier) == seen(3.5)
    assert later.since(None) == later


def test_counting_anew_is_no_difference() -> None:
    assert seen(0.5).since(seen(0.5, 3.0)) == seen(0.5)
    other = seen(0.5, bounds=(1.0,))
    assert seen(0.5).since(other) == seen(0.5)


def test_a_loop_that_is_held_up_comes_late() -> None:
    clock = FakeClock()

    async def main() -> Histogram:
        lag = LoopLag(clock=clock)
        lag.start()
        clock.advance(EVERY_S)
        lag.came()
        clock.advance(EVERY_S + 0.2)
        lag.came()
        lag.stop()
        lag.stop()
        return lag.read()

    told = asyncio.run(main())
    assert told.count == 2
    assert told.sum_s == pytest.approx(0.2)
    assert told.counts[told.bounds_s.index(0.25)] == 1
