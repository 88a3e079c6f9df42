"""Contenders take turns; disturbed rounds are run again, up to a bound, and none is hidden."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator

import pytest

from bench.rounds import Rounds, Schedule, interleave, keep, paired_ratio


class Script:
    """Noise to be told, in order, and who ran when."""

    def __init__(self, noise: list[float]) -> None:
        self._noise: Iterator[float] = iter(noise)
        self.order: list[str] = []

    def watch(self) -> Script:
        return self

    def others(self) -> float:
        return next(self._noise)

    def contender(self, name: str) -> Callable[[], Awaitable[int]]:
        async def run() -> int:
            self.order.append(name)
            return len(self.order)

        return run

    def run(self, schedule: Schedule) -> Rounds[int]:
        ways = {name: self.contender(name) for name in ("a", "b")}
        return asyncio.run(interleave(ways, schedule, self.watch))


def test_each_round_begins_with_the_next_contender() -> None:
    script = Script([0.0] * 6)
    found = script.run(Schedule(rounds=3, extra=0, warm_up=1))
    assert script.order == ["a", "b", "a", "b", "b", "a", "a", "b"]
    assert found.of("a") == [3, 6, 7]
    assert found.of("b") == [4, 5, 8]


def test_a_disturbed_round_is_run_again_and_stays_in_the_result() -> None:
    script = Script([0.0, 0.9, 0.1, 0.1, 0.0, 0.0])
    found = script.run(Schedule(rounds=2, extra=2, warm_up=0))
    assert found.kept == (1, 2)
    assert found.noise() == [0.9, 0.1, 0.0]
    assert len(found.runs) == 3


def test_where_it_never_gets_quiet_the_quietest_rounds_count() -> None:
    script = Script([0.9, 0.9, 0.5, 0.5, 0.7, 0.7])
    found = script.run(Schedule(rounds=1, extra=2, warm_up=0))
    assert found.kept == (1,)
    assert len(found.runs) == 3


def test_the_quietest_are_kept_in_their_order() -> None:
    assert keep([0.3, 0.1, 0.2, 0.0], 2) == (1, 3)
    assert keep([0.1], 3) == (0,)


def test_the_ratio_is_of_rounds_not_of_medians() -> None:
    assert paired_ratio([10.0, 20.0, 90.0], [10.0, 10.0, 30.0]) == 2.0
    with pytest.raises(ValueError):
        paired_ratio([1.0], [])
