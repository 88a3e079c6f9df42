"""Places that callers share: whoever wants many leaves the others one."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator


class Places:
    """So many places; a caller has all but one at most. A place that becomes free goes to the
    caller who has the fewest, among equals to the first that came."""

    def __init__(self, count: int) -> None:
        """`count`: at least 2."""
        self._count = count
        self._held: Counter[str] = Counter()
        self._waiting: list[tuple[str, asyncio.Future[None]]] = []

    @contextlib.asynccontextmanager
    async def taken(self, caller: str) -> AsyncIterator[None]:
        """Have a place within the block, once there is one for `caller`."""
        turn = (caller, asyncio.get_running_loop().create_future())
        self._waiting.append(turn)
        self._give()
        try:
            await turn[1]
            yield
        finally:
            if turn in self._waiting:
                self._waiting.remove(turn)
            else:
                self._held[caller] -= 1
            self._give()

    def _give(self) -> None:
        """Give free places to those who wait."""
        while self._held.total() < self._count:
            able = [
                turn
                for turn in self._waiting  # one who is cancelled goes in a moment
                if not turn[1].done() and self._held[turn[0]] < self._count - 1
            ]
            if not able:
                break
            turn = min(able, key=lambda one: self._held[one[0]])
            self._waiting.remove(turn)
            self._held[turn[0]] += 1
            turn[1].set_result(None)
        self._held = +self._held
