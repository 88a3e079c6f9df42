"""`nsedge web`: the HTTP shim, an ordinary client of the core."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import faulthandler
import logging
import os
import ssl
from functools import partial
from pathlib import Path

from nsedge.cli import logs, signals, supervised
from nsedge.cli.exits import ExitStatus
from nsedge.cli.listeners import listeners_of, wyoming_address
from nsedge.cli.rereading import Reloader, Reread
from nsedge.cli.signals import ReloadRequests, StopRequests
from nsedge.config import elsewhere
from nsedge.config import reader as config
from nsedge.config.settings import Settings
from nsedge.errors import ConfigInvalid, NsedgeError
from nsedge.ipc import reach
from nsedge.ipc.client import AsyncClient
from nsedge.ipc.inherited import by_endpoint
from nsedge.process import descriptors
from nsedge.process.sdnotify import Notifier
from nsedge.security import keyring
from nsedge.security.keyring import KeyRing
from nsedge.security.watched_file import WatchedFile
from nsedge.telemetry.collector import open_tracing
from nsedge.telemetry.tracing import Tracing
from nsedge.web import doors
from nsedge.web.adaptations import read_adaptations
from nsedge.web.answering import Answering
from nsedge.web.door_settings import DoorSettings
from nsedge.web.fetching import Fetcher, FetchRules
from nsedge.web.limits import WebLimits
from nsedge.web.listening import serve
from nsedge.web.tls import server_context

log = logging.getLogger("nsedge.web")

STATUS_S = 5.0
"""Between two looks for what the status line says."""
STOPPING_S = 10.0
"""The time that ending takes, beyond the time that open answers get."""
OURS = frozenset(
    {
        "web",
        "doors",
        "log",
        "media.caption_model",
        "media.speech_model",
        "media.url_hosts",
        "media.url_bytes",
        "media.url_s",
        "observability",
    }
)
LIVE = frozenset(
    {
        "web.allowed_hosts",
        "web.cors_origins",
        "web.drain_s",
        "web.ignored_fields",
        "web.keepalive_s",
        "doors.chunk",
        "doors.regular_model",
        "doors.vision_model",
        "media.caption_model",
        "media.speech_model",
        "log.level",
        "log.json",
    }
)
"""The settings that SIGHUP changes; the rest of ours need a restart."""

RETRY_S = 1.0
"""Between two looks for a core that has not been there yet."""
BACKOFF_S = (0.5, 4.0)
"""First and longest wait for a core that went away: it is on the same machine, and soon back."""


def run(loaded: config.Loaded, options: argparse.Namespace) -> int:
    """Serve until asked to stop, then drain."""
    settings, environ = loaded.settings, config.environment()
    logs.configure(settings.log.level, as_json=settings.log.json)
    for sentence in elsewhere.unread(environ):
        log.warning(sentence)
    faulthandler.enable()
    descriptors.allow_all()
    supervisor = config.supervisor(environ, os.getpid())
    reread = partial(config.load, environ, file=options.config, overrides=options.overrides)
    tracing = open_tracing(config.traces_url(settings, environ), service="nsedge-web")
    signals.run(
        _serve(settings, supervisor, reread=reread, tracing=tracing, until_eof=options.until_eof)
    )
    return ExitStatus.OK


async def _serve(
    settings: Settings,
    supervisor: config.Supervisor,
    *,
    reread: Reread,
    tracing: Tracing | None,
    until_eof: bool,
) -> None:
    stop, reload = StopRequests(until_eof=until_eof), ReloadRequests()
    notifier = Notifier(supervisor.notify_socket)
    curve = reach.curve(settings)
    client = AsyncClient(
        settings.core.endpoint, backoff_s=BACKOFF_S, name="nsedge-web", curve=curve
    )
    state = supervisor.state or settings.state
    answering = Answering(
        client,
        limits(settings),
        keys=keys(settings),
        settings=door_settings(settings, state=state),
        fetcher=fetcher(settings),
        tracing=tracing,
    )
    shim = Shim(settings, answering=answering, notifier=notifier, reread=reread, state=state)
    listeners = listeners_of(
        settings,
        answering,
        doors.ALL,
        inherited=by_endpoint(supervisor.sockets),
        on_listening=shim.listening,
    )
    tasks = [
        asyncio.create_task(_connect(client, settings.core.endpoint)),
        asyncio.create_task(_announce_stop(stop, notifier, answering)),
        asyncio.create_task(shim.report(supervisor.watchdog_s)),
        asyncio.create_task(shim.follow(reload)),
    ]
    serving = asyncio.create_task(
        serve(
            *listeners,
            stop=stop.wanted,
            tls=tls_context(settings),
            wyoming=wyoming_address(settings),
        )
    )
    tasks.append(asyncio.create_task(_hurry(stop, serving)))
    try:
        with contextlib.suppress(asyncio.CancelledError):
            await serving
    except ConfigInvalid as error:
        raise ConfigInvalid(f"{error.message} (--host and --port choose another)") from error
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await client.close()
        if tracing is not None:
            await asyncio.to_thread(tracing.close)
    log.info("stopped")


class Shim:
    """The shim as its supervisor sees it: tells its state, and does what it is told."""

    def __init__(
        self,
        settings: Settings,
        *,
        answering: Answering,
        notifier: Notifier,
        reread: Reread,
        state: Path,
    ) -> None:
        self._answering = answering
        self._state = state
        self._notifier = notifier
        self._reloader = Reloader(
            settings, reread=reread, notifier=notifier, ours=OURS, live=LIVE, apply=self._apply
        )
        self._scheme = "https" if settings.web.tls_cert else "http"
        self._listening = asyncio.Event()
        self._address = ""

    def listening(self, host: str, port: int) -> None:
        """Requests can come."""
        where = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        self._address = f"{self._scheme}://{where}"
        log.info("listening", extra={"address": self._address})
        self._notifier.ready(self._address)
        self._listening.set()

    async def report(self, watchdog_s: float | None) -> None:
        """Feed the watchdog from the event loop, and say how many answers are under way."""
        await self._listening.wait()
        await supervised.report(
            self._notifier,
            watchdog_s=watchdog_s,
            alive=self._alive,
            words=self._words,
            every_s=STATUS_S,
        )

    async def follow(self, reload: ReloadRequests) -> None:
        """Read the configuration anew whenever asked to."""
        await self._listening.wait()
        await self._reloader.follow(reload)

    async def _apply(self, settings: Settings) -> str:
        logs.configure(settings.log.level, as_json=settings.log.json)
        self._answering.limits = limits(settings)
        self._answering.settings = door_settings(settings, state=self._state)
        return ""

    async def _alive(self, within_s: float) -> bool:
        return True  # the event loop came here

    async def _words(self) -> str:
        count = self._answering.under_way
        if self._answering.draining:
            return f"draining: {count} under way"
        return f"{self._address}: {count} under way" if count else self._address


async def _connect(client: AsyncClient, endpoint: str) -> None:
    """Find the core, however late it comes; until then /health says 503."""
    told = ""
    while True:
        try:
            await client.connect()
        except NsedgeError as error:
            if error.message != told:
                log.warning("waiting for the core: %s", error.message)
            told = error.message
            await asyncio.sleep(RETRY_S)
        else:
            log.info("connected", extra={"endpoint": endpoint})
            return


async def _announce_stop(stop: StopRequests, notifier: Notifier, answering: Answering) -> None:
    await stop.wanted.wait()
    limit_s = answering.limits.drain_s
    log.info("draining", extra={"limit_s": limit_s})
    notifier.stopping(f"draining: open answers get {limit_s:g} s")
    notifier.extend_timeout(limit_s + STOPPING_S)


async def _hurry(stop: StopRequests, serving: asyncio.Task[None]) -> None:
    await stop.hurried.wait()
    serving.cancel()


def keys(settings: Settings) -> WatchedFile[KeyRing] | None:
    """The API keys, as configured; None where nobody is asked for one.

    Raises:
        ConfigInvalid: where they cannot be read.
    """
    return WatchedFile(Path(settings.web.keys), keyring.read) if settings.web.keys else None


def tls_context(settings: Settings) -> ssl.SSLContext | None:
    """The TLS context of HTTPS, as configured; None for clear text.

    Raises:
        ConfigInvalid: where it cannot be read.
    """
    web = settings.web
    return server_context(Path(web.tls_cert), Path(web.tls_key)) if web.tls_cert else None


def limits(settings: Settings) -> WebLimits:
    """The shim's limits, as configured."""
    web, allowed = settings.web, descriptors.limit()
    room = web.max_connections if allowed is None else descriptors.ceiling(allowed)
    return WebLimits(
        max_connections=min(web.max_connections, room),
        max_body_bytes=web.max_body_bytes,
        max_upload_bytes=web.max_upload_bytes,
        keepalive_s=web.keepalive_s,
        drain_s=web.drain_s,
        allow_anonymous=web.allow_anonymous,
        allow_cleartext=web.allow_cleartext,
        allowed_hosts=web.allowed_hosts,
        cors_origins=web.cors_origins,
        ignored_fields=web.ignored_fields,
        max_in_flight=web.max_in_flight,
        max_waiting=web.max_waiting,
        requests_per_minute=web.requests_per_minute,
        tokens_per_minute=web.tokens_per_minute,
    )


def fetcher(settings: Settings) -> Fetcher:
    """The fetcher of media by their URLs, as configured.

    Raises:
        ConfigInvalid: a host that is none.
    """
    said = settings.media
    rules = FetchRules(hosts=said.url_hosts, max_bytes=said.url_bytes, timeout_s=said.url_s)
    return Fetcher(rules)


def door_settings(settings: Settings, *, state: Path) -> DoorSettings:
    """The doors' behaviour where a request does not say, as configured. `state`: where they may
    keep files.

    Raises:
        ConfigInvalid: where a file that is named cannot be read.
    """
    said = settings.doors
    adaptations = (
        WatchedFile(Path(said.adaptations), read_adaptations) if said.adaptations else None
    )
    return DoorSettings(
        chunk=said.chunk,
        regular_model=said.regular_model,
        vision_model=said.vision_model,
        caption_model=settings.media.caption_model,
        speech_model=settings.media.speech_model,
        responses_kept=said.responses_kept,
        responses_kept_s=said.responses_kept_s,
        adaptations=adaptations,
        ratings_file=state / "ratings.json",
    )
