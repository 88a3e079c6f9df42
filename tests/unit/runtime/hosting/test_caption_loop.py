"""Captions end in exactly one event, and rows of the memory are nobody's then."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from nsedge.api import (
    Caption,
    Delta,
    Event,
    Failed,
    Finished,
    FinishReason,
    Media,
    ModelStats,
    Priority,
    Request,
    Started,
    Timings,
    Usage,
    is_terminal,
)
from nsedge.errors import ConstraintFailure
from nsedge.runtime.delivery import Emit
from nsedge.runtime.hosting.caption_loop import CaptionLoop, CaptionWork
from nsedge.runtime.machine.arbiter import Arbiter, Rank
from tests.fakes import FakeClock

ROWS, WAITING = 2, 3


@dataclass(eq=False)
class Writing:
    """A caption that the engine writes."""

    name: str
    row: int
    emit: Emit
    ended: bool = False

    def tell(self, event: Event) -> None:
        self.emit(event)
        self.ended = self.ended or is_terminal(event)


class Rig:
    """A loop that the test steps, with an encoder and an engine of its own."""

    def __init__(self, *, fails: Callable[[], bool] = lambda: False) -> None:
        self.clock = FakeClock()
        self.fails = fails
        self.looked: list[tuple[int, int]] = []
        self.writings: list[Writing] = []
        self.events: dict[str, list[Event]] = {}
        self.works: dict[str, CaptionWork] = {}
        self.loop = CaptionLoop(
            look=self.look,
            writer=self,
            rows=ROWS,
            waiting=WAITING,
            seat=Arbiter(clock=self.clock).seat(Rank.OTHERS),
            deliver=lambda batch: [emit(event) for emit, event in batch],
            clock=self.clock,
        )

    # What a loop asks for.

    def look(self, pixels: NDArray[np.uint8], row: int) -> None:
        if self.fails():
            raise RuntimeError("the encoder is broken")
        self.clock.advance(0.5)
        self.looked.append((int(pixels.flat[0]), row))

    def submit(self, job: Any) -> None:
        self.writings.append(job)

    def cancel(self, job: Any) -> None:
        if not job.ended:
            job.tell(Finished.cancelled(job.name))

    # What a test does.

    def ask(self, name: str, *, level: int = 0, **fields: Any) -> None:
        request = Request(
            request_id=name,
            model="m",
            task=Caption(media=Media(type="image/png", data=b"x")),
            **fields,
        )
        begin: Any = lambda row, emit: Writing(name, row, emit)  # noqa: E731
        work = self.works[name] = CaptionWork(
            request=request,
            begin=begin,
            pixels=np.full((3, 2, 2), level, np.uint8),
            submitted_s=self.clock(),
        )
        self.loop.submit(work, self.events.setdefault(name, []).append)
        self.loop.drain_inbox(wait=False)

    def run(self, steps: int = 8) -> None:
        for _ in range(steps):
            self.loop.drain_inbox(wait=False)
            self.loop.step()

    def write(self) -> None:
        """Let the engine write all that it has to the end."""
        for writing in [one for one in self.writings if not one.ended]:
            writing.tell(Started(request_id=writing.name, prompt_tokens=1, queue_s=9.0))
            writing.tell(Delta(request_id=writing.name, seq=0, text="a cat", token_ids=(1,)))
            writing.tell(
                Finished(
                    request_id=writing.name,
                    reason=FinishReason.STOP,
                    usage=Usage(prompt_tokens=1, completion_tokens=2),
                    timings=Timings(queue_s=2.5, prefill_s=0.25, decode_s=1.0),
                )
            )

    def kinds(self, name: str) -> list[str]:
        return [type(event).__name__ for event in self.events[name]]


def test_a_picture_is_encoded_and_its_caption_told() -> None:
    rig = Rig()
    rig.clock.advance(1.0)
    rig.ask("a", level=7)
    rig.clock.advance(2.0)
    rig.run()
    rig.write()
    rig.run()
    assert rig.looked == [(7, rig.writings[0].row)]
    assert rig.kinds("a") == ["Started", "Delta", "Finished"]
    started, _, finished = rig.events["a"]
    assert isinstance(started, Started)
    assert isinstance(finished, Finished)
    assert started.queue_s == 2.0
    assert finished.usage == Usage(prompt_tokens=1, completion_tokens=2, images=1)
    assert finished.timings == Timings(queue_s=2.0, prefill_s=0.75, decode_s=1.0)
    assert (rig.loop.works, rig.works["a"].row, rig.works["a"].pixels) == ({}, None, None)


def test_as_many_are_written_as_the_memory_has_rows() -> None:
    rig = Rig()
    for name in "abcd":
        rig.ask(name)
    rig.run()
    assert [one.name for one in rig.writings] == ["a", "b"]
    assert {one.row for one in rig.writings} == {0, 1}
    assert rig.loop.is_idle()
    rig.write()
    rig.run()
    assert [one.name for one in rig.writings[2:]] == ["c", "d"]
    rig.write()
    rig.run()
    assert all(rig.kinds(name)[-1] == "Finished" for name in "abcd")


def test_who_is_due_first_is_encoded_first() -> None:
    rig = Rig()
    rig.ask("late", level=1, priority=Priority.BATCH)
    rig.ask("soon", level=2, priority=Priority.INTERACTIVE)
    rig.run()
    assert [level for level, _ in rig.looked] == [2, 1]


def test_one_that_waits_is_cancelled_at_once_and_one_that_is_written_by_the_engine() -> None:
    rig = Rig()
    for name in "abc":
        rig.ask(name)
    rig.run()
    for name in "ca":
        rig.loop.cancel(rig.works[name])
        rig.loop.cancel(rig.works[name])
    rig.run()
    assert rig.kinds("c") == rig.kinds("a") == ["Finished"]
    ended = [event for name in "ca" for event in rig.events[name]]
    assert {event.reason for event in ended if isinstance(event, Finished)} == {
        FinishReason.CANCELLED
    }
    (last,) = rig.events["a"]
    assert isinstance(last, Finished)
    assert last.usage.images == 1
    rig.ask("d")
    rig.run()
    assert [one.name for one in rig.writings] == ["a", "b", "d"]


def test_a_request_that_waits_too_long_fails() -> None:
    rig = Rig()
    for name in "abc":
        rig.ask(name, deadline_s=3.0)
    rig.run()
    rig.clock.advance(5.0)
    rig.run()
    (failed,) = rig.events["c"]
    assert isinstance(failed, Failed)
    assert (failed.code, failed.param) == ("deadline_exceeded", "deadline_s")
    assert (rig.events["a"], rig.events["b"]) == ([], [])  # these are the engine's to end


def test_a_picture_that_the_encoder_fails_on_fails_alone() -> None:
    broken = iter([True, False, False])
    rig = Rig(fails=lambda: next(broken))
    for name in "abc":
        rig.ask(name)
    rig.run()
    (failed,) = rig.events["a"]
    assert isinstance(failed, Failed)
    assert failed.code == "engine_failure"
    assert [one.name for one in rig.writings] == ["b", "c"]


def test_more_than_may_wait_are_refused() -> None:
    rig = Rig()
    for number in range(ROWS + WAITING + 1):
        rig.ask(str(number))
    rig.run()
    (refused,) = rig.events[str(ROWS + WAITING)]
    assert isinstance(refused, Failed)
    assert (refused.code, refused.retry_after_s) == ("queue_full", 1.0)


def test_what_waits_and_ended_here_is_counted() -> None:
    rig = Rig(fails=lambda: bool(rig.looked))
    for name in "abc":
        rig.ask(name)
    engine = ModelStats(
        running=1,
        waiting=1,
        slots=ROWS,
        kv_tokens_used=0,
        kv_tokens_capacity=0,
        steps=1,
        step_s=1.0,
        prompt_tokens=1,
        completion_tokens=1,
        finished={"stop": 4, "engine_failure": 1},
    )
    assert rig.loop.stats(engine).waiting == 4
    rig.run()
    told = rig.loop.stats(engine)
    assert (told.running, told.waiting) == (1, 1)
    assert told.finished == {"stop": 4, "engine_failure": 3}
    assert told.images == 1


@pytest.mark.parametrize("written", [False, True])
def test_a_loop_that_stops_cancels_what_is_left(written: bool) -> None:
    rig = Rig()
    rig.loop.start()
    for name in "abc":
        rig.loop.submit(_later(rig, name), rig.events.setdefault(name, []).append)
    if written:
        while len(rig.writings) < ROWS:
            rig.loop.ask(lambda: None)
    rig.loop.stop()
    assert [len(rig.events[name]) for name in "abc"] == [1, 1, 1]
    assert all(isinstance(rig.events[name][0], Finished) for name in "abc")


def _later(rig: Rig, name: str) -> CaptionWork:
    task = Caption(media=Media(type="image/png", data=b"x"))
    begin: Any = lambda row, emit: Writing(name, row, emit)  # noqa: E731
    return CaptionWork(
        request=Request(request_id=name, model="m", task=task),
        begin=begin,
        pixels=np.zeros((3, 2, 2), np.uint8),
        submitted_s=rig.clock(),
    )


def test_a_caption_that_cannot_begin_fails_and_gives_its_row_back() -> None:
    rig = Rig()
    rig.ask("a")

    def begin(row: int, emit: Emit) -> Any:
        raise ConstraintFailure("the grammar cannot be followed")

    rig.works["a"].begin = begin
    rig.run()
    (event,) = rig.events["a"]
    assert isinstance(event, Failed)
    assert event.code == ConstraintFailure.code
    for name in ("b", "c"):
        rig.ask(name)
    rig.run()
    assert sorted(row for _, row in rig.looked[1:]) == [0, 1]


def test_a_loop_is_gone_with_its_last_reference() -> None:
    """What its model holds is measured as another model's where it goes later."""
    rig = Rig()
    rig.ask("a")
    rig.run()
    rig.writings.pop().tell(Finished.cancelled("a"))
    rig.loop.start()
    rig.loop.stop()
    gc.disable()
    try:
        loop = weakref.ref(rig.loop)
        del rig.loop
        assert loop() is None
    finally:
        gc.enable()
