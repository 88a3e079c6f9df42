"""The models in memory: who uses them, what they hold, and how they leave.

Lives on the event loop's thread; only closing a model is left to the thread that models are loaded
on, so that no two are measured at once.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor

from nsedge.api import ResidencyStats
from nsedge.errors import InsufficientMemory, NsedgeError
from nsedge.runtime.hosting.hosted import HostedModel
from nsedge.runtime.machine import memory
from nsedge.runtime.machine.amounts import Amount, Room
from nsedge.runtime.residency.budget import Fits, Verdict, decide
from nsedge.runtime.residency.entries import Entry, Resident, User
from nsedge.telemetry.histogram import WAIT_BOUNDS_S, Stopwatch

log = logging.getLogger(__name__)

MIB = 2**20


class Residents:
    """What is in memory, within a budget."""

    def __init__(
        self,
        *,
        budget: Room,
        thread: ThreadPoolExecutor,
        clock: Callable[[], float],
        available: Callable[[], int | None],
        on_retire: Callable[[Resident], None],
    ) -> None:
        self.counts: Counter[str] = Counter()
        self.load_times = Stopwatch(WAIT_BOUNDS_S)
        self.changed = asyncio.Event()
        """Memory, or a model in use, became free; or somebody else says that something did."""
        self._budget = budget
        self._thread = thread
        self._clock = clock
        self._available = available
        self._on_retire = on_retire
        self._residents: set[Resident] = set()
        self._over = False

    def __iter__(self) -> Iterator[Resident]:
        return iter(list(self._residents))

    # Using.

    def add(self, resident: Resident) -> None:
        """A model has come."""
        self._residents.add(resident)
        if resident.base is not None:
            resident.base.adapters.add(resident)

    def take(self, resident: Resident, user: User, *, guess: bool = False) -> None:
        """`user` holds the model from now on; `guess`: it is one itself, an adapter's load."""
        resident.users.add(user)
        resident.quiet.clear()
        resident.used_s = self._clock()
        for one in (resident, resident.base):  # what uses an adapter uses its base
            if one is not None and one.guessed and not guess:
                one.guessed = False
                self.counts["guess used"] += 1

    def give_back(self, resident: Resident, user: User, keep_alive_s: float | None = None) -> None:
        """`user` has ended; `keep_alive_s` is the model's from now on, None changes nothing."""
        resident.users.discard(user)
        resident.used_s = self._clock()
        if keep_alive_s is not None:
            resident.keep_alive_s = keep_alive_s
        if resident.users:
            return
        resident.quiet.set()
        self.changed.set()
        self._retire_idle(resident)

    # Leaving.

    def retire_idle(self) -> None:
        """Let those leave that nobody has used for their keep-alive."""
        for resident in self:
            self._retire_idle(resident)

    def retire(self, resident: Resident) -> asyncio.Task[None]:
        """Let a model leave: it takes no new users, and goes when the last has ended."""
        if resident.leaving is None:
            resident.leaving = asyncio.get_running_loop().create_task(self._leave(resident))
            self._on_retire(resident)
            if resident.guessed:
                self.counts["guess wasted"] += 1
        for adapter in list(resident.adapters):
            self.retire(adapter)
        return resident.leaving

    async def dismiss(
        self,
        resident: Resident,
        *,
        drain_s: float | None = None,
        error: NsedgeError | None = None,
    ) -> None:
        """Let a model leave and wait until it has; users left after `drain_s` end with `error`."""
        leaving = self.retire(resident)
        if error is not None and drain_s is not None:
            await asyncio.wait([leaving], timeout=drain_s if resident.everybody() else None)
            for user in resident.everybody():
                user.break_off(error)
        await asyncio.shield(leaving)

    async def evict(self, names: Iterable[str]) -> None:
        """Let models leave that nobody uses, for another."""
        for resident in self._named(names):
            if resident.leaving is None:
                self.counts["eviction"] += 1
                log.info("%s leaves memory for another", resident.entry.name)
            await asyncio.shield(self.retire(resident))

    def retire_named(self, names: Iterable[str]) -> None:
        """Let models leave as soon as those that use them have ended."""
        for resident in self._named(names):
            if resident.leaving is None:
                self.counts["eviction"] += 1
                log.info(
                    "%s takes no new requests: another waits for its memory", resident.entry.name
                )
            self.retire(resident)

    def _named(self, names: Iterable[str]) -> list[Resident]:
        wanted = set(names)
        return [resident for resident in self if resident.entry.name in wanted]

    def _retire_idle(self, resident: Resident) -> None:
        if (
            resident.users
            or resident.adapters
            or resident.leaving is not None
            or resident.entry.pinned
        ):
            return
        if self._clock() - resident.used_s >= resident.keep_alive_s:
            self.counts["idle"] += 1
            log.info(
                "%s leaves memory: unused for %g s", resident.entry.name, resident.keep_alive_s
            )
            self.retire(resident)

    async def _leave(self, resident: Resident) -> None:
        await resident.quiet.wait()
        while resident.adapters:
            await asyncio.gather(*(self.retire(adapter) for adapter in resident.adapters))
        model, resident.model = resident.model, None
        loop = asyncio.get_running_loop()
        closing = loop.run_in_executor(self._thread, _close, [model])
        del model
        await closing
        self._residents.discard(resident)
        if resident.base is not None:
            resident.base.adapters.discard(resident)
            resident.base.used_s = self._clock()
        if resident.entry.resident is resident:
            resident.entry.resident = None
        self.changed.set()

    # Measuring.

    def caches(self) -> int:
        """Bytes that caches hold now; on the thread that closes models, so none goes meanwhile."""
        models = [resident.model for resident in list(self._residents)]
        return sum(model.cache_bytes() for model in models if model is not None)

    def measure(self) -> None:
        """See what each claims now."""
        for resident in self:
            if resident.model is not None:
                resident.memory, resident.claimed = resident.model.measure()

    def used(self) -> Amount:
        """What all claim together."""
        return sum((resident.claimed for resident in self), Amount())

    def room(self) -> Room:
        """What the budget leaves; below zero where more is taken."""
        return self._budget.grown(Amount() - self.used())

    def free(self) -> Room:
        """What the budget and the machine leave."""
        room, there = self.room(), self._available()
        known = [size for size in (room.host, there) if size is not None]
        return Room(min(known, default=None), room.device)

    def verdict(self, need: Amount, room: Room, *, besides: Resident | None = None) -> Verdict:
        """How `need` comes to fit `room`; `besides` need not leave."""
        return decide(
            need, room, [resident.holder() for resident in self if resident is not besides]
        )

    def hold_to_budget(self) -> None:
        """Caches grow: let unused models leave where the budget is exceeded."""
        self.measure()
        match self.verdict(Amount(), self.room()):
            case Fits(victims=()):
                self._over = False
            case Fits(victims=victims):
                self.counts["eviction"] += len(victims)
                log.info("%s leaves memory: the budget is exceeded", ", ".join(victims))
                for resident in self._named(victims):
                    self.retire(resident)
            case _:
                if not self._over:
                    log.warning("the memory budget is exceeded, and all models are in use")
                self._over = True

    def refusal(self, entry: Entry, need: Amount, room: Room) -> InsufficientMemory:
        """Why a model does not fit, in figures."""
        told = [f"{entry.name} needs {_mib(need.host)} of memory"]
        if need.device:
            told.append(f"and {_mib(need.device)} of the device's")
        told.append(f"; {_mib(room.host)} can be had")
        if need.device:
            told.append(f", {_mib(room.device)} of the device's")
        if self._budget.host is not None:
            told.append(f", of a budget of {_mib(self._budget.host)}")
        return InsufficientMemory(" ".join(told).replace(" ;", ";").replace(" ,", ","))

    def stats(self) -> ResidencyStats:
        """Memory in all, and what came and went."""
        self.measure()
        used, counts = self.used(), self.counts
        return ResidencyStats(
            budget_bytes=self._budget.host,
            used_bytes=used.host,
            loads=counts["load"],
            load_failures=counts["failure"],
            evictions=counts["eviction"],
            idle_unloads=counts["idle"],
            guesses=counts["guess"],
            guesses_used=counts["guess used"],
            guesses_wasted=counts["guess wasted"],
            device_budget_bytes=self._budget.device,
            device_used_bytes=used.device,
            load_times=self.load_times.read(),
        )


def _close(held: list[HostedModel | None]) -> None:
    """Close a model and give its memory back. The list is the last that holds it."""
    model = held.pop()
    if model is not None:
        model.close()
    del model
    memory.trim()


def _mib(size: int | None) -> str:
    return "any amount" if size is None else f"{max(0, size) / MIB:.0f} MiB"
