"""A request from its acceptance to its place in a loop: whatever fails, it ends once."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Executor, Future
from typing import Any

import pytest

from nsedge.api import Event, Failed, Finished, FinishReason, Generate, Request
from nsedge.errors import InvalidParameter
from nsedge.runtime.hosting.accepted import Accepted
from nsedge.runtime.hosting.hosted import Host
from nsedge.runtime.settings import EngineSettings
from tests.fakes import FakeClock


class AtOnce(Executor):
    """Runs what is submitted when it is told to."""

    def __init__(self) -> None:
        self.asked: list[Callable[[], Any]] = []

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        self.asked.append(lambda: fn(*args, **kwargs))
        return Future()

    def run(self) -> None:
        for asked in self.asked:
            asked()


class Scene:
    """One request whose steps are the test's."""

    def __init__(
        self,
        *,
        make: Callable[[], str] = lambda: "job",
        queue: Callable[[str], None] | None = None,
    ) -> None:
        self.events: list[Event] = []
        self.queued: list[str] = []
        self.cancelled: list[str] = []
        self.reader = AtOnce()
        self.work = Accepted(
            host=Host(
                settings=EngineSettings(),
                deliver=lambda batch: [emit(event) for emit, event in batch],
                clock=FakeClock(),
            ),
            request=Request(request_id="a", model="m", task=Generate(text="x")),
            emit=self.events.append,
            reader=self.reader,
            make=make,
            queue=queue or self.queued.append,
            cancel=self.cancelled.append,
        )
        self.work.begin()


def raising(error: Exception) -> Callable[..., Any]:
    def raises(*_: object) -> None:
        raise error

    return raises


@pytest.mark.parametrize("step", ["make", "queue"])
@pytest.mark.parametrize(
    ("error", "code"),
    [(InvalidParameter("no such thing", param="n"), "invalid_parameter"), (OSError(), "internal")],
)
def test_what_cannot_be_read_or_queued_ends_once(step: str, error: Exception, code: str) -> None:
    scene = Scene(**{step: raising(error)})
    scene.reader.run()
    (event,) = scene.events
    assert isinstance(event, Failed)
    assert event.code == code


def test_one_that_is_cancelled_before_it_is_read_is_never_queued() -> None:
    scene = Scene()
    scene.work.cancel()
    scene.reader.run()
    (event,) = scene.events
    assert isinstance(event, Finished)
    assert event.reason is FinishReason.CANCELLED
    assert (scene.queued, scene.cancelled) == ([], [])


def test_one_that_is_cancelled_while_it_is_read_is_cancelled_once_it_is_queued() -> None:
    def make() -> str:
        scene.work.cancel()
        return "job"

    scene = Scene(make=make)
    scene.reader.run()
    assert scene.queued == scene.cancelled == ["job"]
