"""The core in process: admit, tokenise, route to an engine, fan events out.

Everything here runs on the event loop's thread, except loading and tokenising, which have threads
of their own, and `_deliver`, which engines call on theirs.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from nsedge.api import (
    Event,
    Failed,
    Finished,
    FinishReason,
    Health,
    HealthStatus,
    ModelInfo,
    Request,
    Sink,
    Stats,
    Timings,
    Usage,
    is_terminal,
)
from nsedge.errors import (
    BundleInvalid,
    Draining,
    NotReady,
    NsedgeError,
    SlowConsumer,
    UnknownModel,
)
from nsedge.runtime.admission import make_job
from nsedge.runtime.engine import Emit, Engine, Job
from nsedge.runtime.residency import Resident, load
from nsedge.runtime.settings import EngineSettings
from nsedge.version import VERSION

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceSettings:
    """What the core serves, and within which bounds."""

    bundles: tuple[Path, ...]
    engine: EngineSettings = field(default_factory=EngineSettings)
    max_untaken_events: int = 1024
    """Events a stream may hold that its reader has not taken."""


class LocalService:
    """Implements `nsedge.api.Service` over resident models."""

    def __init__(
        self, settings: ServiceSettings, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._settings = settings
        self._clock = clock
        self._began_s = clock()
        self._residents: dict[str, Resident] = {}
        self._status = HealthStatus.STARTING
        self._live: set[LiveRequest] = set()
        self._quiet = asyncio.Event()
        self._quiet.set()
        self._accepted = 0
        self._reader = ThreadPoolExecutor(1, thread_name_prefix="tokenise")

    async def start(self) -> None:
        """Load every bundle; then requests are taken.

        Raises:
            NsedgeError: the first bundle's that does not load; nothing stays loaded.
        """
        self._loop = asyncio.get_running_loop()
        try:
            for path in self._settings.bundles:
                await self._load(path)
        except NsedgeError:
            self._status = HealthStatus.FAILED
            await self.stop()
            raise
        self._status = HealthStatus.READY

    async def drain(self, timeout_s: float) -> None:
        """Take no new requests, wait for those at work, then end what is left as `draining`."""
        self._status = HealthStatus.DRAINING
        try:
            await asyncio.wait_for(self._quiet.wait(), timeout_s)
        except TimeoutError:
            for live in list(self._live):
                live.cancel()
                live.fail(Draining(f"the daemon stops, and waited {timeout_s:g} s for this"))
            await self._quiet.wait()

    async def came_round(self, timeout_s: float) -> bool:
        """Whether every engine's step loop comes round within `timeout_s`, busy or idle."""
        asked = [self._ask(resident.engine) for resident in self._residents.values()]
        if not asked:
            return True
        _, missing = await asyncio.wait(asked, timeout=timeout_s)
        for answer in missing:
            answer.cancel()
        return not missing

    async def stop(self) -> None:
        """End the engines; requests still at work end as cancelled, and new ones are refused."""
        if self._status is not HealthStatus.FAILED:
            self._status = HealthStatus.DRAINING
        for resident in self._residents.values():
            await asyncio.to_thread(resident.engine.stop)
        self._residents.clear()
        await asyncio.to_thread(self._reader.shutdown)
        # What was tokenised meanwhile reached an engine that had ended.
        for live in list(self._live):
            live.end_unqueued()

    def submit(self, request: Request, sink: Sink) -> LiveRequest:
        """Take a request; `sink` is not called before this has returned."""
        live = LiveRequest(
            request=request, sink=sink, max_untaken=self._settings.max_untaken_events
        )
        live.on_end = self._forget
        self._live.add(live)
        self._quiet.clear()
        asyncio.get_running_loop().call_soon(self._admit, live, self._status)
        return live

    async def models(self) -> tuple[ModelInfo, ...]:
        """Every resident model."""
        return tuple(resident.info() for resident in self._residents.values())

    async def health(self) -> Health:
        """Whether requests are taken."""
        return Health(status=self._status, version=VERSION, uptime_s=self._clock() - self._began_s)

    async def stats(self) -> Stats:
        """Counters and gauges."""
        return Stats(
            uptime_s=self._clock() - self._began_s,
            rss_bytes=_rss_bytes(),
            requests_accepted=self._accepted,
            models={name: resident.stats() for name, resident in self._residents.items()},
        )

    async def _load(self, path: Path) -> None:
        began_s = self._clock()
        resident = await asyncio.to_thread(
            load,
            path,
            settings=self._settings.engine,
            deliver=self._deliver,
            clock=self._clock,
        )
        name = resident.manifest.name
        if name in self._residents:
            raise BundleInvalid(f"{path}: a model named {name!r} is loaded already")
        resident.engine.start()
        self._residents[name] = resident
        log.info(
            "loaded %s: %s on %s, %d slots of %d tokens, %.2f s",
            name,
            resident.variant.name,
            resident.executor.provider,
            self._settings.engine.slots,
            resident.capacity,
            self._clock() - began_s,
        )

    def _ask(self, engine: Engine) -> asyncio.Future[None]:
        answer = self._loop.create_future()

        def came() -> None:
            if not answer.done():
                answer.set_result(None)

        def tell() -> None:
            with contextlib.suppress(RuntimeError):  # a closed loop has nobody left to tell
                self._loop.call_soon_threadsafe(came)

        engine.ask(tell)
        return answer

    def _deliver(self, batch: list[tuple[Emit, Event]]) -> None:
        self._loop.call_soon_threadsafe(_fan_out, batch)

    def _admit(self, live: LiveRequest, status: HealthStatus) -> None:
        """Refuse at once what can never run; tokenise the rest. `status` is as of submission."""
        if live.cancelled:
            live.end_unqueued()
            return
        try:
            resident = self._resident_for(live.request, status)
        except NsedgeError as error:
            live.fail(error)
            return
        reading = self._loop.run_in_executor(
            self._reader, resident.prompts.read, live.request.prompt
        )
        submitted_s = self._clock()
        reading.add_done_callback(lambda read: self._enqueue(live, resident, read, submitted_s))

    def _resident_for(self, request: Request, status: HealthStatus) -> Resident:
        if status is HealthStatus.DRAINING:
            raise Draining("the daemon is stopping and takes no new requests", retry_after_s=1.0)
        if status is not HealthStatus.READY:
            raise NotReady("the daemon is still loading its models", retry_after_s=1.0)
        request.check()
        resident = self._residents.get(request.model)
        if resident is None:
            served = ", ".join(sorted(self._residents)) or "none"
            raise UnknownModel(f"no model {request.model!r} here; served: {served}", param="model")
        return resident

    def _enqueue(
        self,
        live: LiveRequest,
        resident: Resident,
        reading: asyncio.Future[tuple[int, ...]],
        submitted_s: float,
    ) -> None:
        if live.cancelled:
            live.end_unqueued()
            return
        try:
            job = make_job(
                live.request,
                resident,
                prompt_ids=reading.result(),
                submitted_s=submitted_s,
                emit=live.emit,
            )
        except NsedgeError as error:
            live.fail(error)
            return
        except Exception:
            log.exception("a prompt could not be read")
            live.fail(NsedgeError("the prompt could not be read"))
            return
        self._accepted += 1
        live.queue(resident, job)

    def _forget(self, live: LiveRequest) -> None:
        self._live.discard(live)
        if not self._live:
            self._quiet.set()


