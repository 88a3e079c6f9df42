"""One step at a time, and nobody passed over."""

from __future__ import annotations

import threading

import pytest

from nsedge.runtime.machine.arbiter import (
    LEAST_SHARE,
    LEAST_SLICE_S,
    PIECE,
    RECENT_S,
    RECENT_STEPS,
    STRETCH,
    Arbiter,
    Rank,
    Seat,
)
from tests.fakes import FakeClock
from tests.ipc import PATIENCE_S


class Runner:
    """A thread that takes turns; each waits for the test's word to end."""

    def __init__(self, arbiter: Arbiter, rank: Rank, log: list[str], name: str) -> None:
        self.seat, self.log, self.name = arbiter.seat(rank), log, name
        self.inside, self.go = threading.Event(), threading.Event()
        self.thread = threading.Thread(target=self._run, daemon=True)

    def _run(self) -> None:
        with self.seat:
            self.log.append(self.name)
            self.inside.set()
            assert self.go.wait(PATIENCE_S)

    def start(self) -> None:
        self.thread.start()

    def end(self) -> None:
        assert self.inside.wait(PATIENCE_S)
        self.go.set()
        self.thread.join(PATIENCE_S)
        assert not self.thread.is_alive()


def waiting(arbiter: Arbiter) -> int:
    return sum(len(queue) for queue in arbiter._waiting.values())


def play(order: list[tuple[str, Rank]]) -> list[str]:
    """Who got turns, in order, where the first holds the device while the others come."""
    arbiter, log = Arbiter(), []
    runners = [Runner(arbiter, rank, log, name) for name, rank in order]
    for number, runner in enumerate(runners):
        runner.start()
        if number == 0:
            assert runner.inside.wait(PATIENCE_S)
        while waiting(arbiter) < number:
            runner.thread.join(0.001)
    for name in [order[0][0]]:
        next(runner for runner in runners if runner.name == name).end()
    left = runners[1:]
    while left:
        runner = next(one for one in _until_inside(left))
        runner.end()
        left.remove(runner)
    return log


def _until_inside(runners: list[Runner]) -> list[Runner]:
    while not (found := [one for one in runners if one.inside.is_set()]):
        runners[0].thread.join(0.001)
    return found


S, O = Rank.STREAMS, Rank.OTHERS  # noqa: E741


def test_streams_and_others_take_turns_and_each_is_first_come_first_served() -> None:
    order = [("s1", S), ("o1", O), ("o2", O), ("s2", S), ("s3", S)]
    assert play(order) == ["s1", "o1", "s2", "o2", "s3"]


def test_streams_come_first_after_other_work() -> None:
    assert play([("o1", O), ("o2", O), ("s1", S)]) == ["o1", "s1", "o2"]


def test_a_step_that_fails_gives_its_turn_back() -> None:
    seat = Arbiter().seat(S)
    with pytest.raises(RuntimeError), seat:
        raise RuntimeError("the step failed")
    with seat:
        pass


def took(seat: Seat, clock: FakeClock, seconds: float) -> None:
    """A step of so long."""
    with seat:
        clock.advance(seconds)


def test_other_work_has_what_a_stream_s_token_may_take_beyond_its_step() -> None:
    clock = FakeClock()
    arbiter = Arbiter(clock=clock)
    streams, others = arbiter.seat(S), arbiter.seat(O)
    assert (streams.slice_s(), others.slice_s()) == (None, None)
    took(streams, clock, 0.010)
    assert others.slice_s() == pytest.approx((STRETCH - 1) * 0.010)
    took(others, clock, 0.004)
    assert others.slice_s() == pytest.approx((STRETCH - 1) * 0.010 - 0.004)
    took(others, clock, 0.004)
    assert others.slice_s() == LEAST_SLICE_S
    took(streams, clock, 0.010)
    assert others.slice_s() == pytest.approx((STRETCH - 1) * 0.010)
    clock.advance(RECENT_S + 0.01)
    assert others.slice_s() is None


