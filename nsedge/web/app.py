"""The HTTP shim: doors side by side in front of a service, and how it listens and stops."""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
import time
from collections.abc import AsyncIterator, Callable, Sequence

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.typedefs import Handler

from nsedge.api import Service
from nsedge.errors import Draining, NsedgeError
from nsedge.security.keyring import KeyRing
from nsedge.security.watched_file import WatchedFile
from nsedge.telemetry.tracing import Tracing
from nsedge.web import access, doors, http_guard
from nsedge.web.answering import ANSWERING, Answering
from nsedge.web.connections import Connections, listen
from nsedge.web.door import DOORS, Door, Doors
from nsedge.web.errors import Refusal, Refused
from nsedge.web.limits import WebLimits

log = logging.getLogger(__name__)
CLOSING_S = 2.0
"""What handlers get to write their last bytes, once told to end."""
LINGER_S = 1.0
"""How long the rest of a refused body is read, so that the client sees the answer."""
_HTTP_CODES = {404: "unknown_route", 405: "method_not_allowed", 413: "message_too_large"}


def create_app(
    service: Service,
    limits: WebLimits | None = None,
    *,
    through: Sequence[Door] = doors.ALL,
    keys: WatchedFile[KeyRing] | None = None,
    tracing: Tracing | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> web.Application:
    """The shim as an application in front of `service`, which the caller keeps and closes.

    through: the doors that clients find. keys: who may call; None asks nobody for a key.
    tracing: takes a span of each request that asks for something to be done. clock: monotonic, in
    seconds.

    Raises:
        ConfigInvalid: where a limit is impossible.
        ValueError: doors that cannot stand side by side.
    """
    limits = limits or WebLimits()
    limits.check()
    app = web.Application(middlewares=[_count, _guard], client_max_size=limits.max_body_bytes)
    app[DOORS] = Doors(through)
    app[ANSWERING] = Answering(service, limits, keys=keys, tracing=tracing, clock=clock)
    app.on_response_prepare.append(_mark)
    app.cleanup_ctx.append(_measure)
    app.add_routes(app[DOORS].routes)
    return app


async def serve(
    app: web.Application,
    host: str,
    port: int,
    *,
    stop: asyncio.Event,
    inherited: Sequence[int] = (),
    tls: ssl.SSLContext | None = None,
    on_listening: Callable[[str, int], None] | None = None,
) -> None:
    """Serve until `stop` is set, then drain: no new connections, and running answers get drain_s.

    `inherited` are descriptors of sockets that listen already, and are taken instead of host and
    port. `on_listening` gets the address really bound, so port 0 takes any free one.

    Raises:
        ConfigInvalid: where the address cannot be bound, or others reach it and may not.
    """
    answering = app[ANSWERING]
    passed = [socket.socket(fileno=descriptor) for descriptor in inherited]
    for where in [str(one.getsockname()[0]) for one in passed] or [host]:
        answering.refuse_exposure(where, tls=tls is not None)
    runner = web.AppRunner(
        app,
        handler_cancellation=True,
        access_log=None,
        logger=_quiet_logger(),
        keepalive_timeout=answering.limits.idle_timeout_s,
        lingering_time=LINGER_S,
        max_line_size=answering.limits.max_header_bytes,
        max_field_size=answering.limits.max_header_bytes,
        auto_decompress=False,
        shutdown_timeout=CLOSING_S,
    )
    await runner.setup()
    try:
        connections = Connections(
            runner,
            answering.limits.max_connections,
            doors=app[DOORS],
            traffic=answering.traffic,
        )
        servers = await listen(connections, host, port, passed, tls)
        if on_listening is not None:
            on_listening(*servers[0].sockets[0].getsockname()[:2])
        await stop.wait()
        for server in servers:
            server.close()
        await answering.drain()
    finally:
        await runner.cleanup()


@web.middleware
async def _count(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Name the request, and keep count of what becomes of it."""
    request[http_guard.REQUEST_ID] = http_guard.label(request)
    return await request.app[ANSWERING].traffic.count(request, handler)


async def _measure(app: web.Application) -> AsyncIterator[None]:
    app[ANSWERING].lag.start()
    yield
    app[ANSWERING].lag.stop()


@web.middleware
async def _guard(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Keep strangers out, and turn every error into an answer."""
    answering = request.app[ANSWERING]
    try:
        http_guard.check_host(request, answering.limits)
        if http_guard.is_preflight(request) and http_guard.allowed_origin(
            request, answering.limits
        ):
            return http_guard.preflight_answer()
        if access.admit(request, answering.keys):
            answering.open_account(request)
        if answering.draining and request.method == "POST":
            raise Draining("the server is stopping")
        return await handler(request)
    except Refused as error:
        return _refuse(request, error.refusal)
    except NsedgeError as error:
        return _refuse(request, Refusal.of(error))
    except web.HTTPException as error:
        return _http_answer(request, error)
    except ConnectionError:
        raise
    except Exception:
        log.exception("request %s failed", request[http_guard.REQUEST_ID])
        return _refuse(request, Refusal.of(NsedgeError("internal error")))


def _http_answer(request: web.Request, error: web.HTTPException) -> web.Response:
    code = _HTTP_CODES.get(error.status, "invalid_request")
    message = f"{error.reason}: {request.method} {request.path}"
    answer = _refuse(request, Refusal(code=code, message=message))
    if "Allow" in error.headers:
        answer.headers["Allow"] = error.headers["Allow"]
    return answer


def _refuse(request: web.Request, refusal: Refusal) -> web.Response:
    """The refusal, as the door of the request's path tells it."""
    answer = request.app[DOORS].of(request.path).refuse(refusal)
    if not request.content.is_eof():
        answer.force_close()
    return answer


async def _mark(request: web.Request, response: web.StreamResponse) -> None:
    answering = request.app[ANSWERING]
    http_guard.mark(request, response, answering.limits)
    response.headers.update(answering.rate_headers(request))


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
