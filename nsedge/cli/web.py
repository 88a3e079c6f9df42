"""`nsedge web`: the HTTP shim, an ordinary client of the core."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
import os
import ssl
from pathlib import Path

from nsedge import config, keyring
from nsedge.cli import connect, logs
from nsedge.cli.exits import ExitStatus
from nsedge.cli.signals import StopRequests
from nsedge.errors import ConfigInvalid, NsedgeError
from nsedge.ipc.client import AsyncClient
from nsedge.keyring import KeyRing
from nsedge.sdnotify import Notifier
from nsedge.settings import Settings
from nsedge.watched import WatchedFile
from nsedge.web.app import create_app, serve
from nsedge.web.limits import WebLimits
from nsedge.web.tls import server_context

log = logging.getLogger("nsedge.web")

RETRY_S = 1.0
"""Between two looks for a core that has not been there yet."""
BACKOFF_S = (0.5, 4.0)
"""First and longest wait for a core that went away: it is on the same machine, and soon back."""


def run(loaded: config.Loaded, options: argparse.Namespace) -> int:
    """Serve until asked to stop, then drain."""
    settings = loaded.settings
    logs.configure(settings.log.level, as_json=settings.log.json)
    supervisor = config.supervisor(config.environment(), os.getpid())
    notifier = Notifier(supervisor.notify_socket)
    asyncio.run(_serve(settings, notifier, until_eof=options.until_eof))
    return ExitStatus.OK


async def _serve(settings: Settings, notifier: Notifier, *, until_eof: bool) -> None:
    stop = StopRequests(until_eof=until_eof)
    curve = connect.curve(settings)
    client = AsyncClient(
        settings.core.endpoint, backoff_s=BACKOFF_S, name="nsedge-web", curve=curve
    )
    app = create_app(client, limits(settings), keys=keys(settings))
    tls = tls_context(settings)

    def listening(host: str, port: int) -> None:
        scheme = "http" if tls is None else "https"
        address = f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"
        log.info("listening", extra={"address": address})
        notifier.ready(address)

    tasks = [
        asyncio.create_task(_connect(client, settings.core.endpoint)),
        asyncio.create_task(_announce_stop(stop, notifier)),
    ]
    serving = asyncio.create_task(
        serve(
            app,
            settings.web.host,
            settings.web.port,
            stop=stop.wanted,
            tls=tls,
            on_listening=listening,
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
    log.info("stopped")


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


async def _announce_stop(stop: StopRequests, notifier: Notifier) -> None:
    await stop.wanted.wait()
    log.info("draining")
    notifier.stopping()


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
    """What HTTPS needs, as configured; None for clear text.

    Raises:
        ConfigInvalid: where it cannot be read.
    """
    web = settings.web
    return server_context(Path(web.tls_cert), Path(web.tls_key)) if web.tls_cert else None


def limits(settings: Settings) -> WebLimits:
    """The shim's limits, as configured."""
    web = settings.web
    return WebLimits(
        max_body_bytes=web.max_body_bytes,
        keepalive_s=web.keepalive_s,
        drain_s=web.drain_s,
        allow_anonymous=web.allow_anonymous,
        allow_cleartext=web.allow_cleartext,
        allowed_hosts=web.allowed_hosts,
        cors_origins=web.cors_origins,
        max_in_flight=web.max_in_flight,
        max_waiting=web.max_waiting,
        requests_per_minute=web.requests_per_minute,
        tokens_per_minute=web.tokens_per_minute,
    )
