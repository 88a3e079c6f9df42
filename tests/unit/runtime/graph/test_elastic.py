"""Going on with other threads between two steps."""

from __future__ import annotations

import logging
from collections.abc import Callable
from concurrent import futures
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from nsedge.runtime.decode.plan import StepPlan
from nsedge.runtime.graph.elastic import READ_EVERY_S, Elastic
from nsedge.runtime.machine.threads import GROW_AFTER_S, SHRINK_AFTER_S, ThreadChoice
from tests.fakes import FakeClock


class Model:
    """Answers each step with the threads it ran with."""

    def __init__(self, threads: int) -> None:
        self.threads = threads
        self.opened: list[int] = []
        self.recovered = 0
        self.error: Exception | None = None

    def run(self, plan: StepPlan) -> NDArray[np.float32]:
        return np.full((1, 1), self.threads, np.float32)

    def reopen(self, threads: int) -> int:
        self.opened.append(threads)
        if self.error is not None:
            raise self.error
        return threads

    def use(self, session: int, threads: int) -> None:
        assert session == threads
        self.threads = threads

    def recover(self) -> None:
        self.recovered += 1


class Opener(futures.Executor):
    """Works at once, or when it is let."""

    def __init__(self) -> None:
        self.held: list[Callable[[], None]] | None = None

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> futures.Future[Any]:
        future: futures.Future[Any] = futures.Future()

        def work() -> None:
            try:
                future.set_result(fn(*args, **kwargs))
            except Exception as error:
                future.set_exception(error)

        if self.held is None:
            work()
        else:
            self.held.append(work)
        return future

    def release(self) -> None:
        held, self.held = self.held or [], None
        for work in held:
            work()


class Rig:
    """An elastic model of two threads, and the cores that are free."""

    def __init__(self) -> None:
        self.clock, self.model, self.free = FakeClock(), Model(2), 2.0
        self.opener = Opener()
        self.affordable = True
        self.elastic = self.build(lambda: self.free)

    def build(self, free: Callable[[], float]) -> Elastic:
        return Elastic(
            self.model,
            choice=ThreadChoice(most=2),
            free=free,
            clock=self.clock,
            affordable=lambda: self.affordable,
            opener=self.opener,
        )

    def step(self) -> int:
        return int(self.elastic.run(PLAN)[0, 0])

    def steps(self, seconds: float) -> int:
        """Threads after `seconds` of steps."""
        for _ in range(int(seconds / READ_EVERY_S) + 6):
            self.clock.advance(READ_EVERY_S)
            self.step()
        return self.step()


PLAN = StepPlan(copies=(), prefill=(), decode=())


def test_it_follows_the_free_cores_down_and_up() -> None:
    rig = Rig()
    assert rig.steps(10) == 2
    rig.free = 1.0
    assert rig.steps(SHRINK_AFTER_S) == rig.elastic.threads == 1
    rig.free = 2.0
    assert rig.steps(GROW_AFTER_S) == rig.elastic.threads == 2
    assert rig.model.opened == [1, 2]


def test_steps_go_on_while_a_session_is_opened() -> None:
    rig = Rig()
    rig.opener.held = []
    rig.free = 1.0
    assert rig.steps(15) == 2
    rig.opener.release()
    assert rig.steps(READ_EVERY_S) == 1


def test_a_session_that_nobody_wants_any_more_is_left() -> None:
    rig = Rig()
    rig.opener.held = []
    rig.free = 1.0
    rig.steps(SHRINK_AFTER_S)
    rig.free = 2.0
    rig.steps(GROW_AFTER_S)
    rig.opener.release()
    assert rig.steps(10) == rig.elastic.threads == 2
    assert rig.model.opened == [1]


def test_without_memory_for_a_second_session_it_waits() -> None:
    rig = Rig()
    rig.free, rig.affordable = 1.0, False
    assert rig.steps(10) == 2
    assert not rig.model.opened
    rig.affordable = True
    assert rig.steps(READ_EVERY_S) == 1


def test_where_none_can_be_opened_it_stays_and_says_so(caplog: pytest.LogCaptureFixture) -> None:
    rig = Rig()
    rig.model.error = OSError("the bundle is gone")
    rig.free = 1.0
    with caplog.at_level(logging.WARNING):
        assert rig.steps(60) == rig.elastic.threads == 2
    assert rig.model.opened == [1]
    assert "stays at 2 threads" in caplog.text
    assert "the bundle is gone" in caplog.text


def test_after_a_failed_step_the_model_goes_on_with_as_many_threads() -> None:
    rig = Rig()
    rig.elastic.recover()
    assert rig.model.recovered == 1
    assert rig.elastic.threads == 2


def test_the_cores_are_looked_at_now_and_then_only() -> None:
    rig = Rig()
    looks: list[float] = []

    def look() -> float:
        looks.append(rig.clock())
        return 2.0

    rig.elastic = rig.build(look)
    for _ in range(100):
        rig.clock.advance(0.01)
        rig.step()
    assert len(looks) == 2
