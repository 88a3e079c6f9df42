"""Holds the right models in the memory there is: takes wishes, loads in turn, makes room.

Lives on the event loop's thread. Models are opened and closed on a thread of their own, one at a
time, so that what each takes can be measured.
"""

from __future__ import annotations

import asyncio
import functools
import itertools
import logging
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from nsedge.api import LoadWish, ModelState
from nsedge.errors import Draining, NsedgeError, Unavailable
from nsedge.runtime.hosting.hosted import HostedModel, Opening
from nsedge.runtime.machine import memory
from nsedge.runtime.machine.amounts import Amount
from nsedge.runtime.residency.catalogue import Catalogue
from nsedge.runtime.residency.entries import Entry, Load, Origin, Resident
from nsedge.runtime.residency.eviction import Eviction
from nsedge.runtime.residency.guessing import Guessing
from nsedge.runtime.residency.habits import Habits
from nsedge.runtime.residency.residents import MIB, Residents
from nsedge.runtime.residency.settings import ResidencySettings

log = logging.getLogger(__name__)

Loader = Callable[[Path, Opening], HostedModel]
"""Opens the bundle at a path, or the adapter on its base; called on a thread of its own."""

PROGRESS_STEP = 0.05
"""The least progress that is told."""


class Residency:
    """Which models are in memory, and which come next."""

    def __init__(
        self,
        *,
        settings: ResidencySettings,
        catalogue: Catalogue,
        load: Loader,
        expect: Callable[[Path], Amount],
        habits: Habits,
        clock: Callable[[], float] = time.monotonic,
        available: Callable[[], int | None] = memory.available,
        spare: Callable[[], int | None] = memory.spare,
    ) -> None:
        """`load` opens a bundle, `expect` says what one will claim that was never loaded,
        `available` what the machine has left, `spare` what of that guesses may take."""
        self.catalogue = catalogue
        self.habits = habits
        self._settings = settings
        self._open = load
        self._clock = clock
        self._queue: list[Load] = []
        self._current: Load | None = None
        self._numbers = itertools.count()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="load")
        self._tasks: list[asyncio.Task[None]] = []
        self._stopping = False
        self._measured_s = clock()
        self.residents = Residents(
            budget=settings.budget,
            thread=self._thread,
            clock=clock,
            available=available,
            on_retire=self._note,
        )
        self._eviction = Eviction(
            settings=settings, residents=self.residents, habits=habits, expect=expect, clock=clock
        )
        self._guessing = Guessing(
            settings=settings,
            catalogue=catalogue,
            residents=self.residents,
            habits=habits,
            need=self._eviction.need,
            load=self._enqueue,
            spare=spare,
            clock=clock,
        )

    async def start(self) -> None:
        """Begin to take wishes."""
        self._loop = asyncio.get_running_loop()
        self.catalogue.look()
        self._tasks = [
            self._loop.create_task(self._work(), name="loads"),
            self._loop.create_task(self._keep_sweeping(), name="sweep"),
        ]

    async def stop(self) -> None:
        """Let every model leave, and end its users where there are any. Idempotent."""
        self._stopping = True
        stopping = Draining("the daemon is stopping")
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks = []
        for load in list(self._queue):
            self._end(load, stopping)
        for resident in self.residents:
            await self.residents.dismiss(resident, drain_s=0.0, error=stopping)
        await asyncio.to_thread(self._thread.shutdown)
        self.habits.save()

    # Wishes.

    def want(self, entry: Entry, wish: LoadWish, origin: Origin) -> Load:
        """Queue a load, or join the one that is queued.

        Raises:
            NsedgeError: what its last load failed with, a moment ago, where only a request asks.
        """
        if origin is not Origin.GUESS:
            entry.unloaded = False
        recent = entry.failed_s is not None and (
            self._clock() - entry.failed_s < self._settings.retry_s
        )
        if origin is Origin.REQUEST and recent and entry.error is not None:
            raise entry.error
        if entry.load is None:
            return self._enqueue(entry, wish, origin)
        entry.load.join(wish, origin)
        self._order()
        return entry.load

    def forgo(self, load: Load) -> None:
        """A request that waited for `load` is gone; what nobody wants is not loaded."""
        load.waiting -= 1
        if load.waiting == 0 and load.origin is Origin.REQUEST:
            self._drop(load, Unavailable("nobody waits for it any more"))

    def adjust(self, entry: Entry, wish: LoadWish) -> None:
        """Take over a wish's pin and keep-alive."""
        if wish.pin is not None:
            entry.pinned = wish.pin
        resident = entry.ready
        if resident is not None:
            resident.used_s = self._clock()
            if wish.keep_alive_s is not None:
                resident.keep_alive_s = wish.keep_alive_s

    async def unload(self, entry: Entry, *, drain_s: float | None = None) -> bool:
        """Let a model leave when what runs has ended, or `drain_s` later; whether it was there.

        Somebody wants the memory: no guess takes it before the next request, and none brings this
        model back before somebody asks for it.
        """
        entry.unloaded = True
        self._guessing.suspend()
        gone = Unavailable(f"{entry.name} was unloaded", retry_after_s=1.0)
        load = entry.load
        if load is not None:
            self._drop(load, gone)
            await asyncio.wait([load.done])
        resident = entry.resident
        if resident is None:
            return False
        await self.residents.dismiss(resident, drain_s=drain_s, error=gone)
        return True

    async def clear(self, *, besides: Entry) -> None:
        """Let all others leave that are not pinned, and wait until they have."""
        kept = {besides.name, besides.base}
        others = [resident for resident in self.residents if resident.entry.name not in kept]
        going = [one for one in others if one.leaving is not None or not one.entry.pinned]
        self._guessing.suspend()
        for resident in going:
            resident.entry.unloaded = True
        await asyncio.gather(*(self.residents.dismiss(resident) for resident in going))

    def reload(self, entry: Entry) -> Load:
        """Queue reading a bundle anew. What uses the old one ends on it.

        Raises:
            BundleInvalid: where the bundle is damaged now; what is in memory stays.
        """
        self.catalogue.reopen(entry)
        entry.unloaded = False
        if entry.load is not None and not entry.load.begun:
            entry.load.replaces = True
            return entry.load
        load = self._enqueue(entry, LoadWish(model=entry.name), Origin.COMMAND)
        load.replaces = True
        return load

    def _enqueue(self, entry: Entry, wish: LoadWish, origin: Origin) -> Load:
        if self._stopping:
            raise Draining("the daemon is stopping")
        done: asyncio.Future[Resident] = self._loop.create_future()
        done.add_done_callback(_seen)
        load = Load(entry=entry, wish=wish, origin=origin, number=next(self._numbers), done=done)
        entry.load = load
        self._queue.append(load)
        self._order()
        self.residents.changed.set()
        return load

    def _drop(self, load: Load, error: NsedgeError) -> None:
        """End a load that is not wanted, at once where it has not begun."""
        load.dropped = error
        if load in self._queue:
            self._end(load, error)
        self.residents.changed.set()

    # Loading.

    async def _work(self) -> None:
        while True:
            while self._queue:
                self._current = load = self._queue.pop(0)
                load.begun = True
                await self._perform(load)
                self._current = None
                self._order()
            self.residents.changed.clear()
            await self.residents.changed.wait()

    def _order(self) -> None:
        """Sort the queue, and tell those whose place has changed."""
        self._queue.sort(key=lambda load: load.rank)
        first = 0 if self._current is None else 1
        for position, load in enumerate(self._queue, first):
            if load.position != position:
                load.position = position
                load.tell()

    def _end(self, load: Load, error: NsedgeError) -> None:
        """End a load without a model."""
        if load in self._queue:
            self._queue.remove(load)
        if load.entry.load is load:
            load.entry.load = None
        if not load.done.done():
            load.done.set_exception(error)
        self._order()

    async def _perform(self, load: Load) -> None:
        entry, began_s, base = load.entry, self._clock(), None
        load.position = 0
        load.tell()
        try:
            if entry.manifest is None:
                self.catalogue.reopen(entry)
            if load.wish.exclusive:
                await self.clear(besides=entry)
            base = await self._base_of(load)
            await self._eviction.make(load)
            resident = await self._bring(load, base)
        except asyncio.CancelledError:
            self._end(load, Draining("the daemon is stopping"))
            raise
        except NsedgeError as error:
            self._fail(load, error)
        except Exception:
            log.exception("%s could not be loaded", entry.name)
            self._fail(load, NsedgeError(f"{entry.name} could not be loaded; the log says why"))
        else:
            entry.load_s = self._clock() - began_s
            self._settle(load, resident)
        finally:
            if base is not None:
                self.residents.give_back(base, load)

    async def _base_of(self, load: Load) -> Resident | None:
        """What an adapter needs, loaded where it is not there, and held for the load.

        Raises:
            NsedgeError: there is no such model, or what it failed to load with.
        """
        if load.entry.base is None:
            return None
        base = self.catalogue.find(load.entry.base)
        resident = base.ready
        if resident is None:
            wish = LoadWish(model=base.name, priority=load.wish.priority)
            coming = self.want(base, wish, load.origin)
            self._queue.remove(coming)
            coming.begun = True
            await self._perform(coming)
            resident = await coming.done
        self.residents.take(resident, load, guess=load.origin is Origin.GUESS)
        return resident

    def _fail(self, load: Load, error: NsedgeError) -> None:
        entry = load.entry
        _let_go(error)
        if load.dropped is None:
            self.residents.counts["failure"] += 1
            known = entry.error is not None and entry.error.message == error.message
            level = logging.INFO if load.origin is Origin.GUESS else logging.WARNING
            level = logging.DEBUG if known else level
            log.log(level, "%s was not loaded: %s", entry.name, error.message)
        if load.origin is Origin.GUESS:
            entry.declined = self.habits.mark
        if not isinstance(error, Unavailable):
            entry.error, entry.failed_s = error, self._clock()
        self._end(load, error)

    def _settle(self, load: Load, resident: Resident) -> None:
        """The model is there: the old one, if any, leaves, and all that wait go on."""
        entry, old = load.entry, load.entry.resident
        entry.resident, entry.load, entry.error, entry.failed_s = resident, None, None, None
        if old is not None:
            self.residents.retire(old)
        self.residents.counts["load"] += 1
        self.residents.load_times.add(entry.load_s or 0.0)
        self.residents.counts["guess"] += resident.guessed
        self.adjust(entry, load.wish)
        size = resident.claimed.host / MIB
        log.info("loaded %s, %.2f s, %.0f MiB", entry.name, entry.load_s or 0.0, size)
        load.done.set_result(resident)

    async def _bring(self, load: Load, base: Resident | None) -> Resident:
        """Open the model, measure it, and hold it to the budget."""
        entry = load.entry
        model = await self._loop.run_in_executor(
            self._thread,
            self._open,
            entry.path,
            Opening(
                told=functools.partial(self._hear, load),
                elsewhere=self.residents.caches,
                base=None if base is None else base.model,
            ),
        )
        now_s = self._clock()
        held, claimed = model.measure()
        resident = Resident(
            entry=entry,
            model=model,
            keep_alive_s=self._settings.keep_alive_of(entry.names),
            guessed=load.origin is Origin.GUESS,
            used_s=now_s,
            memory=held,
            claimed=claimed,
            base=base,
        )
        model.start()
        del model  # the stay alone holds it
        self.residents.add(resident)
        self.habits.took(entry.name, entry.path, resident.claimed)
        await self._eviction.hold(resident, load)
        return resident

    def _hear(self, load: Load, state: ModelState, progress: float) -> None:
        """How far a load is; on the thread that loads."""
        if state is not load.state or progress - load.progress >= PROGRESS_STEP:
            load.state, load.progress = state, progress
            self._loop.call_soon_threadsafe(load.tell)

    # Looking after what is there.

    async def _keep_sweeping(self) -> None:
        while True:
            await asyncio.sleep(self._settings.sweep_s)
            try:
                self.sweep()
            except Exception:
                log.exception("looking after the models failed")

    def sweep(self) -> None:
        """Unload what is idle, hold caches to the budget, load what is likely to be asked for."""
        self.residents.retire_idle()
        if self._clock() - self._measured_s >= self._settings.measure_s:
            self._measured_s = self._clock()
            self.residents.hold_to_budget()
        self._guessing.sweep(idle=not self._queue and self._current is None)
        self.habits.save_soon(self._thread)

    def _note(self, resident: Resident) -> None:
        """What leaves is not loaded for a guess at once."""
        resident.entry.declined = self.habits.mark


def _let_go(error: BaseException | None) -> None:
    """Forget the frames that an error came through, which hold a model half opened: it is kept."""
    while error is not None:
        error.__traceback__ = None
        error = error.__cause__ or error.__context__


def _seen(done: asyncio.Future[Resident]) -> None:
    """Nobody may be waiting for a load that fails."""
    if not done.cancelled():
        done.exception()
