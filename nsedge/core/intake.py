"""The way of a request to its model: admit, wait for the model, hand over.

All on the event loop's thread.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import secrets
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from dataclasses import replace

from nsedge.api import Chat, Generate, Loading, LoadWish, Priority, Request, Sink
from nsedge.core.joining import Joining
from nsedge.core.journal import Journal
from nsedge.core.live import LiveRequest
from nsedge.core.media_asking import Shown
from nsedge.core.media_kinds import MediaSettings
from nsedge.errors import (
    DeadlineExceeded,
    Draining,
    NotLoaded,
    NsedgeError,
    QueueFull,
    UnsupportedTask,
)
from nsedge.runtime.hosting.films import MediaFilms
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
        media: MediaSettings | None = None,
        films: MediaFilms | None = None,
    ) -> None:
        """`check_open` raises why no requests are taken now; `max_waiting` bounds those that wait
        for one model to be loaded, `max_untaken` the events that a stream may hold.

        Raises:
            ConfigInvalid: `media` has a template that cannot be filled.
        """
        self.accepted = 0
        self._residency = residency
        self._journal = journal
        self._check_open = check_open
        self._on_demand = on_demand
        self._max_waiting = max_waiting
        self._max_untaken = max_untaken
        self._clock = clock
        self._joining = Joining(
            media or MediaSettings(),
            catalogue=residency.catalogue,
            core=_Inner(self),
            clock=clock,
            films=films,
        )
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
        return self._take(request, sink, self._refusal())

    def take_inner(self, request: Request, sink: Sink) -> LiveRequest:
        """The same for what a request that was taken needs, even where no others are taken now."""
        live = self._take(request, sink, None)
        live.inner = True
        return live

    def _take(self, request: Request, sink: Sink, refusal: NsedgeError | None) -> LiveRequest:
        live = LiveRequest(request=request, sink=sink, max_untaken=self._max_untaken)
        live.span = self._journal.began(request)
        live.at_end(functools.partial(self._forget, live))
        self._live.add(live)
        self._quiet.clear()
        self._loop = asyncio.get_running_loop()
        self._loop.call_soon(self._admit, live, refusal)
        return live

    def _refusal(self) -> NsedgeError | None:
        try:
            self._check_open()
        except NsedgeError as error:
            return error
        return None

    def _admit(self, live: LiveRequest, refusal: NsedgeError | None) -> None:
        """Refuse at once what can never run, have its media read and its model loaded where that
        is not there, and hand over the rest. `refusal` is as of submission."""
        if live.cancelled:
            live.end_unqueued()
            return
        request = live.request
        submitted_s = live.submitted_s = (
            self._clock() if live.submitted_s is None else live.submitted_s
        )
        try:
            if refusal is not None:
                raise refusal
            request.check()
            entry = self._residency.catalogue.find(request.model)
            _check_task(request, entry)
            shown = self._joining.shown(request.task, entry)
            resident = entry.ready
            coming = (
                None if shown or resident is not None else self._wanted(entry, request.priority)
            )
        except NsedgeError as error:
            live.fail(error)
            return
        if shown:
            self._await(live, self._join(live, shown, submitted_s))
        elif resident is not None:
            self._hand_over(live, resident, submitted_s)
        elif coming is not None:
            self._load_for(live, coming, submitted_s)

    def _await(self, live: LiveRequest, what: Coroutine[None, None, None]) -> asyncio.Task[None]:
        """Have `live` wait for something; cancelled meanwhile, it has its end: also where that
        comes before the first step of `what`, which then never runs."""
        live.waiting = task = self._loop.create_task(what)

        def ended(_: asyncio.Task[None]) -> None:
            if task.cancelled():
                live.end_unqueued()

        task.add_done_callback(ended)
        return task

    async def _join(self, live: LiveRequest, shown: Sequence[Shown], submitted_s: float) -> None:
        """Have texts made of the media of a request; then go on with these in their places."""
        request, span = live.request, live.span
        if span is not None:
            request = replace(request, traceparent=span.traceparent or request.traceparent)
        try:
            joined = await self._joining.join(request, shown, live.emit, submitted_s=submitted_s)
        except NsedgeError as error:
            live.fail(error)
        except Exception:
            log.exception("media could not be read", extra={"request_id": request.request_id})
            live.fail(NsedgeError("the media could not be read"))
        else:
            live.waiting = None
            live.request = replace(live.request, task=joined.task)
            live.ending = joined.ending
            self._admit(live, None)

    async def joined(self, name: str, task: Generate | Chat) -> Generate | Chat:
        """`task` as the model `name` reads it: with texts in the places of media that it does not
        take.

        Raises:
            NsedgeError: there is no such model, or what a medium failed with, by its place.
        """
        self._check_open()
        shown = self._joining.shown(task, self._residency.catalogue.find(name))
        if not shown:
            return task
        label = f"prompt-{secrets.token_hex(8)}"
        request, now_s = Request(request_id=label, model=name, task=task), self._clock()
        joined = await self._joining.join(request, shown, lambda event: None, submitted_s=now_s)
        return joined.task

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

    def _load_for(self, live: LiveRequest, coming: Load, submitted_s: float) -> None:
        """Tell how the load goes that `live` waits for."""
        tell = functools.partial(_tell_of, live, coming)
        waiting = self._await(live, self._wait_for(live, coming, submitted_s))

        def ended(_: asyncio.Task[None]) -> None:
            coming.watchers.discard(tell)
            self._residency.forgo(coming)

        waiting.add_done_callback(ended)
        tell()
        coming.watchers.add(tell)

    async def _wait_for(self, live: LiveRequest, coming: Load, submitted_s: float) -> None:
        """Go on with the request once its model is there."""
        left_s = live.request.deadline_s
        if left_s is not None:
            left_s -= self._clock() - submitted_s
        try:
            async with asyncio.timeout(left_s):
                resident = await asyncio.shield(coming.done)
        except TimeoutError:
            waited_s = self._clock() - submitted_s
            late = f"{live.request.model} was not loaded {waited_s:.3g} s after admission"
            live.fail(DeadlineExceeded(late, param="deadline_s"))
        except NsedgeError as error:
            live.fail(error)
        else:
            live.waiting = None
            self._hand_over(live, resident, submitted_s)

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
            self.accepted += not live.inner

    def _forget(self, live: LiveRequest) -> None:
        self._live.discard(live)
        if live.end is not None:
            self._journal.ended(live.request, live.end, live.span, inner=live.inner)
        if not self._live:
            self._quiet.set()


class _Inner:
    """Takes what requests need of other models."""

    def __init__(self, intake: Intake) -> None:
        self._intake = intake

    def submit(self, request: Request, sink: Sink) -> LiveRequest:
        """Take a request that is part of another."""
        return self._intake.take_inner(request, sink)


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
