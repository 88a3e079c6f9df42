"""`nsedge serve`: the core, from its bundles to its last reply."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
import os
from pathlib import Path

from nsedge import config, keyring
from nsedge.api import Stats
from nsedge.cli import bundles, logs
from nsedge.cli.exits import ExitStatus
from nsedge.cli.signals import StopRequests
from nsedge.ipc.access import Access
from nsedge.ipc.curve import KeyPair, ServerCurve
from nsedge.ipc.endpoints import Permit
from nsedge.ipc.limits import Limits
from nsedge.ipc.server import Server
from nsedge.runtime.settings import Device, EngineSettings, PrefixReuse
from nsedge.sdnotify import Notifier
from nsedge.service import LocalService, ServiceSettings
from nsedge.settings import Settings
from nsedge.watched import WatchedFile

log = logging.getLogger("nsedge.core")

EXTENSION_S = 15.0
"""What the supervisor is asked for, again and again, while models load."""


def run(loaded: config.Loaded, options: argparse.Namespace) -> int:
    """Serve until asked to stop, then drain."""
    settings = loaded.settings
    logs.configure(settings.log.level, as_json=settings.log.json)
    supervisor = config.supervisor(config.environment(), os.getpid())
    core = Core(settings, Notifier(supervisor.notify_socket), watchdog_s=supervisor.watchdog_s)
    asyncio.run(core.run(until_eof=options.until_eof))
    return ExitStatus.OK


class Core:
    """The service and its ZeroMQ door, started and stopped in order."""

    def __init__(self, settings: Settings, notifier: Notifier, *, watchdog_s: float | None) -> None:
        self._settings = settings
        self._notifier = notifier
        self._watchdog_s = watchdog_s
        self._service = LocalService(service_settings(settings))
        self._server = Server(
            self._service,
            endpoints=endpoints(settings),
            limits=limits(settings),
            access=access(settings),
        )

    async def run(self, *, until_eof: bool) -> None:
        """Open the door, load the models, serve, drain.

        Raises:
            NsedgeError: where the door or a model cannot be opened.
        """
        stop = StopRequests(until_eof=until_eof)
        await self._server.start()
        try:
            if await self._load(stop):
                await self._serve(stop)
            await self._drain(stop)
        finally:
            await self._server.stop()
            await self._service.stop()
        log.info("stopped")

    async def _load(self, stop: StopRequests) -> bool:
        """Whether the models are there; False where a stop came first."""
        starting = asyncio.create_task(self._service.start())
        asked = asyncio.create_task(stop.wanted.wait())
        try:
            while not starting.done() and not asked.done():
                self._notifier.extend_timeout(EXTENSION_S)
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

    async def _serve(self, stop: StopRequests) -> None:
        names = ", ".join(model.name for model in await self._service.models())
        doors = ", ".join(endpoints(self._settings))
        log.info("ready", extra={"models": names, "endpoints": doors})
        self._notifier.ready(f"{doors}: {names}")
        pulse = asyncio.create_task(self._feed_watchdog())
        try:
            await stop.wanted.wait()
        finally:
            pulse.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await pulse

    async def _drain(self, stop: StopRequests) -> None:
        limit_s = self._settings.core.drain_s
        log.info("draining", extra={"limit_s": limit_s})
        self._notifier.stopping()
        draining = asyncio.create_task(self._service.drain(limit_s))
        hurried = asyncio.create_task(stop.hurried.wait())
        await asyncio.wait((draining, hurried), return_when="FIRST_COMPLETED")
        hurried.cancel()
        if not draining.done():
            draining.cancel()
            await self._service.drain(0.0)

    async def _feed_watchdog(self) -> None:
        """Tell the supervisor of life for as long as the engines' steps go on."""
        if self._watchdog_s is None:
            return
        progress = Progress()
        while True:
            if progress.seen(await self._service.stats()):
                self._notifier.watchdog()
            await asyncio.sleep(self._watchdog_s / 3)


class Progress:
    """Whether every engine that has work has made a step since it was last asked."""

    def __init__(self) -> None:
        self._steps: dict[str, int] = {}

    def seen(self, stats: Stats) -> bool:
        """Compare with the call before; an engine without work is well."""
        stuck = [
            name
            for name, model in stats.models.items()
            if model.running and self._steps.get(name) == model.steps
        ]
        self._steps = {name: model.steps for name, model in stats.models.items()}
        return not stuck


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
        max_sessions=core.max_sessions,
    )


def service_settings(settings: Settings) -> ServiceSettings:
    """The service's settings, as configured.

    Raises:
        BundleInvalid: where a bundle to serve is not there.
    """
    engine = settings.engine
    return ServiceSettings(
        bundles=bundles.chosen(settings),
        engine=EngineSettings(
            slots=engine.slots,
            context_tokens=engine.context_tokens,
            prefill_chunk_tokens=engine.prefill_chunk_tokens,
            prefix_reuse=PrefixReuse(engine.prefix_reuse),
            step_stretch=engine.step_stretch,
            burst_s=engine.burst_s,
            max_queue=engine.max_queue,
            threads=engine.threads,
            device=Device(engine.device),
            signers=settings.models.signers,
        ),
    )
