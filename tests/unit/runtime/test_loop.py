"""A thread that runs requests ends all of them, whatever is raised in it."""

from __future__ import annotations

import queue

import pytest

from nsedge.api import Event, Failed, Finished, FinishReason, Generate, Request
from nsedge.errors import NsedgeError
from nsedge.runtime.loop import WorkLoop
from tests.fakes import FakeClock


class Job:
    """A request that is done in one step."""

    deadline_s = None

    def __init__(self, name: str) -> None:
        self.request = Request(request_id=name, model="m", task=Generate(text="a"))


class OneByOne(WorkLoop[Job]):
    """Does the oldest job a step; one called `bad` raises where `raising` says."""

    def __init__(self, told: queue.SimpleQueue[Event], raising: str) -> None:
        super().__init__(
            deliver=lambda batch: [emit(event) for emit, event in batch],
            clock=FakeClock(),
            name="one-by-one",
        )
        self.told = told
        self.raising = raising

    def is_idle(self) -> bool:
        return not self.works

    def take(self, work: Job) -> None:
        self.check(work, "take")

    def step(self) -> None:
        for work in list(self.works)[:1]:
            self.check(work, "step")
            self.drop(work)
        self.hand_over()

    def check(self, work: Job, where: str) -> None:
        if work.request.request_id == "bad" and where == self.raising:
            raise ZeroDivisionError

    def drop(self, work: Job) -> None:
        self.tell(work, Finished.cancelled(work.request.request_id))
        del self.works[work]

    def fail(self, work: Job, error: NsedgeError) -> None:
        self.tell(work, Failed.of(work.request.request_id, error))
        del self.works[work]


@pytest.mark.parametrize("raising", ["take", "step"])
def test_what_nobody_foresaw_ends_requests_and_others_come(raising: str) -> None:
    told: queue.SimpleQueue[Event] = queue.SimpleQueue()
    loop = OneByOne(told, raising)
    loop.start()
    try:
        loop.submit(Job("bad"), told.put)
        bad = told.get(timeout=20)
        loop.submit(Job("good"), told.put)
        good = told.get(timeout=20)
    finally:
        loop.stop()
    assert isinstance(bad, Failed)
    assert (bad.request_id, bad.code) == ("bad", "engine_failure")
    assert isinstance(good, Finished)
    assert (good.request_id, good.reason) == ("good", FinishReason.CANCELLED)
    assert told.empty()
