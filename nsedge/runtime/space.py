"""Memory for a model that is to come: others leave until it fits, and it goes again if it does not.

Lives on the event loop's thread.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Generic

from nsedge.runtime.budget import Amount, Fits, FitsLater, NeverFits
from nsedge.runtime.entries import MAY_EVICT, Entry, K, Load, Stay
from nsedge.runtime.habits import Habits
from nsedge.runtime.settings import KeeperSettings
from nsedge.runtime.stays import Stays


class Space(Generic[K]):
    """Makes room in what the budget and the machine leave."""

    def __init__(
        self,
        *,
        settings: KeeperSettings,
        stays: Stays[K],
        habits: Habits,
        expect: Callable[[Path], Amount],
        clock: Callable[[], float],
    ) -> None:
        self._settings = settings
        self._stays = stays
        self._habits = habits
        self._expect = expect
        self._clock = clock

    def need(self, entry: Entry[K]) -> Amount:
        """What a model will claim: what it did the last time, or what its files suggest."""
        return self._habits.expected(entry.name, entry.path) or self._expect(entry.path)

    async def make(self, load: Load[K]) -> None:
        """Have others leave until the model fits.

        Raises:
            InsufficientMemory: it cannot fit, or not without what must stay.
        """
        entry, old, since_s = load.entry, load.entry.stay, self._clock()
        need = self.need(entry)
        while load.dropped is None:
            self._stays.measure()
            free = self._stays.free()
            verdict = self._stays.verdict(need, free, besides=old if load.replaces else None)
            if verdict == Fits():
                return
            if load.replaces and old is not None and old.model is not None:
                await self._stays.dismiss(old)  # no room for both at once
                continue
            match verdict:
                case Fits(victims=victims) if load.origin in MAY_EVICT:
                    await self._stays.evict(victims)
                case FitsLater(victims=victims) if load.origin in MAY_EVICT:
                    if self._clock() - since_s >= self._settings.patience_s:
                        self._stays.retire_named(victims)
                    await self._pause()
                case NeverFits(largest=largest):
                    raise self._stays.refusal(entry, need, largest)
                case _:
                    raise self._stays.refusal(entry, need, free)
        raise load.dropped

    async def hold(self, stay: Stay[K], load: Load[K]) -> None:
        """Where a model took more than was expected, others leave, or it goes again.

        Raises:
            InsufficientMemory: it went.
        """
        verdict = self._stays.verdict(Amount(), self._stays.room(), besides=stay)
        if isinstance(verdict, Fits) and (load.origin in MAY_EVICT or not verdict.victims):
            await self._stays.evict(verdict.victims)
            return
        room = self._stays.room().grown(stay.claimed)
        error = self._stays.refusal(stay.entry, stay.claimed, room)
        await self._stays.dismiss(stay)
        raise error

    async def _pause(self) -> None:
        """Until something has changed, or it is time to look again."""
        self._stays.changed.clear()
        waiting = asyncio.create_task(self._stays.changed.wait())
        await asyncio.wait([waiting], timeout=self._settings.sweep_s)
        waiting.cancel()
