"""A request between its submission and its terminal event."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from nsedge.api import (
    Event,
    Failed,
    Finished,
    Listen,
    Request,
    Sink,
    is_terminal,
)
from nsedge.errors import NsedgeError, SlowConsumer
from nsedge.runtime.hosting.hosted import HostedModel, Work
from nsedge.telemetry.tracing import Span


class LiveRequest:
    """A request in the core's hands; its submitter's `Ticket`, and a user of its model."""

    def __init__(self, *, request: Request, sink: Sink, max_untaken: int) -> None:
        self.request = request
        self.submitted_s: float | None = None
        """When it was admitted first, by the core's clock."""
        self.inner = False
        """Part of another request, which is the one that counts."""
        self.ending: Callable[[Event], Event] | None = None
        """What its terminal event becomes before it is told."""
        self.cancelled = False
        self.waiting: asyncio.Task[None] | None = None
        """Waits for its model to be loaded, or for its media to be read."""
        self._on_end: list[Callable[[], None]] = []
        self._sink = sink
        self._max_untaken = max_untaken
        self._untaken = 0
        self.span: Span | None = None
        self.end: Finished | Failed | None = None
        """Its terminal event."""
        self._work: Work | None = None

    def cancel(self) -> None:
        """End the request wherever it stands. Its terminal event still comes; idempotent."""
        self.cancelled = True
        if self.waiting is not None:
            self.waiting.cancel()
        if self._work is not None:
            self._work.cancel()

    def took(self, event: Event) -> None:
        """The reader has taken `event`."""
        self._untaken -= 1

    def at_end(self, call: Callable[[], None]) -> None:
        """Call this once the request has ended."""
        self._on_end.append(call)

    def hand_to(self, model: HostedModel, *, submitted_s: float) -> None:
        """Have `model` do it; `submitted_s`: when it was admitted, on the model's clock."""
        self._work = model.accept(self.request, self.emit, submitted_s=submitted_s)

    def emit(self, event: Event) -> None:
        """Give `event` to the reader; nothing follows a terminal one."""
        if self.end is not None:
            return
        if self.ending is not None and is_terminal(event):
            event = self.ending(event)
        self._untaken += 1
        if self._untaken > self._max_untaken and not is_terminal(event):
            self.cancel()
            event = Failed.of(
                self.request.request_id,
                SlowConsumer(f"the reader left {self._max_untaken} events untaken"),
            )
        if isinstance(event, Finished | Failed):
            self.end = event
            self._work = None  # a ticket that is kept must not keep a model
            for call in self._on_end:
                call()
            self._on_end.clear()
            if isinstance(self.request.task, Listen):
                self.request.task.feed.close()
        self._sink(event)

    def fail(self, error: NsedgeError) -> None:
        """End with an error."""
        self.emit(Failed.of(self.request.request_id, error))

    def break_off(self, error: NsedgeError) -> None:
        """End with an error, wherever it stands: its model has to leave."""
        self.cancel()
        self.fail(error)

    def end_unqueued(self) -> None:
        """End as cancelled, before any model saw the request."""
        self.emit(Finished.cancelled(self.request.request_id))
