"""`nsedge serve`: the core, from its bundles to its last reply."""

from __future__ import annotations

import argparse
import asyncio
import faulthandler
import logging
import math
import os
from functools import partial
from pathlib import Path

from nsedge.api import ModelState
from nsedge.cli import bundles, logs, signals, supervised
from nsedge.cli.exits import ExitStatus
from nsedge.cli.rereading import Reloader, Reread
from nsedge.cli.signals import ReloadRequests, StopRequests
from nsedge.config import pairs
from nsedge.config import reader as config
from nsedge.config.settings import Settings
from nsedge.core.media_kinds import MediaSettings
from nsedge.core.service import LocalService, ServiceSettings
from nsedge.ipc.access import Access
from nsedge.ipc.curve import KeyPair, ServerCurve
from nsedge.ipc.inherited import by_endpoint
from nsedge.ipc.limits import Limits
from nsedge.ipc.server import Server
from nsedge.ipc.socket_files import Permit
from nsedge.process import descriptors
from nsedge.process.sdnotify import Notifier
from nsedge.runtime.machine import memory
from nsedge.runtime.machine.amounts import Room
from nsedge.runtime.residency.settings import ResidencySettings
from nsedge.runtime.settings import Device, EngineSettings, PrefixReuse
from nsedge.security import keyring
from nsedge.security.watched_file import WatchedFile
from nsedge.telemetry.collector import open_tracing
from nsedge.telemetry.tracing import Tracing

log = logging.getLogger("nsedge.core")

EXTENSION_S = 15.0
"""The time asked of the supervisor, again and again, while models load."""
STATUS_S = 5.0
"""Between two looks for what the status line says."""
STOPPING_S = 10.0
"""The time that ending takes, beyond the time that requests get to end."""
OURS = frozenset({"home", "core", "media", "models", "engine", "log", "observability"})
LIVE = frozenset({"core.drain_s", "log.level", "log.json"})
"""The settings that SIGHUP changes; the rest of ours need a restart."""


def run(loaded: config.Loaded, options: argparse.Namespace) -> int:
    """Serve until asked to stop, then drain."""
    settings, environ = loaded.settings, config.environment()
    logs.configure(settings.log.level, as_json=settings.log.json)
    # A watchdog ends a process that hangs with SIGABRT: the log then says where each thread was.
    faulthandler.enable()
    descriptors.allow_all()
    memory.one_heap()
    for stray in bundles.strays(settings):
        log.warning("%s", stray)
    tracing = open_tracing(config.traces_url(settings, environ), service="nsedge-core")
    core = Core(
        settings,
        tracing=tracing,
        supervisor=config.supervisor(environ, os.getpid()),
        reread=partial(config.load, environ, file=options.config, overrides=options.overrides),
    )
    signals.run(core.run(until_eof=options.until_eof))
    return ExitStatus.OK


