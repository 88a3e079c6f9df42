"""Sound of a client on its way to the request that hears it: what was heard is credit anew."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import replace

from nsedge.api import Feed, Listen, Request
from nsedge.ipc.session import Session, Stream

Soon = Callable[[Callable[[], None]], object]
"""Has something called on the event loop, from any thread: `loop.call_soon_threadsafe`."""


def fed(
    request: Request, session: Session, stream: Stream, *, soon: Soon, flush: Callable[[], None]
) -> Request:
    """`request` with a feed that the stream's sound goes to, where it hears any. `flush`: the
    session has something to send."""
    task = request.task
    if not isinstance(task, Listen):
        return request
    feed = stream.feed = Feed(session.limits.audio_credit_bytes)

    def heard() -> None:
        if session.refill(stream):
            flush()

    def moved() -> None:
        with contextlib.suppress(RuntimeError):  # a closed loop has nobody left to tell
            soon(heard)

    feed.moved = moved
    return replace(request, task=replace(task, feed=feed))
