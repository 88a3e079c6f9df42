"""The caption loop: has pictures encoded, one at a time, and their captions written by the engine.

Its thread alone runs the encoder. What the engine writes goes to whoever asked for it, and the row
of the memory comes back through the inbox.
"""

from __future__ import annotations

import dataclasses
import logging
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from nsedge import native
from nsedge.api import (
    Event,
    Failed,
    Finished,
    ModelStats,
    Request,
    Started,
    Timings,
    is_terminal,
)
from nsedge.errors import EngineFailure, NsedgeError, QueueFull
from nsedge.runtime.decode.job import Job
from nsedge.runtime.delivery import Deliver, Emit
from nsedge.runtime.encode.batching import DUE_S
from nsedge.runtime.loop import WorkLoop
from nsedge.runtime.machine.arbiter import Seat

log = logging.getLogger(__name__)

Pixels = NDArray[np.uint8]


class Writer(Protocol):
    """What has captions written; any thread."""

    def submit(self, job: Job) -> None:
        """Begin one; its events go to the job's `emit`."""

    def cancel(self, job: Job) -> None:
        """End it before its time; its last event still comes."""


@dataclass(eq=False, slots=True, kw_only=True)
class CaptionWork:
    """One request, on the loop's thread once it was submitted. begin: the job that writes about a
    row of the memory, whose events go to an `Emit`. pixels: uint8 [3, H, W], until they are
    encoded."""

    request: Request
    begin: Callable[[int, Emit], Job]
    pixels: Pixels | None
    submitted_s: float
    due_s: float = 0.0
    began_s: float | None = None
    """When its picture began to be encoded."""
    row: int | None = None
    """Of the memory, while a caption is written of it."""
    job: Job | None = None

    @property
    def deadline_s(self) -> float | None:
        """When it is too late; the engine sees to that once it writes."""
        limit = self.request.deadline_s
        return None if limit is None or self.job is not None else self.submitted_s + limit


class CaptionLoop(WorkLoop[CaptionWork]):
    """Runs requests for captions to their end."""

    def __init__(
        self,
        *,
        look: Callable[[Pixels, int], None],
        writer: Writer,
        rows: int,
        waiting: int,
        seat: Seat,
        deliver: Deliver,
        clock: Callable[[], float],
        name: str = "caption",
    ) -> None:
        """look: writes what is to be seen to a row of the memory, which has `rows`, from `seat`.
        `waiting` requests may wait."""
        super().__init__(deliver=deliver, clock=clock, name=name)
        self._look = look
        self._writer = writer
        self._free = list(range(rows))
        self._most = rows + waiting
        self._seat = seat
        self._waiting: list[CaptionWork] = []
        self._encoding = 0
        self._images = 0

    def stats(self, engine: ModelStats) -> ModelStats:
        """The engine's, and what waits or ended before it came there; from any thread."""
        return dataclasses.replace(
            engine,
            running=engine.running + self._encoding,
            waiting=engine.waiting + len(self._waiting),
            finished=dict(Counter(engine.finished) + Counter(dict(self.ended))),
            images=self._images,
        )

    def is_idle(self) -> bool:
        """Whether no picture can be encoded."""
        return not (self._waiting and self._free)

    def step(self) -> None:
        """Encode the picture that is due first, if any can be, and have its caption written."""
        self.expire()
        if not self.is_idle():
            work = min(self._waiting, key=lambda one: one.due_s)
            self._waiting.remove(work)
            self._encode(work)
        self.hand_over()

    def take(self, work: CaptionWork) -> None:
        """Let a request wait for its turn."""
        if len(self.works) > self._most:
            full = QueueFull(f"{self._most} pictures are here already", retry_after_s=1.0)
            self.fail(work, full)
            return
        work.due_s = self.clock() + DUE_S[work.request.priority]
        self._waiting.append(work)

    def drop(self, work: CaptionWork) -> None:
        """Cancel a request, where it waits or is written."""
        if work.job is not None:
            self._writer.cancel(work.job)
        else:
            self._end(work, Finished.cancelled(work.request.request_id), "cancelled")

    def fail(self, work: CaptionWork, error: NsedgeError) -> None:
        """End a request that is not being written."""
        self._end(work, Failed.of(work.request.request_id, error), error.code)

    def _encode(self, work: CaptionWork) -> None:
        pixels, work.pixels = work.pixels, None
        work.began_s = self.clock()
        row = work.row = self._free.pop()
        if pixels is None:
            raise RuntimeError("a picture is encoded once")
        self._encoding = 1
        try:
            with self._seat, native.pausing(self._seat.pause):
                self._look(pixels, row)
            emit = self.works[work]
            work.job = work.begin(row, lambda event: self._saw(work, emit, event))
        except NsedgeError as error:
            self.fail(work, error)
            return
        except Exception:
            log.exception(
                "a picture was not encoded", extra={"request_id": work.request.request_id}
            )
            self.fail(work, EngineFailure("the model failed on the picture"))
            return
        finally:
            self._encoding = 0
        self._images += 1
        self._writer.submit(work.job)

    def _saw(self, work: CaptionWork, emit: Emit, event: Event) -> None:
        """Pass an event of the engine's on; on the thread that events are delivered on."""
        match event:
            case Started():
                event = dataclasses.replace(event, queue_s=_queue_s(work))
            case Finished():
                event = dataclasses.replace(
                    event,
                    usage=dataclasses.replace(event.usage, images=1),
                    timings=_timings(work, event.timings),
                )
        if is_terminal(event):
            self.ask(lambda: self._written(work))  # before anybody hears of it, and may stop us
        emit(event)

    def _written(self, work: CaptionWork) -> None:
        """The last event of a request has come from the engine."""
        self.works.pop(work, None)
        work.job = None  # its events come to this loop, which would hold itself
        self._release(work)

    def _end(self, work: CaptionWork, event: Event, how: str) -> None:
        if work not in self.works:
            return
        self.tell(work, event)
        del self.works[work]
        self.ended[how] += 1
        if work in self._waiting:
            self._waiting.remove(work)
        self._release(work)

    def _release(self, work: CaptionWork) -> None:
        if work.row is not None:
            self._free.append(work.row)
            work.row = None


def _queue_s(work: CaptionWork) -> float:
    return (work.began_s or work.submitted_s) - work.submitted_s


def _timings(work: CaptionWork, told: Timings) -> Timings:
    """The engine's, with the encoder's time as a part of reading."""
    queue_s = _queue_s(work)
    read_s = told.prefill_s + max(0.0, told.queue_s - queue_s)
    return dataclasses.replace(told, queue_s=queue_s, prefill_s=read_s)
