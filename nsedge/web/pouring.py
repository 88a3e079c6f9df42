"""Sound of a connection on its way to the request that hears it: what comes too fast waits, and
with it the connection is read no further."""

from __future__ import annotations

import asyncio
import contextlib

from nsedge.api import Feed

PIECE_BYTES = 64 << 10
"""What is put at once."""


class Pouring:
    """A feed that an event loop puts sound into."""

    def __init__(self) -> None:
        self.feed = Feed()
        self._moved = asyncio.Event()
        loop = asyncio.get_running_loop()

        def moved() -> None:
            with contextlib.suppress(RuntimeError):  # a closed loop has nobody left to tell
                loop.call_soon_threadsafe(self._moved.set)

        self.feed.moved = moved

    async def put(self, data: bytes) -> None:
        """Add sound of any length, as fast as it is heard.

        Raises:
            OutOfOrder: nobody hears it any more.
        """
        for begin in range(0, len(data), PIECE_BYTES):
            piece = data[begin : begin + PIECE_BYTES]
            while self.feed.room_bytes < len(piece) and not self.feed.closed:
                self._moved.clear()
                await self._moved.wait()
            self.feed.push(piece)