class Core:
    """The service and its ZeroMQ door, started and stopped in order."""

    def __init__(
        self,
        settings: Settings,
        *,
        supervisor: config.Supervisor,
        reread: Reread,
        tracing: Tracing | None = None,
    ) -> None:
        """`reread` reads the configuration anew, from where `settings` came.

        Raises:
            ConfigInvalid: where a setting and a socket of the supervisor's contradict each other.
        """
        self._notifier = Notifier(supervisor.notify_socket)
        self._reloader = Reloader(
            settings,
            reread=reread,
            notifier=self._notifier,
            ours=OURS,
            live=LIVE,
            apply=self._apply,
        )
        self._watchdog_s = supervisor.watchdog_s
        self._tracing = tracing
        self._service = LocalService(service_settings(settings), tracing=tracing)
        self._server = Server(
            self._service,
            endpoints=endpoints(settings),
            limits=limits(settings),
            access=access(settings),
            inherited=by_endpoint(supervisor.sockets),
        )

    async def run(self, *, until_eof: bool) -> None:
        """Open the door, load the models, serve, drain.

        Raises:
            NsedgeError: where the door or a model cannot be opened.
        """
        stop, reload = StopRequests(until_eof=until_eof), ReloadRequests()
        await self._server.start()
        try:
            if await self._load(stop):
                await self._serve(stop, reload)
            await self._drain(stop)
        finally:
            await self._server.stop()
            await self._service.stop()
            if self._tracing is not None:
                await asyncio.to_thread(self._tracing.close)
        log.info("stopped")

    async def _load(self, stop: StopRequests) -> bool:
        """Whether the models are there; False where a stop came first."""
        starting = asyncio.create_task(self._service.start())
        asked = asyncio.create_task(stop.wanted.wait())
        wanted = len(bundles.chosen(self._reloader.settings))
        began_s = asyncio.get_running_loop().time()
        try:
            while not starting.done() and not asked.done():
                self._extend(began_s)
                loaded = len(await self._ready())
                self._notifier.status(f"loading models: {loaded} of {wanted} checked and ready")
                await asyncio.wait(
                    (starting, asked), timeout=EXTENSION_S / 3, return_when="FIRST_COMPLETED"
                )
            if starting.done():
                starting.result()
        finally:
            asked.cancel()
            starting.cancel()
            await asyncio.wait((starting, asked))
        return not starting.cancelled()

    def _extend(self, began_s: float) -> None:
        """Ask for more time to start, as long as `core.start_s` have not gone by."""
        left_s = began_s + self._reloader.settings.core.start_s - asyncio.get_running_loop().time()
        if left_s > 0:
            self._notifier.extend_timeout(min(EXTENSION_S, left_s))

    async def _ready(self) -> list[str]:
        """The models in memory."""
        models = await self._service.models()
        return [one.name for one in models if one.state is ModelState.READY]

    async def _serve(self, stop: StopRequests, reload: ReloadRequests) -> None:
        names = ", ".join(await self._ready()) or "none yet"
        doors = ", ".join(endpoints(self._reloader.settings))
        log.info("ready", extra={"models": names, "endpoints": doors})
        self._notifier.ready(await self._words())
        reporting = asyncio.create_task(
            supervised.report(
                self._notifier,
                watchdog_s=self._watchdog_s,
                alive=self._service.came_round,
                words=self._words,
                every_s=STATUS_S,
            )
        )
        reloading = asyncio.create_task(self._reloader.follow(reload))
        try:
            await stop.wanted.wait()
        finally:
            for task in (reporting, reloading):
                task.cancel()
            await asyncio.gather(reporting, reloading, return_exceptions=True)

    async def _words(self) -> str:
        """`ipc:///run/nsedge/nsedge.sock: smollm2 (2 running, 1 waiting)`."""
        stats = await self._service.stats()
        models = ", ".join(
            f"{name} ({model.running} running, {model.waiting} waiting)"
            if model.running or model.waiting
            else name
            for name, model in stats.models.items()
        )
        return f"{', '.join(endpoints(self._reloader.settings))}: {models or 'no model in memory'}"

    async def _apply(self, settings: Settings) -> str:
        logs.configure(settings.log.level, as_json=settings.log.json)
        reloaded = await self._service.refresh()
        return f"read {', '.join(one.name for one in reloaded)} anew" if reloaded else ""

    async def _drain(self, stop: StopRequests) -> None:
        limit_s = self._reloader.settings.core.drain_s
        log.info("draining", extra={"limit_s": limit_s})
        self._notifier.stopping(f"draining: running requests get {limit_s:g} s")
        self._notifier.extend_timeout(limit_s + STOPPING_S)
        draining = asyncio.create_task(self._service.drain(limit_s))
        hurried = asyncio.create_task(stop.hurried.wait())
        await asyncio.wait((draining, hurried), return_when="FIRST_COMPLETED")
        hurried.cancel()
        if not draining.done():
            draining.cancel()
            await self._service.drain(0.0)


