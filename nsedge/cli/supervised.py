"""The duties of both processes of the daemon to their supervisor while they run."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from nsedge.process.sdnotify import Notifier

FEEDS = 3
"""Signs of life in a watchdog's interval: one may come late."""

Alive = Callable[[float], Awaitable[bool]]
"""Whether what must not hang shows life within so many seconds."""
Words = Callable[[], Awaitable[str]]
"""Tells the state of the process, for people."""


async def report(
    notifier: Notifier, *, watchdog_s: float | None, alive: Alive, words: Words, every_s: float
) -> None:
    """Feed the watchdog for as long as there is life, and keep the status line true. Never ends.

    The line is told when it changes, at most each `every_s`.
    """
    told = ""
    period_s = every_s if watchdog_s is None else min(every_s, watchdog_s / FEEDS)
    loop = asyncio.get_running_loop()
    while True:
        began_s = loop.time()
        if await alive(period_s):
            notifier.watchdog()
            if (now := await words()) != told:
                notifier.status(now)
                told = now
        await asyncio.sleep(max(0.0, began_s + period_s - loop.time()))
