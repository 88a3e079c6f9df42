"""What the engine times, by a clock that moves 10 ms a step."""

from __future__ import annotations

import logging

import pytest

from nsedge.api import ModelTimes
from tests.unit.rig import Rig


def times(rig: Rig) -> ModelTimes:
    told = rig.engine.stats(slots=rig.slots, capacity=64).times
    assert told is not None
    return told


def test_each_stretch_of_a_request_is_timed() -> None:
    rig = Rig(slots=1, chunk_tokens=5)
    rig.submit("a", tuple(range(1, 11)), max_tokens=4, ignore_end=True)  # two pieces, four tokens
    rig.run()
    told = times(rig)
    assert [told.queue.count, told.prefill.count, told.first_token.count] == [1, 1, 1]
    assert told.queue.sum_s == pytest.approx(0.01)
    assert told.prefill.sum_s == pytest.approx(0.01)
    assert told.first_token.sum_s == pytest.approx(0.02)
    assert told.inter_token.count == 3
    assert told.inter_token.sum_s == pytest.approx(0.03)
    assert told.request.count == 1
    assert told.request.sum_s == pytest.approx(0.05)
    assert told.step.count == rig.engine.stats(slots=1, capacity=64).steps == 5


def test_a_step_counts_by_the_time_it_took() -> None:
    rig = Rig(slots=1)
    rig.model.on_step = lambda plan: rig.clock.advance(0.04)
    rig.submit("a", (1, 2), max_tokens=2, ignore_end=True)
    rig.run()
    assert times(rig).step.sum_s == pytest.approx(0.08)


def test_one_that_waits_waits_in_the_queue() -> None:
    rig = Rig(slots=1)
    for name in "ab":
        rig.submit(name, (1, 2), max_tokens=3, ignore_end=True)
    rig.run()
    told = times(rig)
    assert told.queue.count == 2
    assert told.queue.sum_s == pytest.approx(0.01 + 0.04)


def test_what_is_cancelled_or_fails_is_not_timed_to_its_end(
    caplog: pytest.LogCaptureFixture,
) -> None:
    rig = Rig(slots=2)
    job = rig.submit("a", (1, 2), max_tokens=9, ignore_end=True)
    rig.step()
    rig.engine.cancel(job)
    rig.step()
    rig.submit("b", (1, 2), max_tokens=9, ignore_end=True)
    rig.step()
    rig.model.is_dead = True
    with caplog.at_level(logging.ERROR):
        rig.run()
    assert rig.ended == ["a", "b"]
    assert times(rig).request.count == 0
    assert [vars(record)["request_ids"] for record in caplog.records] == [["b"]] * 2