class LiveRequest:
    """A request between its submission and its terminal event; its submitter's `Ticket`."""

    def __init__(self, *, request: Request, sink: Sink, max_untaken: int) -> None:
        self.request = request
        self.cancelled = False
        self.on_end: Callable[[LiveRequest], None] | None = None
        self._sink = sink
        self._max_untaken = max_untaken
        self._untaken = 0
        self._ended = False
        self._queued: tuple[Resident, Job] | None = None

    def cancel(self) -> None:
        """End the request wherever it stands. Its terminal event still comes; idempotent."""
        self.cancelled = True
        if self._queued is not None and not self._ended:
            resident, job = self._queued
            resident.engine.cancel(job)

    def took(self, event: Event) -> None:
        """The reader has taken `event`."""
        self._untaken -= 1

    def queue(self, resident: Resident, job: Job) -> None:
        """Hand the job to its engine."""
        self._queued = (resident, job)
        resident.engine.submit(job)

    def emit(self, event: Event) -> None:
        """Give `event` to the reader; nothing follows a terminal one."""
        if self._ended:
            return
        self._untaken += 1
        if self._untaken > self._max_untaken and not is_terminal(event):
            self.cancel()
            event = Failed.of(
                self.request.request_id,
                SlowConsumer(f"the reader left {self._max_untaken} events untaken"),
            )
        self._ended = is_terminal(event)
        if self._ended and self.on_end is not None:
            self.on_end(self)
        self._sink(event)

    def fail(self, error: NsedgeError) -> None:
        """End with an error."""
        self.emit(Failed.of(self.request.request_id, error))

    def end_unqueued(self) -> None:
        """End as cancelled, before any engine saw the request."""
        self.emit(
            Finished(
                request_id=self.request.request_id,
                reason=FinishReason.CANCELLED,
                usage=Usage(prompt_tokens=0, completion_tokens=0),
                timings=Timings(queue_s=0.0, prefill_s=0.0, decode_s=0.0),
            )
        )


def _fan_out(batch: list[tuple[Emit, Event]]) -> None:
    for emit, event in batch:
        try:
            emit(event)
        except Exception:
            log.exception("a sink failed on %s", type(event).__name__)


def _rss_bytes() -> int:
    """Resident memory of this process; 0 where /proc does not tell."""
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    except (OSError, IndexError, ValueError):
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")