def test_steps_that_take_longer_beside_others_leave_these_less_and_never_nothing() -> None:
    clock = FakeClock()
    arbiter = Arbiter(clock=clock)
    streams, others = arbiter.seat(S), arbiter.seat(O)
    for _ in range(RECENT_STEPS):
        took(streams, clock, 0.010)
    before = others.slice_s()
    took(streams, clock, 0.015)
    assert before is not None
    assert others.slice_s() == pytest.approx(before - 0.001)
    for _ in range(RECENT_STEPS // 2):
        took(streams, clock, 0.050)
    assert others.slice_s() == pytest.approx(LEAST_SHARE * 0.010)
    for _ in range(RECENT_STEPS):  # that is how long they take now
        took(streams, clock, 0.050)
    assert others.slice_s() == pytest.approx((STRETCH - 1) * 0.050, rel=0.01)


def order_beside(usual_s: float) -> list[str]:
    """Who comes after a step of other work that took 2 of the 7 ms there are, where a stream waits
    and before it another that usually takes so long."""
    clock, log = FakeClock(), list[str]()
    arbiter = Arbiter(clock=clock)
    first = arbiter.seat(O)
    second, stream = Runner(arbiter, O, log, "other"), Runner(arbiter, S, log, "stream")
    took(second.seat, clock, usual_s)
    took(arbiter.seat(S), clock, 0.010)
    with first:
        for number, runner in enumerate((second, stream)):
            runner.start()
            while waiting(arbiter) <= number:
                runner.thread.join(0.001)
            runner.go.set()
        clock.advance(0.002)
    second.end()
    stream.end()
    return log


def test_short_steps_share_the_time_before_a_stream_s_step() -> None:
    assert order_beside(0.004) == ["other", "stream"]


def test_a_step_for_which_too_little_of_it_is_left_waits_for_the_stream_s() -> None:
    assert order_beside(0.006) == ["stream", "other"]


def test_a_step_that_can_stop_lets_a_stream_in_between_once_it_had_its_time() -> None:
    clock, log = FakeClock(), ["other begins"]
    arbiter = Arbiter(clock=clock)
    arbiter.take(streams := arbiter.seat(S))
    arbiter.give(streams, 0.010)
    seat, stream = arbiter.seat(O), Runner(arbiter, S, log, "stream")
    with seat:
        clock.advance(0.05)
        seat.pause()  # nobody waits
        stream.start()
        while waiting(arbiter) < 1:
            stream.thread.join(0.001)
        stream.go.set()
        seat.pause()
        assert log == ["other begins", "stream"]
        log.append("other goes on")
        late = Runner(arbiter, S, log, "late")
        late.start()
        while waiting(arbiter) < 1:
            late.thread.join(0.001)
        late.go.set()
        clock.advance(PIECE * LEAST_SLICE_S / 2)
        seat.pause()  # it has only begun
        log.append("other ends")
    late.end()
    assert log == ["other begins", "stream", "other goes on", "other ends", "late"]


def test_other_work_that_waits_does_not_come_in_between() -> None:
    clock, log = FakeClock(), ["first"]
    arbiter = Arbiter(clock=clock)
    seat, second = arbiter.seat(O), Runner(arbiter, O, log, "second")
    with seat:
        second.start()
        while waiting(arbiter) < 1:
            second.thread.join(0.001)
        clock.advance(1.0)
        seat.pause()
        log.append("first ends")
    second.end()
    assert log == ["first", "first ends", "second"]


def test_only_one_is_inside_and_all_get_in() -> None:
    arbiter, inside, most, turns = Arbiter(), [0], [0], [0] * 6

    def work(number: int) -> None:
        seat = arbiter.seat(S if number % 2 else O)
        for _ in range(200):
            with seat:
                inside[0] += 1
                most[0] = max(most[0], inside[0])
                inside[0] -= 1
                turns[number] += 1

    threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE_S)
    assert (most, turns) == ([1], [200] * 6)
    assert sum(waits.count for waits in arbiter.waits().values()) == 1200
