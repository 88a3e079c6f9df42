"""A request for vectors that is too large for one message: sent in parts, answered as one.

The parts are requests of their own, under the same id, one after another: each goes once the one
before it has ended, so that the daemon never has more than one of them. Who asked sees the events
of one request.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import replace

from nsedge import api
from nsedge.errors import MessageTooLarge
from nsedge.ipc.events import CREDITED
from nsedge.ipc.ticket import Line, RemoteTicket

INPUT_BYTES = 9
"""The bytes that an input, or a token, takes beside its own, at most."""

Send = Callable[[api.Request, api.Sink], RemoteTicket]
"""Sends a request; refusals come to the sink, too."""


def parts_of(request: api.Request, task: api.Embed, room: int) -> list[api.Request]:
    """`request` cut into several whose inputs take `room` bytes each, at most.

    Raises:
        MessageTooLarge: one input alone takes more; the message names it.
    """
    groups: list[list[api.Input]] = [[]]
    left = room
    for number, one in enumerate(task.inputs):
        size = _size(one)
        if size > room:
            raise MessageTooLarge(
                f"input {number} has {size} bytes; the daemon takes {room}", param="inputs"
            )
        if size > left:
            groups.append([])
            left = room
        groups[-1].append(one)
        left -= size
    return [replace(request, task=replace(task, inputs=tuple(group))) for group in groups]


def _size(one: api.Input) -> int:
    if isinstance(one, str):
        return len(one.encode("utf-8", "surrogatepass")) + INPUT_BYTES
    if isinstance(one, api.Media):
        return len(one.data) + INPUT_BYTES
    return INPUT_BYTES * (len(one) + 1)


class PartedTicket(RemoteTicket):
    """The parts of a request, of which one is in the daemon's hands."""

    __slots__ = (
        "_began_s",
        "_cancelled",
        "_clock",
        "_current",
        "_ended",
        "_left",
        "_owners",
        "_rows",
        "_send",
        "_started",
    )

    def __init__(
        self,
        line: Line,
        parts: Sequence[api.Request],
        sink: api.Sink,
        *,
        send: Send,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Send the first of `parts`."""
        super().__init__(line, parts[0].request_id, sink)
        self._send, self._clock = send, clock
        self._left = deque(parts)
        self._began_s = clock()
        self._ended: list[api.Finished] = []
        self._owners: deque[RemoteTicket] = deque()
        self._rows = 0
        self._started = False
        self._cancelled = False
        self._current = self._next()

    def cancel(self) -> None:
        """End the part that runs, and send no other."""
        self._cancelled = True
        self._current.cancel()

    def count(self, event: api.Event) -> int:
        """As of the part that the event came of; one that has ended needs no credit."""
        if type(event) not in CREDITED or not self._owners:
            return 0
        owner = self._owners.popleft()
        owed = owner.count(event)
        return owed if owner is self._current else 0

    def grant(self, count: int) -> None:
        """To the part that runs."""
        self._current.grant(count)

    def _next(self) -> RemoteTicket:
        part = self._left[0]
        if part.deadline_s is not None:
            left_s = part.deadline_s - (self._clock() - self._began_s)
            part = replace(part, deadline_s=max(left_s, 1e-3))
        return self._send(part, self._hear)

    def _hear(self, event: api.Event) -> None:
        if type(event) in CREDITED:
            self._owners.append(self._current)
        if isinstance(event, api.Vectors):
            self.sink(replace(event, first=event.first + self._rows))
        elif isinstance(event, api.Finished):
            self._end_part(event)
        elif isinstance(event, api.Failed) and self._rows:
            behind = f"{event.message} (inputs counted from {self._rows} on)"
            self.sink(replace(event, message=behind))
        elif not (isinstance(event, api.Started) and self._started):
            self._started = self._started or isinstance(event, api.Started)
            self.sink(event)

    def _end_part(self, event: api.Finished) -> None:
        part = self._left.popleft()
        self._ended.append(event)
        if event.reason is api.FinishReason.CANCELLED or not self._left:
            self.sink(self._whole(event.reason))
        elif self._cancelled:
            self.sink(self._whole(api.FinishReason.CANCELLED))
        else:
            task = part.task
            self._rows += len(task.inputs) if isinstance(task, api.Embed) else 0
            self._current = self._next()

    def _whole(self, reason: api.FinishReason) -> api.Finished:
        """The end of all parts: tokens and times are summed."""
        times = [one.timings for one in self._ended]
        return replace(
            self._ended[-1],
            reason=reason,
            usage=replace(
                self._ended[-1].usage,
                prompt_tokens=sum(one.usage.prompt_tokens for one in self._ended),
            ),
            timings=api.Timings(
                queue_s=times[0].queue_s,
                prefill_s=sum(one.prefill_s for one in times)
                + sum(one.queue_s for one in times[1:]),
                decode_s=0.0,
            ),
        )
