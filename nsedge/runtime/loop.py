"""A thread that runs the requests of one model, whatever it is told coming by one road: an inbox,
which is taken from between two pieces of work.

The thread alone owns the requests. What it has to tell is handed over in one call.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable
from queue import Empty, SimpleQueue
from typing import Generic, Protocol, TypeVar

from nsedge.api import Event, Request
from nsedge.errors import DeadlineExceeded, EngineFailure, NsedgeError
from nsedge.runtime.delivery import Deliver, Emit

log = logging.getLogger(__name__)


class Timed(Protocol):
    """A request in a loop."""

    request: Request

    @property
    def deadline_s(self) -> float | None:
        """When it is too late."""


W = TypeVar("W", bound=Timed)


class WorkLoop(ABC, Generic[W]):
    """Runs requests to their end. `start` gives it its thread."""

    def __init__(self, *, deliver: Deliver, clock: Callable[[], float], name: str) -> None:
        self.clock = clock
        self.works: dict[W, Emit] = {}
        """Those that have not ended, on the loop's thread."""
        self.ended: Counter[str] = Counter()
        """Requests that came to an end here, by finish reason or error code."""
        self._deliver = deliver
        self._inbox: SimpleQueue[Callable[[], None]] = SimpleQueue()
        self._events: list[tuple[Emit, Event]] = []
        self._thread = threading.Thread(target=self._loop, name=name, daemon=True)
        self._stopping = False

    def start(self) -> None:
        """Begin to work."""
        self._thread.start()

    def stop(self) -> None:
        """Cancel what is left, and wait for the thread to end."""
        self._inbox.put(self._stop)
        self._thread.join()

    def submit(self, work: W, emit: Emit) -> None:
        """Take a request, from any thread. A refusal comes as its `Failed`."""
        self._inbox.put(lambda: self._submitted(work, emit))

    def cancel(self, work: W) -> None:
        """End a request, from any thread; one that is not here, or no longer, is passed over."""
        self._inbox.put(lambda: self._cancelled(work))

    def ask(self, answer: Callable[[], None]) -> None:
        """Have `answer` called on the loop's thread when it next comes round, from any thread."""
        self._inbox.put(answer)

    def drain_inbox(self, *, wait: bool) -> None:
        """Do what was asked for; with `wait`, block until something is, or patience is over."""
        while wait or not self._inbox.empty():
            wait = False
            try:
                asked = self._inbox.get(timeout=self.patience_s())
            except Empty:
                return
            asked()
            self.hand_over()

    def patience_s(self) -> float | None:
        """Seconds without anything asked for after which an idle loop takes a step all the same;
        None waits for ever."""
        return None

    @abstractmethod
    def step(self) -> None:
        """Do a piece of work, if there is any, and hand over what came of it."""

    @abstractmethod
    def is_idle(self) -> bool:
        """Whether there is nothing to do until something is asked for."""

    @abstractmethod
    def take(self, work: W) -> None:
        """A request has come, which is among `works`."""

    @abstractmethod
    def drop(self, work: W) -> None:
        """Cancel a request, which is among `works`."""

    @abstractmethod
    def fail(self, work: W, error: NsedgeError) -> None:
        """End a request badly."""

    def expire(self) -> None:
        """Fail what should have ended by now."""
        now_s = self.clock()
        for work in list(self.works):
            if (error := self.late(work, now_s)) is not None:
                self.fail(work, error)

    def late(self, work: W, now_s: float) -> NsedgeError | None:
        """The error that a request is to end with for its time; None where it has some left."""
        if work.deadline_s is None or now_s < work.deadline_s:
            return None
        limit = f"not done {work.request.deadline_s:g} s after admission"
        return DeadlineExceeded(limit, param="deadline_s")

    def tell(self, work: W, event: Event) -> None:
        """Have an event of a request delivered, unless that has ended."""
        emit = self.works.get(work)
        if emit is not None:
            self._events.append((emit, event))

    def hand_over(self) -> None:
        """Deliver what there is, in one call."""
        if self._events:
            events, self._events = self._events, []
            with contextlib.suppress(RuntimeError):  # a closed event loop has nobody left to tell
                self._deliver(events)

    def _submitted(self, work: W, emit: Emit) -> None:
        self.works[work] = emit
        self.take(work)

    def _cancelled(self, work: W) -> None:
        if work in self.works:
            self.drop(work)

    def _give_up(self) -> None:
        """End all requests for what was just raised, which nobody foresaw; others may come."""
        log.exception("the loop of a model failed")
        for work in list(self.works):
            self.fail(work, EngineFailure("the loop of the model failed"))
        self.hand_over()

    def _stop(self) -> None:
        self._stopping = True

    def _loop(self) -> None:
        while not self._stopping:
            try:
                self.drain_inbox(wait=self.is_idle())
                self.step()
            except Exception:
                self._give_up()
        for work in list(self.works):
            self.drop(work)
        self.hand_over()
