"""The way of a request to its model: admit, wait for the model, hand over.

All on the event loop's thread.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
from collections.abc import AsyncIterator, Callable

from nsedge.api import Loading, LoadWish, Priority, Request, Sink
from nsedge.core.journal import Journal
from nsedge.core.live import LiveRequest
from nsedge.core.seeing import check_media
from nsedge.errors import (
    DeadlineExceeded,
    Draining,
    NotLoaded,
    NsedgeError,
    QueueFull,
    UnsupportedTask,
)
from nsedge.runtime.hosting.hosted import HostedModel
from nsedge.runtime.residency.entries import Entry, Load, Origin, Resident, User
from nsedge.runtime.residency.residency import Residency

log = logging.getLogger(__name__)


class Intake:
    """Takes requests, and knows which are live."""

    def __init__(
        self,
        *,
        residency: Residency,
        journal: Journal,
        check_open: Callable[[], None],
        on_demand: bool,
        max_waiting: int,
        max_untaken: int,
        clock: Callable[[], float],
    ) -> None:
        """`check_open` raises why no requests are taken now; `max_waiting` bounds those that wait
        for one model to be loaded, `max_untaken` the events that a stream may hold."""
        self.accepted = 0
        self._residency = residency
        self._journal = journal
        self._check_open = check_open
        self._on_demand = on_demand
        self._max_waiting = max_waiting
        self._max_untaken = max_untaken
        self._clock = clock
        self._live: set[LiveRequest] = set()
        self._quiet = asyncio.Event()
        self._quiet.set()

    async def drain(self, timeout_s: float) -> None:
        """Wait for what is live, then end what is left as `draining`."""
        try:
            await asyncio.wait_for(self._quiet.wait(), timeout_s)
        except TimeoutError:
            for live in list(self._live):
                live.break_off(Draining(f"the daemon stops, and waited {timeout_s:g} s for this"))
            await self._quiet.wait()

    async def stop(self) -> None:
        """Cancel what is live, and wait for its end."""
        self._cancel_all()
        await self._quiet.wait()

    def _cancel_all(self) -> None:
        for live in list(self._live):
            live.cancel()

    def submit(self, request: Request, sink: Sink) -> LiveRequest:
        """Take a request; `sink` is not called before this has returned."""
        live = LiveRequest(request=request, sink=sink, max_untaken=self._max_untaken)
        live.span = self._journal.began(request)
        live.at_end(functools.partial(self._forget, live))
        self._live.add(live)
        self._quiet.clear()
        self._loop = asyncio.get_running_loop()
        self._loop.call_soon(self._admit, live, self._refusal())
        return live

    def _refusal(self) -> NsedgeError | None:
        try:
            self._check_open()
        except NsedgeError as error:
            return error
        return None

    def _admit(self, live: LiveRequest, refusal: NsedgeError | None) -> None:
        """Refuse at once what can never run, have its model loaded where that is not there, and
        hand over the rest. `refusal` is as of submission."""
        if live.cancelled:
            live.end_unqueued()
            return
        request, submitted_s = live.request, self._clock()
        try:
            if refusal is not None:
                raise refusal
            request.check()
            entry = self._residency.catalogue.find(request.model)
            _check_task(request, entry)
            check_media(request.task, entry, self._residency.catalogue)
            resident = entry.ready
            coming = None if resident is not None else self._wanted(entry, request.priority)
        except NsedgeError as error:
            live.fail(error)
            return
        if resident is not None:
            self._hand_over(live, resident, submitted_s)
        elif coming is not None:
            live.waiting = self._loop.create_task(self._wait_for(live, coming, submitted_s))

    @contextlib.asynccontextmanager
    async def holding(self, name: str, user: User) -> AsyncIterator[HostedModel]:
        """The model of that name, loaded where need be, and held for `user` within the block.

        Raises:
            NsedgeError: there is none, or it cannot be had; as for a request.
        """
        self._check_open()
        entry = self._residency.catalogue.find(name)
        while (resident := entry.ready) is None or resident.model is None:
            coming = self._wanted(entry, Priority.NORMAL)
            try:
                await asyncio.shield(coming.done)
            finally:
                self._residency.forgo(coming)
        self._residency.residents.take(resident, user)
        try:
            yield resident.model
        finally:
            self._residency.residents.give_back(resident, user)

    def _wanted(self, entry: Entry, priority: Priority) -> Load:
        """The load that a request waits for.

        Raises:
            NotLoaded: requests may not load models.
            QueueFull: too many wait for it.
            NsedgeError: what it failed with a moment ago.
        """
        if entry.load is None and not self._on_demand:
            raise NotLoaded(
                f"{entry.name} is not in memory, and requests may not load it", param="model"
            )
        wish = LoadWish(model=entry.name, priority=priority)
        coming = self._residency.want(entry, wish, Origin.REQUEST)
        if coming.waiting >= self._max_waiting:
            raise QueueFull(f"{coming.waiting} requests wait for {entry.name}", retry_after_s=1.0)
        coming.waiting += 1
        return coming

    async def _wait_for(self, live: LiveRequest, coming: Load, submitted_s: float) -> None:
        """Tell how the load goes; then go on with the request."""
        tell = functools.partial(_tell_of, live, coming)
        tell()
        coming.watchers.add(tell)
        try:
            async with asyncio.timeout(live.request.deadline_s):
                resident = await asyncio.shield(coming.done)
        except TimeoutError:
            waited_s = self._clock() - submitted_s
            late = f"{live.request.model} was not loaded {waited_s:.3g} s after admission"
            live.fail(DeadlineExceeded(late, param="deadline_s"))
        except NsedgeError as error:
            live.fail(error)
        except asyncio.CancelledError:
            live.end_unqueued()
        else:
            live.waiting = None
            self._hand_over(live, resident, submitted_s)
        finally:
            coming.watchers.discard(tell)
            self._residency.forgo(coming)

    def _hand_over(self, live: LiveRequest, resident: Resident, submitted_s: float) -> None:
        """Hold the model for the request, and have it do that."""
        model = resident.model
        if model is None or resident.leaving is not None:  # gone again already
            self._loop.call_soon(self._admit, live, self._refusal())
            return
        name, habits = resident.entry.name, self._residency.habits
        self._residency.residents.take(resident, live)
        habits.began(name)

        def ended() -> None:
            habits.ended(name, self._clock() - submitted_s)
            self._residency.residents.give_back(resident, live, live.request.keep_alive_s)

        live.at_end(ended)
        try:
            live.hand_to(model, submitted_s=submitted_s)
        except Exception:
            label = {"request_id": live.request.request_id}
            log.exception("%s could not take a request", name, extra=label)
            live.fail(NsedgeError(f"{name} could not take the request"))
        else:
            self.accepted += 1

    def _forget(self, live: LiveRequest) -> None:
        self._live.discard(live)
        if live.end is not None:
            self._journal.ended(live.request, live.end, live.span)
        if not self._live:
            self._quiet.set()


def _check_task(request: Request, entry: Entry) -> None:
    """Raises UnsupportedTask where the model, as far as it is known, does not do that."""
    manifest, task = entry.manifest, request.task.name
    if manifest is not None and task not in manifest.tasks:
        does = ", ".join(manifest.tasks)
        raise UnsupportedTask(f"{entry.name} does not {task}; it does: {does}", param="model")


def _tell_of(live: LiveRequest, coming: Load) -> None:
    live.emit(
        Loading(
            request_id=live.request.request_id,
            model=coming.entry.name,
            state=coming.entry.state,
            position=coming.position,
            progress=coming.progress,
        )
    )
