"""What several want at the same time is made once; pure asyncio, on one loop."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Hashable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class Once(Generic[K, V]):
    """Has one of those who want a thing make it, while the others wait for it. Where he fails, or
    is cancelled, the next makes it himself."""

    def __init__(self) -> None:
        self._coming: dict[K, asyncio.Future[V | None]] = {}
        """None comes where nothing was made."""

    async def made(
        self, key: K, make: Callable[[], Awaitable[V]], *, patience_s: float | None = None
    ) -> tuple[V, bool]:
        """The thing of that key, and whether another made it.

        Raises:
            TimeoutError: another has not made it within `patience_s`.
            Exception: what `make` raises.
        """
        async with asyncio.timeout(patience_s):
            while (coming := self._coming.get(key)) is not None:
                found = await asyncio.shield(coming)
                if found is not None:
                    return found, True
        return await self._make(key, make), False

    async def _make(self, key: K, make: Callable[[], Awaitable[V]]) -> V:
        coming = self._coming[key] = asyncio.get_running_loop().create_future()
        found: V | None = None
        try:
            found = await make()
            return found
        finally:
            del self._coming[key]
            coming.set_result(found)
