"""A request between its submission and its terminal event."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from nsedge.api import (
    Event,
    Failed,
    Finished,
    FinishReason,
    Request,
    Sink,
    Timings,
    Usage,
    is_terminal,
)
from nsedge.errors import NsedgeError, SlowConsumer
from nsedge.runtime.decode.engine import Job
from nsedge.runtime.hosting.adapter import Served
from nsedge.telemetry.tracing import Span


class LiveRequest:
    """A request in the core's hands; its submitter's `Ticket`, and a user of its model."""

    def __init__(self, *, request: Request, sink: Sink, max_untaken: int) -> None:
        self.request = request
        self.cancelled = False
        self.waiting: asyncio.Task[None] | None = None
        """Waits for its model to be loaded."""
        self._on_end: list[Callable[[], None]] = []
        self._sink = sink
        self._max_untaken = max_untaken
        self._untaken = 0
        self.span: Span | None = None
        self.end: Finished | Failed | None = None
        """Its terminal event."""
        self._queued: tuple[Served, Job] | None = None

    def cancel(self) -> None:
        """End the request wherever it stands. Its terminal event still comes; idempotent."""
        self.cancelled = True
        if self.waiting is not None:
            self.waiting.cancel()
        if self._queued is not None:
            model, job = self._queued
            model.engine.cancel(job)

    def took(self, event: Event) -> None:
        """The reader has taken `event`."""
        self._untaken -= 1

    def at_end(self, call: Callable[[], None]) -> None:
        """Call this once the request has ended."""
        self._on_end.append(call)

    def queue(self, model: Served, job: Job) -> None:
        """Hand the job to its engine."""
        self._queued = (model, job)
        model.engine.submit(job)

    def emit(self, event: Event) -> None:
        """Give `event` to the reader; nothing follows a terminal one."""
        if self.end is not None:
            return
        self._untaken += 1
        if self._untaken > self._max_untaken and not is_terminal(event):
            self.cancel()
            event = Failed.of(
                self.request.request_id,
                SlowConsumer(f"the reader left {self._max_untaken} events untaken"),
            )
        if isinstance(event, Finished | Failed):
            self.end = event
            self._queued = None  # a ticket that is kept must not keep a model
            for call in self._on_end:
                call()
            self._on_end.clear()
        self._sink(event)

    def fail(self, error: NsedgeError) -> None:
        """End with an error."""
        self.emit(Failed.of(self.request.request_id, error))

    def break_off(self, error: NsedgeError) -> None:
        """End with an error, wherever it stands: its model has to leave."""
        self.cancel()
        self.fail(error)

    def end_unqueued(self) -> None:
        """End as cancelled, before any engine saw the request."""
        self.emit(
            Finished(
                request_id=self.request.request_id,
                reason=FinishReason.CANCELLED,
                usage=Usage(prompt_tokens=0, completion_tokens=0),
                timings=Timings(queue_s=0.0, prefill_s=0.0, decode_s=0.0),
            )
        )
