"""Where the shim listens, how it serves, and how it stops."""

from __future__ import annotations

import asyncio
import itertools
import logging
import socket
import ssl
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from nsedge.web.answering import ANSWERING
from nsedge.web.connections import Connections, Room, listen
from nsedge.web.door import DOORS
from nsedge.web.wyoming.server import WyomingAddress, hearing_wyoming

CLOSING_S = 2.0
"""What handlers get to write their last bytes, once told to end."""
LINGER_S = 1.0
"""How long the rest of a refused body is read, so that the client sees the answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Listener:
    """An application, and where it is reached.

    inherited: descriptors of sockets that listen already, taken instead of host and port.
    on_listening: gets the address really bound, so that port 0 takes any free one.
    """

    app: web.Application
    host: str
    port: int
    inherited: Sequence[int] = ()
    on_listening: Callable[[str, int], None] | None = None


async def serve(
    *listeners: Listener,
    stop: asyncio.Event,
    tls: ssl.SSLContext | None = None,
    wyoming: WyomingAddress | None = None,
) -> None:
    """Serve until `stop` is set, then drain: no new connections, and running answers get drain_s.

    The listeners' applications share one `Answering`, with the clients of `wyoming`, where it is
    given. None is told of before all listen.

    Raises:
        ConfigInvalid: where an address cannot be bound, or others reach it and may not.
    """
    answering = listeners[0].app[ANSWERING]
    passed = [[socket.socket(fileno=one) for one in each.inherited] for each in listeners]
    for each, sockets in zip(listeners, passed, strict=True):
        for where in [str(one.getsockname()[0]) for one in sockets] or [each.host]:
            answering.refuse_exposure(where, tls=tls is not None)
    room = Room(answering.limits.max_connections)
    bound: list[list[asyncio.Server]] = []
    async with AsyncExitStack() as runners:
        for each, sockets in zip(listeners, passed, strict=True):
            runner = _runner(each.app)
            await runner.setup()
            runners.push_async_callback(runner.cleanup)
            connections = Connections(
                runner, room, doors=each.app[DOORS], traffic=answering.traffic
            )
            bound.append(await listen(connections, each.host, each.port, sockets, tls))
        if wyoming is not None:
            await runners.enter_async_context(hearing_wyoming(answering, wyoming))
        answering.lag.start()
        runners.callback(answering.lag.stop)
        for each, servers in zip(listeners, bound, strict=True):
            if each.on_listening is not None:
                each.on_listening(*servers[0].sockets[0].getsockname()[:2])
        await stop.wait()
        for server in itertools.chain(*bound):
            server.close()
        await answering.drain()


def _runner(app: web.Application) -> web.AppRunner:
    limits = app[ANSWERING].limits
    return web.AppRunner(
        app,
        handler_cancellation=True,
        access_log=None,
        logger=_quiet_logger(),
        keepalive_timeout=limits.idle_timeout_s,
        lingering_time=LINGER_S,
        max_line_size=limits.max_header_bytes,
        max_field_size=limits.max_header_bytes,
        auto_decompress=False,
        shutdown_timeout=CLOSING_S,
    )


class _NoTrace(logging.Filter):
    """A client that does not speak HTTP is worth a line, not a trace each time."""

    def filter(self, record: logging.LogRecord) -> bool:
        cause = record.exc_info[1] if isinstance(record.exc_info, tuple) else None
        if isinstance(cause, HttpProcessingError):
            record.exc_info = None
            record.levelno, record.levelname = logging.INFO, "INFO"
        return True


def _quiet_logger() -> logging.Logger:
    quiet = logging.getLogger("nsedge.web.http")
    if not any(isinstance(each, _NoTrace) for each in quiet.filters):
        quiet.addFilter(_NoTrace())
    return quiet
