"""What a connection has to say that was not sent yet: a client that reads nothing is not read."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

MOST_UNSENT = 16
"""Answers that may wait to be sent before the next is listened to."""


async def caught_up(out: asyncio.Queue[Any], sender: asyncio.Task[None]) -> None:
    """Wait until what is in `out` was sent, where it is much; or until `sender` has ended, which
    sends it and calls `task_done` for each."""
    if out.qsize() >= MOST_UNSENT:
        await unless_ended(out.join, sender)


async def unless_ended(awaited: Callable[[], Awaitable[Any]], sender: asyncio.Task[None]) -> None:
    """Wait for what `awaited` gives, or until `sender` has ended."""
    coming = asyncio.ensure_future(awaited())
    try:
        await asyncio.wait({coming, sender}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        coming.cancel()
