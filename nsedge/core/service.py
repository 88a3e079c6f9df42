"""The core in process: requests through the intake to engines, models in and out of memory.

Everything here runs on the event loop's thread, except `_open`, which has the keeper's, and
`_deliver`, which engines call on theirs.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import functools
import logging
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from nsedge.api import (
    AliasResult,
    Event,
    Health,
    HealthStatus,
    LoadOutcome,
    LoadResult,
    LoadWish,
    ModelCard,
    ModelInfo,
    ModelStats,
    PromptQuestion,
    PromptReading,
    Request,
    Sink,
    Stats,
    UsageReport,
)
from nsedge.api.models import check_drain
from nsedge.core.intake import Intake
from nsedge.core.journal import Journal
from nsedge.core.live import LiveRequest
from nsedge.core.media_kinds import MediaSettings
from nsedge.core.questions import Questions
from nsedge.errors import (
    Draining,
    InsufficientMemory,
    NotReady,
    NsedgeError,
)
from nsedge.runtime.delivery import Emit
from nsedge.runtime.hosting.films import MediaFilms, film_limits
from nsedge.runtime.hosting.hosted import Host, HostedModel, Opening
from nsedge.runtime.hosting.kinds import expected, open_model
from nsedge.runtime.hosting.media_reader import MediaReader
from nsedge.runtime.machine import footprint
from nsedge.runtime.machine.arbiter import Arbiter
from nsedge.runtime.residency.aliases import Aliases
from nsedge.runtime.residency.catalogue import Catalogue
from nsedge.runtime.residency.entries import Origin
from nsedge.runtime.residency.habits import Habits
from nsedge.runtime.residency.residency import Residency
from nsedge.runtime.residency.settings import ResidencySettings
from nsedge.runtime.residency.usage_file import UsageFile
from nsedge.runtime.settings import EngineSettings
from nsedge.telemetry.loop_lag import LoopLag
from nsedge.telemetry.tracing import Tracing
from nsedge.version import VERSION

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceSettings:
    """What the core serves, and within which bounds."""

    bundles: tuple[Path, ...]
    """Loaded at the start; one that is not among `required` may fail, or find no room."""
    required: frozenset[Path] | None = None
    """None is all of them."""
    folder: Path | None = None
    """Where further bundles are, served from disk."""
    on_demand: bool = True
    """Whether a request may load a model."""
    pinned: frozenset[str] = frozenset()
    aliases: Mapping[str, str] = field(default_factory=dict)
    engine: EngineSettings = field(default_factory=EngineSettings)
    residency: ResidencySettings = field(default_factory=ResidencySettings)
    predictor: str = "patterns"
    usage_file: Path | None = None
    """Where usage is kept over restarts; None keeps none."""
    aliases_file: Path | None = None
    """Where aliases that were given at run time are; None forgets them."""
    media: MediaSettings = field(default_factory=MediaSettings)
    max_untaken_events: int = 1024
    """Events a stream may hold that its reader has not taken."""
    log_prompts: bool = False


class LocalService:
    """Implements `nsedge.api.Service` over the models that it keeps."""

    def __init__(
        self,
        settings: ServiceSettings,
        *,
        tracing: Tracing | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._settings = settings
        self._clock = clock
        self._began_s = clock()
        self._status = HealthStatus.STARTING
        self._aliases = Aliases(settings.aliases_file, settings.aliases)
        self._saving = asyncio.Lock()
        self._catalogue = Catalogue(
            paths=settings.bundles,
            folder=settings.folder,
            aliases=self._aliases.current(),
            pinned=settings.pinned,
            clock=clock,
        )
        self._reader = ThreadPoolExecutor(1, thread_name_prefix="read")
        arbiter = Arbiter(clock=clock)
        self._media_reader = MediaReader(arbiter, threads=settings.engine.threads)
        self._host = Host(
            settings=settings.engine,
            deliver=self._deliver,
            clock=clock,
            reader=self._reader,
            media_reader=self._media_reader,
            arbiters={"cpu": arbiter},
        )
        self._residency = Residency(
            settings=settings.residency,
            catalogue=self._catalogue,
            load=self._open,
            expect=functools.partial(expected, settings=settings.engine),
            habits=Habits(
                file=UsageFile(settings.usage_file),
                predictor=settings.predictor,
                setting=f"{VERSION} {settings.engine}",
            ),
            clock=clock,
        )
        self._journal = Journal(prompts=settings.log_prompts, tracing=tracing)
        self._lag = LoopLag(clock=clock)
        self._intake = Intake(
            residency=self._residency,
            journal=self._journal,
            check_open=self._check_open,
            on_demand=settings.on_demand,
            max_waiting=settings.engine.max_queue + settings.engine.slots,
            max_untaken=settings.max_untaken_events,
            clock=clock,
            media=settings.media,
            films=MediaFilms(
                film_limits(settings.engine),
                reader=self._host.media_reader,
                usual=settings.media.video_frames,
            ),
        )

        self._questions = Questions(
            intake=self._intake,
            reader=self._reader,
            media_reader=self._host.media_reader,
            find=self._catalogue.find,
        )

    async def start(self) -> None:
        """Load what is to be loaded at the start; then requests are taken.

        Raises:
            NsedgeError: the first required bundle's that does not load, or, where none at all
                loads, the first one's; nothing stays loaded.
        """
        self._loop = asyncio.get_running_loop()
        self._lag.start()
        await self._residency.start()
        try:
            await self._load_first()
        except NsedgeError:
            self._status = HealthStatus.FAILED
            await self.stop()
            raise
        self._status = HealthStatus.READY

    async def _load_first(self) -> None:
        first: NsedgeError | None = None
        required = self._settings.required
        for path in self._settings.bundles:
            try:
                entry = self._catalogue.at(path)
                wish = LoadWish(model=entry.name)
                await asyncio.shield(self._residency.want(entry, wish, Origin.START).done)
            except NsedgeError as error:
                if required is None or path in required:
                    raise
                first = first or error
        if first is not None and not isinstance(first, InsufficientMemory) and not self._any():
            raise first

    def _any(self) -> bool:
        return any(True for _ in self._residency.residents)

    async def drain(self, timeout_s: float) -> None:
        """Take no new requests, wait for those at work, then end what is left as `draining`."""
        self._status = HealthStatus.DRAINING
        await self._intake.drain(timeout_s)

    async def came_round(self, timeout_s: float) -> bool:
        """Whether every engine's step loop comes round within `timeout_s`, busy or idle."""
        models = [resident.model for resident in self._residency.residents]
        asked = [answer for model in models if model is not None and (answer := self._ask(model))]
        if not asked:
            return True
        _, missing = await asyncio.wait(asked, timeout=timeout_s)
        for answer in missing:
            answer.cancel()
        return not missing

    async def stop(self) -> None:
        """Let every model leave; requests still at work end as cancelled, new ones are refused."""
        if self._status is not HealthStatus.FAILED:
            self._status = HealthStatus.DRAINING
        await self._intake.stop()
        await asyncio.to_thread(self._reader.shutdown)
        await asyncio.to_thread(self._media_reader.shutdown)
        await self._residency.stop()
        self._lag.stop()

    def submit(self, request: Request, sink: Sink) -> LiveRequest:
        """Take a request; `sink` is not called before this has returned."""
        return self._intake.submit(request, sink)

    async def models(self) -> tuple[ModelInfo, ...]:
        """Every model there is, in memory or on disk."""
        self._catalogue.refresh()
        return self._catalogue.infos()

    async def health(self) -> Health:
        """Whether requests are taken."""
        return Health(status=self._status, version=VERSION, uptime_s=self._clock() - self._began_s)

    async def stats(self) -> Stats:
        """Counters and gauges."""
        residency = self._residency.residents.stats()
        return Stats(
            uptime_s=self._clock() - self._began_s,
            rss_bytes=footprint.rss_bytes() + footprint.children_bytes(),
            requests_accepted=self._intake.accepted,
            models=self._model_stats(),
            residency=residency,
            failures=dict(self._journal.failures),
            loop_lag=self._lag.read(),
        )

    def _model_stats(self) -> dict[str, ModelStats]:
        """Of those that count for themselves; of two by one name, that which is not leaving."""
        residents = sorted(self._residency.residents, key=lambda one: one.leaving is None)
        found = {}
        for one in residents:
            stats = None if one.model is None else one.model.stats()
            if stats is not None:
                found[one.entry.name] = dataclasses.replace(stats, memory=one.memory)
        return found

    async def load(self, wish: LoadWish) -> LoadResult:
        """Have a model in memory.

        Raises:
            UnknownModel: there is none of that name.
            InsufficientMemory: it does not fit; the message has the figures.
            NsedgeError: what it failed to load with.
        """
        wish.check()
        self._check_open()
        entry = self._catalogue.find(wish.model)
        if wish.exclusive and entry.ready is not None:
            await self._residency.clear(besides=entry)
        if entry.ready is not None:
            self._residency.adjust(entry, wish)
            return LoadResult(outcome=LoadOutcome.ALREADY_LOADED, model=entry.info())
        coming = self._residency.want(entry, wish, Origin.COMMAND)
        if not wish.wait:
            return LoadResult(outcome=LoadOutcome.QUEUED, model=entry.info())
        await asyncio.shield(coming.done)
        return LoadResult(outcome=LoadOutcome.LOADED, model=entry.info())

    async def unload(
        self, model: str | None, *, drain_s: float | None = None
    ) -> tuple[ModelInfo, ...]:
        """Let a model leave memory, or all of them; those that left.

        Raises:
            UnknownModel: there is none of that name.
            InvalidParameter: `drain_s` is no time to wait.
        """
        check_drain(drain_s)
        entries = list(self._catalogue) if model is None else [self._catalogue.find(model)]
        left = await asyncio.gather(
            *(self._residency.unload(entry, drain_s=drain_s) for entry in entries)
        )
        return tuple(entry.info() for entry, gone in zip(entries, left, strict=True) if gone)

    async def reload(self, model: str) -> ModelInfo:
        """Read a model's bundle anew; what runs ends on the old one."""
        self._check_open()
        entry = self._catalogue.find(model)
        await asyncio.shield(self._residency.reload(entry).done)
        return entry.info()

    async def refresh(self) -> tuple[ModelInfo, ...]:
        """Look for bundles that came, went or changed, and reload those in memory that changed;
        what was reloaded. One that cannot be reloaded stays as it is, and is logged."""
        self._catalogue.look()
        done = []
        for entry in self._catalogue.changed():
            try:
                done.append(await self.reload(entry.name))
            except NsedgeError as error:
                log.warning("%s stays as it was: %s", entry.name, error)
        return tuple(done)

    async def alias(self, alias: str, model: str | None) -> AliasResult:
        """Give a model a further name, or take it away; over restarts, too, where the disk takes
        it: the name holds even where it does not."""
        entry = self._catalogue.alias(alias, model)
        self._aliases.say(alias, None if entry is None else entry.name)
        async with self._saving:
            unkept = await asyncio.to_thread(self._aliases.save)
        return AliasResult(model=None if entry is None else entry.info(), unkept=unkept)

    async def usage(self) -> UsageReport:
        """How models have been used, and which are worth loading."""
        self._catalogue.refresh()
        return self._residency.habits.report(
            preload_top=self._settings.residency.preload_top,
            names=[entry.name for entry in self._catalogue],
        )

    async def read_prompt(self, question: PromptQuestion) -> PromptReading:
        """A prompt as its model reads it."""
        return await self._questions.read_prompt(question)

    async def detokenize(self, model: str, token_ids: tuple[int, ...]) -> str:
        """The text of some tokens."""
        return await self._questions.detokenize(model, token_ids)

    async def describe(self, model: str) -> ModelCard:
        """What is known of a model from its package."""
        self._catalogue.refresh()
        return await self._questions.describe(model)

    def _open(self, path: Path, opening: Opening) -> HostedModel:
        """Open a bundle, or an adapter on its base; on the thread that models are opened on."""
        return open_model(path, self._host, opening)

    def _ask(self, model: HostedModel) -> asyncio.Future[None] | None:
        """Done when the model's loop comes round; None where it has none."""
        answer = self._loop.create_future()

        def came() -> None:
            if not answer.done():
                answer.set_result(None)

        def tell() -> None:
            with contextlib.suppress(RuntimeError):  # a closed loop has nobody left to tell
                self._loop.call_soon_threadsafe(came)

        return answer if model.comes_round(tell) else None

    def _deliver(self, batch: list[tuple[Emit, Event]]) -> None:
        self._loop.call_soon_threadsafe(_fan_out, batch)

    def _check_open(self) -> None:
        if self._status is HealthStatus.DRAINING:
            raise Draining("the daemon is stopping and takes no new requests", retry_after_s=1.0)
        if self._status is not HealthStatus.READY:
            raise NotReady("the daemon is still loading its models", retry_after_s=1.0)


def _fan_out(batch: list[tuple[Emit, Event]]) -> None:
    for emit, event in batch:
        try:
            emit(event)
        except Exception:
            log.exception("a sink failed on %s", type(event).__name__)
