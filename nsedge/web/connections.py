"""No more open HTTP connections than there is room for: the rest are told so, and closed."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import ssl
import time
from collections.abc import Awaitable, Callable, Sequence
from http import HTTPStatus

from aiohttp import web

from nsedge.errors import ConfigInvalid, Unavailable
from nsedge.web.door import Doors
from nsedge.web.errors import Refusal
from nsedge.web.traffic import Traffic

log = logging.getLogger(__name__)

LINGER_S = 1.0
"""What a surplus connection gets to read its refusal."""
MAX_LINGERING = 64
"""Surplus connections that get it; further ones are cut at once."""
RETRY_AFTER_S = 1.0
CONTINUE = "100-continue"
TELL_S = 10.0
"""Between two lines about connections that were refused."""

RequestHandler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]


class Room:
    """How many connections may be open at once, at all listeners together."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.servers: list[web.Server] = []

    @property
    def full(self) -> bool:
        """Whether no further one may be opened."""
        return sum(len(server.connections) for server in self.servers) >= self.most


class Connections:
    """Makes the protocol of each new connection: aiohttp's, or a refusal.

    One whose TLS handshake is not over yet is not counted.
    """

    def __init__(
        self,
        runner: web.AppRunner,
        room: Room,
        *,
        doors: Doors,
        traffic: Traffic,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`runner` is set up; `doors` tell refusals; `traffic` counts those that are refused."""
        assert runner.server is not None
        self._server = runner.server
        self._server.request_handler = expecting_nothing_else(self._server.request_handler, doors)
        self._room = room
        room.servers.append(self._server)
        self._traffic = traffic
        self._clock = clock
        self._lingering = 0
        self._told_s: float | None = None
        self._answer = _answer(room.most, doors)

    def __call__(self) -> asyncio.BaseProtocol:
        """For `loop.create_server`."""
        if not self._room.full:
            return self._server()
        self._traffic.refused_connections += 1
        now_s = self._clock()
        if self._told_s is None or now_s - self._told_s >= TELL_S:
            self._told_s = now_s
            log.warning(
                "connections are refused: as many are open as may be",
                extra={"refused": self._traffic.refused_connections, "open": self._room.most},
            )
        answer = self._answer if self._lingering < MAX_LINGERING else b""
        return _Surplus(self, answer)

    def entered(self) -> None:
        """A surplus connection reads its refusal."""
        self._lingering += 1

    def left(self) -> None:
        """It has gone."""
        self._lingering -= 1


def expecting_nothing_else(handler: RequestHandler, doors: Doors) -> RequestHandler:
    """`handler`, but for requests whose Expect is not 100-continue: aiohttp would answer those
    before any middleware, with the header's text, or fail where that is not Unicode."""

    async def handle(request: web.BaseRequest) -> web.StreamResponse:
        if request.headers.get("Expect", CONTINUE).lower() == CONTINUE:
            return await handler(request)
        refusal = Refusal(code="invalid_request", message=f"only Expect: {CONTINUE} can be met")
        answer = doors.of(request.path).refuse(refusal)
        answer.force_close()
        return answer

    return handle


class _Surplus(asyncio.Protocol):
    """Told that there is no room. What it says is read: unread, it would make the answer vanish."""

    def __init__(self, connections: Connections, answer: bytes) -> None:
        self._connections, self._answer = connections, answer

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Answer whatever it is going to ask."""
        self._connections.entered()
        assert isinstance(transport, asyncio.Transport)
        if not self._answer:
            transport.abort()
            return
        transport.write(self._answer)
        if transport.can_write_eof():
            transport.write_eof()
        asyncio.get_running_loop().call_later(LINGER_S, transport.abort)

    def connection_lost(self, error: Exception | None) -> None:
        """It has gone."""
        self._connections.left()


def _answer(most: int, doors: Doors) -> bytes:
    """The whole refusal, of a client whose path is not known yet."""
    refusal = Refusal.of(
        Unavailable(f"{most} connections are open, the most allowed", retry_after_s=RETRY_AFTER_S)
    )
    door = doors.of("/")
    status, body = HTTPStatus(refusal.status), door.error_body(refusal)
    headers = {
        "Content-Type": door.error_type,
        "Content-Length": str(len(body)),
        "Connection": "close",
        **refusal.headers(),
    }
    lines = [f"HTTP/1.1 {status.value} {status.phrase}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


async def listen(
    connections: Connections,
    host: str,
    port: int,
    passed: Sequence[socket.socket],
    tls: ssl.SSLContext | None,
) -> list[asyncio.Server]:
    """Listen at `passed`, or else at host and port.

    Raises:
        ConfigInvalid: where that cannot be had.
    """
    loop = asyncio.get_running_loop()
    try:
        if not passed:
            return [await loop.create_server(connections, host, port, ssl=tls)]
        return [await loop.create_server(connections, sock=one, ssl=tls) for one in passed]
    except OSError as error:
        # asyncio's own words name the address once more; a name that is not found has no number.
        why = os.strerror(error.errno) if error.errno and error.errno > 0 else error.strerror
        raise ConfigInvalid(f"cannot listen on {host}:{port}: {why}") from error