def endpoints(settings: Settings) -> tuple[str, ...]:
    """Where the core listens."""
    core = settings.core
    return (core.endpoint, core.tcp_endpoint) if core.tcp_endpoint else (core.endpoint,)


def access(settings: Settings) -> Access:
    """Who may reach the core, as configured.

    Raises:
        ConfigInvalid: where a key file cannot be read.
    """
    core = settings.core
    curve = None
    if core.curve_secret:
        curve = ServerCurve(
            pair=KeyPair.read(Path(core.curve_secret)),
            clients=WatchedFile(Path(core.curve_clients), keyring.read),
        )
    permit = Permit(mode=int(core.socket_mode, 8), group=core.socket_group)
    return Access(permit=permit, curve=curve, allow_cleartext=core.allow_cleartext)


def limits(settings: Settings) -> Limits:
    """The door's limits, as configured."""
    core = settings.core
    return Limits(
        heartbeat_s=core.heartbeat_s,
        liveness_s=core.liveness_s,
        stall_s=core.stall_s,
        max_message_bytes=core.max_message_bytes,
        media_bytes=core.media_bytes,
        max_sessions=core.max_sessions,
    )


def service_settings(settings: Settings) -> ServiceSettings:
    """The service's settings, as configured.

    Raises:
        ConfigInvalid: where a bundle that is named is not there.
        BundleInvalid: where there is none at all.
    """
    engine, models = settings.engine, settings.models
    named = bundles.named(settings)
    keep_alive_s = math.inf if models.keep_alive == "forever" else models.keep_alive
    return ServiceSettings(
        bundles=bundles.chosen(settings),
        required=frozenset(named),
        folder=settings.bundles,
        on_demand=models.on_demand,
        pinned=bundles.pinned(settings),
        aliases=pairs.named(models.aliases),
        predictor=models.predictor,
        usage_file=settings.usage_file,
        aliases_file=settings.aliases_file,
        log_prompts=settings.log.prompts,
        media=media(settings),
        residency=ResidencySettings(
            budget=Room(_budget(models.memory_bytes), models.device_memory_bytes or None),
            keep_alive_s=keep_alive_s,
            keep_alives=pairs.keep_alives(models),
            preload_top=models.preload_top,
            preload_share=models.preload_share,
            preload_idle_s=models.preload_idle_s,
        ),
        engine=EngineSettings(
            slots=engine.slots,
            context_tokens=engine.context_tokens,
            prefill_chunk_tokens=engine.prefill_chunk_tokens,
            embed_batch_tokens=engine.embed_batch_tokens,
            max_picture_pixels=engine.max_picture_pixels,
            max_video_frames=engine.max_video_frames,
            max_video_s=engine.max_video_s,
            video_decode_s=engine.video_decode_s,
            picture_cache_bytes=engine.picture_cache_bytes,
            max_image_pixels=engine.max_image_pixels,
            max_image_steps=engine.max_image_steps,
            image_batch=engine.image_batch,
            prefix_reuse=PrefixReuse(engine.prefix_reuse),
            step_stretch=engine.step_stretch,
            burst_s=engine.burst_s,
            max_queue=engine.max_queue,
            threads=engine.threads,
            device=Device(engine.device),
            signers=settings.models.signers,
            variants=pairs.named(models.variants),
            tool_formats=pairs.tool_formats(models),
        ),
    )


def media(settings: Settings) -> MediaSettings:
    """The configured handling of media in conversations."""
    said = settings.media
    return MediaSettings(
        join=said.join,
        caption_model=said.caption_model,
        speech_model=said.speech_model,
        image_template=said.image_template,
        audio_template=said.audio_template,
        video_template=said.video_template,
        video_frames=said.video_frames,
        kept_bytes=said.kept_bytes,
    )


def _budget(wanted: int) -> int | None:
    """The budget in bytes; None where nothing is wanted, and nothing tells what is there."""
    if wanted:
        return wanted
    there = memory.available()
    return None if there is None else there * 9 // 10
