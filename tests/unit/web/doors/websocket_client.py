"""A client of the WebSocket door, for tests."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from typing import Any

import aiohttp
import msgpack

from nsedge.web.limits import WebLimits
from tests.fakes import MODEL, FakeService
from tests.web_server import Shim, served

Socket = aiohttp.ClientWebSocketResponse
Talk = Callable[[Socket], Awaitable[None]]


def generate(label: str, text: str = "one two three", **fields: Any) -> dict[str, Any]:
    return {"type": "generate", "id": label, "model": MODEL, "text": text, **fields}


async def hear(socket: Socket) -> dict[str, Any]:
    """The next message, in the form it came in."""
    message = await socket.receive(5)
    if message.type is aiohttp.WSMsgType.TEXT:
        return json.loads(message.data)
    assert message.type is aiohttp.WSMsgType.BINARY, message
    return msgpack.unpackb(message.data, strict_map_key=False)


async def end_of(socket: Socket, label: str) -> list[dict[str, Any]]:
    """All messages until that request's end."""
    heard = [await hear(socket)]
    while not (heard[-1].get("id") == label and heard[-1]["type"] in ("finished", "failed")):
        heard.append(await hear(socket))
    return heard


def talk(
    said: Talk, service: FakeService | None = None, limits: WebLimits | None = None, **options: Any
) -> FakeService:
    """Open a socket and have `said` speak over it."""
    headers = options.pop("headers", {})
    used = service or FakeService()

    async def test(shim: Shim) -> None:
        async with (
            aiohttp.ClientSession() as session,
            session.ws_connect(f"{shim.url}/v1/stream", headers=headers) as socket,
        ):
            await said(socket)

    served(test, used, limits, **options)
    return used
