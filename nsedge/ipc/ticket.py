"""A request in the daemon's hands, as its client holds it."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Protocol

from nsedge import api
from nsedge.ipc.events import CREDITED


class Line(Protocol):
    """How a ticket speaks to the daemon."""

    def cancel(self, ticket: RemoteTicket) -> None:
        """Ask for the end of a request."""

    def grant(self, ticket: RemoteTicket, count: int) -> None:
        """Let the daemon send `count` more bytes of a request."""


class RemoteTicket:
    """A request in the daemon's hands.

    `took` wants the events that cost credit in the order of the sink. Once half of the window has
    been taken, it is granted anew: a message for many events, and the daemon never runs dry in
    between.
    """

    __slots__ = ("_line", "_owed", "_sizes", "_threshold", "request_id", "sink")

    def __init__(self, line: Line, request_id: str, sink: api.Sink, *, threshold: int = 1) -> None:
        self.request_id = request_id
        self.sink = sink
        self._line = line
        self._threshold = threshold
        self._sizes: deque[int] = deque()
        self._owed = 0

    def cancel(self) -> None:
        """End the request wherever it stands. Its terminal event still comes; idempotent."""
        self._line.cancel(self)

    def took(self, event: api.Event) -> None:
        """The reader has taken `event`: its bytes are credit anew."""
        if owed := self.count(event):
            self.grant(owed)

    def count(self, event: api.Event) -> int:
        """As `took`, but returns the bytes to grant now, mostly 0. From any one thread."""
        if not (type(event) in CREDITED and self._sizes):
            return 0
        self._owed += self._sizes.popleft()
        if self._owed < self._threshold:
            return 0
        owed, self._owed = self._owed, 0
        return owed

    def grant(self, count: int) -> None:
        """Let the daemon send `count` more bytes."""
        self._line.grant(self, count)

    def arrived(self, size: int) -> None:
        """An event that cost `size` bytes of credit is about to go to the sink."""
        self._sizes.append(size)


class MediaTicket(RemoteTicket):
    """A request whose media may have to be brought before it.

    - bringing: does that, and then sends the request; None once it is sent.
    - again: whether that is to be done once more, where the daemon does not have them any more.
    """

    __slots__ = ("again", "bringing", "request")

    def __init__(
        self, line: Line, request: api.Request, sink: api.Sink, *, threshold: int = 1
    ) -> None:
        super().__init__(line, request.request_id, sink, threshold=threshold)
        self.request = request
        self.bringing: asyncio.Task[None] | None = None
        self.again = True
