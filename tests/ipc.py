"""What the tests of the ZeroMQ door share: a daemon in front of a fake, and a hand-made client."""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import msgpack
import zmq
import zmq.asyncio

from nsedge import api
from nsedge.config import endpoints
from nsedge.ipc.limits import Limits
from nsedge.ipc.protocol import MAGIC
from nsedge.ipc.server import Server
from tests.fakes import MODEL

PATIENCE_S = 60.0
QUICK = Limits(sweep_s=0.01)


@contextlib.contextmanager
def short_directory() -> Any:
    """A directory whose paths fit into a socket address, whatever TMPDIR is."""
    with tempfile.TemporaryDirectory(prefix="nse", dir="/tmp") as path:
        yield Path(path)


@contextlib.asynccontextmanager
async def serving(service: api.Service, **options: Any) -> AsyncIterator[str]:
    """A server in front of `service`, at the endpoint that is yielded."""
    with short_directory() as directory:
        endpoint = f"ipc://{directory}/core.sock"
        server = Server(service, endpoints=[endpoint], **{"limits": QUICK, **options})
        await server.start()
        try:
            yield endpoint
        finally:
            await server.stop()


async def until(condition: Callable[[], bool]) -> None:
    """Let the loop turn until `condition` holds."""
    async with asyncio.timeout(PATIENCE_S):
        while not condition():  # noqa: ASYNC110 - conditions of many kinds
            await asyncio.sleep(0.001)


async def gathered(stream: Any) -> list[api.Event]:
    """All events of a stream."""
    async with asyncio.timeout(PATIENCE_S):
        return [event async for event in stream]


def text_of(events: list[api.Event]) -> str:
    """The text of a stream's events."""
    return "".join(event.text for event in events if isinstance(event, api.Delta))


class RawClient:
    """Two DEALER sockets and msgpack: says whatever it is told to."""

    def __init__(self, endpoint: str) -> None:
        self._context = zmq.asyncio.Context()
        self.data = self._dealer(endpoint)
        self.control = self._dealer(str(endpoints.parse(endpoint).control()))
        self.session = b""
        self._heard: list[dict[str, Any]] = []

    def _dealer(self, endpoint: str) -> zmq.asyncio.Socket:
        socket = self._context.socket(zmq.DEALER)
        socket.linger = 0
        socket.connect(endpoint)
        return socket

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        self._context.destroy(linger=0)

    async def say(self, *payloads: dict[str, Any]) -> None:
        await self.data.send_multipart([MAGIC, *map(msgpack.packb, payloads)])

    async def say_control(self, *payloads: dict[str, Any]) -> None:
        await self.control.send_multipart([MAGIC, *map(msgpack.packb, payloads)])

    async def hear(self) -> dict[str, Any]:
        """The next payload of the data socket, pongs left out."""
        while not self._heard:
            self._heard += await self._receive(self.data)
        return self._heard.pop(0)

    async def hear_control(self) -> dict[str, Any]:
        (payload,) = await self._receive(self.control)
        return payload

    async def hear_until_end(self, label: str) -> list[dict[str, Any]]:
        """Payloads up to the terminal one of a request, those of others left out."""
        heard = []
        while True:
            payload = await self.hear()
            if payload.get("id") == label:
                heard.append(payload)
                if payload["type"] in ("finished", "failed"):
                    return heard

    async def hello(self, protocol: str = "1.0") -> dict[str, Any]:
        await self.say({"type": "hello", "protocol": protocol})
        welcome = await self.hear()
        self.session = welcome.get("session", b"")
        return welcome

    async def generate(self, label: str, text: str, **fields: Any) -> None:
        await self.say({"type": "generate", "id": label, "model": MODEL, "text": text, **fields})

    async def _receive(self, socket: zmq.asyncio.Socket) -> list[dict[str, Any]]:
        async with asyncio.timeout(PATIENCE_S):
            magic, *payloads = await socket.recv_multipart()
        assert magic == MAGIC
        found = [msgpack.unpackb(payload) for payload in payloads]
        return [
            payload for payload in found if payload != {"type": "pong"} or socket is not self.data
        ]
