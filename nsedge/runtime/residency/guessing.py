"""Models that are loaded before anybody asks: which, when, and when they leave again.

A guess takes what is left over. It keeps to its share of the budget, leaves when the machine gets
short of memory, and never brings back what somebody unloaded. Lives on the event loop's thread.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from nsedge.api import LoadWish, ModelState, Priority
from nsedge.runtime.machine.amounts import Amount, Room
from nsedge.runtime.residency.budget import Fits
from nsedge.runtime.residency.catalogue import Catalogue
from nsedge.runtime.residency.entries import Entry, Origin, Resident
from nsedge.runtime.residency.habits import Habits
from nsedge.runtime.residency.residents import Residents
from nsedge.runtime.residency.settings import ResidencySettings

log = logging.getLogger(__name__)


class Guessing:
    """Chooses guesses; the keeper loads them."""

    def __init__(
        self,
        *,
        settings: ResidencySettings,
        catalogue: Catalogue,
        residents: Residents,
        habits: Habits,
        need: Callable[[Entry], Amount],
        load: Callable[[Entry, LoadWish, Origin], object],
        spare: Callable[[], int | None],
        clock: Callable[[], float],
    ) -> None:
        """`need` says what a model will claim, `load` queues one, `spare` says what the machine has
        beyond what it should keep: below zero it is short of memory."""
        self._settings = settings
        self._catalogue = catalogue
        self._residents = residents
        self._habits = habits
        self._need = need
        self._load = load
        self._spare = spare
        self._clock = clock
        self._suspended_at: int | None = None

    def suspend(self) -> None:
        """Somebody freed memory: no guess until the next request."""
        self._suspended_at = self._habits.requests

    def sweep(self, *, idle: bool) -> None:
        """Let a guess leave that should, or where the keeper is `idle` load one that may come."""
        excess = self._excess()
        if excess is not None:
            log.info("%s leaves memory: loaded for a guess, and memory is short", excess.entry.name)
            self._residents.retire(excess)
            return
        entry = self._next() if idle else None
        if entry is not None:
            entry.declined = self._habits.mark  # a guess is made once, until habits change
            self._load(entry, LoadWish(model=entry.name, priority=Priority.BATCH), Origin.GUESS)

    def _next(self) -> Entry | None:
        """One of the likeliest models, where nothing has run for a while and it fits."""
        if self._suspended_at == self._habits.requests:
            return None
        quiet_s = self._clock() - self._settings.preload_idle_s
        if any(resident.users or resident.used_s > quiet_s for resident in self._residents):
            return None
        names = {entry.name: entry for entry in self._catalogue if not entry.superseded}
        for name in self._habits.worthwhile(names, self._settings.preload_top):
            entry = names[name]
            if self._may_come(entry) and self._fits(self._need_of(entry)):
                return entry
        return None

    def _excess(self) -> Resident | None:
        """The guess that is to leave now, the longest there first: guesses hold more than their
        share, or the machine is short of memory."""
        unused = self._unused()
        if not unused or any(resident.leaving is not None for resident in unused):
            return None  # what is leaving gives memory back first
        if self._share().holds(self._held()) and not self._is_short():
            return None
        # A base that an adapter needs leaves with that, and would take it along.
        free = [resident for resident in unused if not resident.adapters]
        return min(free, key=lambda resident: resident.used_s, default=None)

    def _may_come(self, entry: Entry) -> bool:
        base = self._base_of(entry)
        unwanted = entry.unloaded or (base is not None and base.unloaded)
        declined = entry.declined == self._habits.mark
        return entry.state is ModelState.ABSENT and not unwanted and not declined

    def _base_of(self, entry: Entry) -> Entry | None:
        return None if entry.base is None else self._catalogue.known(entry.base)

    def _need_of(self, entry: Entry) -> Amount:
        """What it will claim, with its base where that is not there."""
        base = self._base_of(entry)
        alone = base is None or base.ready is not None
        return self._need(entry) if alone or base is None else self._need(entry) + self._need(base)

    def _fits(self, need: Amount) -> bool:
        """Whether nobody has to leave for it, now or soon."""
        spare = self._spare()
        return (
            self._share().holds(self._held() + need)
            and (spare is None or need.host <= spare)
            and self._residents.verdict(need, self._residents.free()) == Fits()
        )

    def _unused(self) -> list[Resident]:
        return [resident for resident in self._residents if resident.guessed]

    def _held(self) -> Amount:
        return sum((resident.claimed for resident in self._unused()), Amount())

    def _share(self) -> Room:
        budget, share = self._settings.budget, self._settings.preload_share
        return Room(
            None if budget.host is None else int(budget.host * share),
            None if budget.device is None else int(budget.device * share),
        )

    def _is_short(self) -> bool:
        spare = self._spare()
        return spare is not None and spare < 0
