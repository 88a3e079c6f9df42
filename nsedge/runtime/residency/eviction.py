"""Memory for a model that is to come: others leave until it fits, and it goes again if it does not.

Lives on the event loop's thread.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

from nsedge.runtime.machine.amounts import Amount
from nsedge.runtime.residency.budget import Fits, FitsLater, NeverFits
from nsedge.runtime.residency.entries import MAY_EVICT, Entry, Load, Resident
from nsedge.runtime.residency.habits import Habits
from nsedge.runtime.residency.residents import Residents
from nsedge.runtime.residency.settings import ResidencySettings


class Eviction:
    """Makes room in what the budget and the machine leave."""

    def __init__(
        self,
        *,
        settings: ResidencySettings,
        residents: Residents,
        habits: Habits,
        expect: Callable[[Path], Amount],
        clock: Callable[[], float],
    ) -> None:
        self._settings = settings
        self._residents = residents
        self._habits = habits
        self._expect = expect
        self._clock = clock

    def need(self, entry: Entry) -> Amount:
        """What a model will claim: what it did the last time, or what its files suggest."""
        return self._habits.expected(entry.name, entry.path) or self._expect(entry.path)

    async def make(self, load: Load) -> None:
        """Have others leave until the model fits.

        Raises:
            InsufficientMemory: it cannot fit, or not without what must stay.
        """
        entry, old, since_s = load.entry, load.entry.resident, self._clock()
        need = self.need(entry)
        while load.dropped is None:
            self._residents.measure()
            free = self._residents.free()
            verdict = self._residents.verdict(need, free, besides=old if load.replaces else None)
            if verdict == Fits():
                return
            if load.replaces and old is not None and old.model is not None:
                await self._residents.dismiss(old)  # no room for both at once
                continue
            match verdict:
                case Fits(victims=victims) if load.origin in MAY_EVICT:
                    await self._residents.evict(victims)
                case FitsLater(victims=victims) if load.origin in MAY_EVICT:
                    if self._clock() - since_s >= self._settings.patience_s:
                        self._residents.retire_named(victims)
                    await self._pause()
                case NeverFits(largest=largest):
                    raise self._residents.refusal(entry, need, largest)
                case _:
                    raise self._residents.refusal(entry, need, free)
        raise load.dropped

    async def hold(self, resident: Resident, load: Load) -> None:
        """Where a model took more than was expected, others leave, or it goes again.

        Raises:
            InsufficientMemory: it went.
        """
        verdict = self._residents.verdict(Amount(), self._residents.room(), besides=resident)
        if isinstance(verdict, Fits) and (load.origin in MAY_EVICT or not verdict.victims):
            await self._residents.evict(verdict.victims)
            return
        room = self._residents.room().grown(resident.claimed)
        error = self._residents.refusal(resident.entry, resident.claimed, room)
        await self._residents.dismiss(resident)
        raise error

    async def _pause(self) -> None:
        """Until something has changed, or it is time to look again."""
        self._residents.changed.clear()
        waiting = asyncio.create_task(self._residents.changed.wait())
        await asyncio.wait([waiting], timeout=self._settings.sweep_s)
        waiting.cancel()
