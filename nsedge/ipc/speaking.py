"""Sound on its way to the daemon, for a request that hears it, within the credit that it has."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable

from nsedge import api
from nsedge.ipc import messages as wire
from nsedge.ipc.ticket import Line, RemoteTicket

PIECE_BYTES = 64 << 10
"""Of sound in one message, at most."""
Send = Callable[[wire.Audio], None]


def closing(feed: api.Feed, sink: api.Sink) -> api.Sink:
    """`sink`; with the terminal event the feed is closed, so that nobody waits to be heard."""

    def closing_sink(event: api.Event) -> None:
        if api.is_terminal(event):
            feed.close()
        sink(event)

    return closing_sink


class ListenTicket(RemoteTicket):
    """A request that hears sound: brings what its feed has. On the event loop's thread."""

    __slots__ = ("_credit", "_feed", "_send")

    def __init__(
        self, line: Line, request_id: str, sink: api.Sink, *, threshold: int, feed: api.Feed
    ) -> None:
        super().__init__(line, request_id, sink, threshold=threshold)
        self._feed = feed
        self._credit = 0
        self._send: Send | None = None

    def begin(self, send: Send, credit: int) -> None:
        """Send the sound as it comes, `credit` bytes before more are granted."""
        loop = asyncio.get_running_loop()
        self._send, self._credit = send, credit

        def came() -> None:
            with contextlib.suppress(RuntimeError):  # the client was closed, and the request ended
                loop.call_soon_threadsafe(self._speak)

        self._feed.came = came
        self._speak()

    def hear(self, message: wire.Credit | wire.MediaReady) -> None:
        """The daemon has heard more."""
        if isinstance(message, wire.Credit):
            self._credit += message.bytes
            self._speak()

    def _speak(self) -> None:
        """Send what may be sent."""
        if self._send is None:
            return
        while (taken := self._feed.take(min(self._credit, PIECE_BYTES))) is not None:
            if isinstance(taken, api.Mark):
                self._send(wire.Audio(id=self.request_id, then=taken))
            elif taken:
                self._credit -= len(taken)
                self._send(wire.Audio(id=self.request_id, data=taken))
            else:
                return
