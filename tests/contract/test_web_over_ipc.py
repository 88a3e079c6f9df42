"""The shim as it is deployed: an ordinary client of a core behind a socket."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from nsedge.ipc.client import AsyncClient
from nsedge.ipc.server import Server
from tests.fakes import MODEL, FakeService
from tests.web_server import Connection, Shim, ask, running, until

CHAT = "/v1/chat/completions"
HI = {"model": MODEL, "messages": [{"role": "user", "content": "one two three"}]}


@asynccontextmanager
async def chain(service: FakeService, folder: Path) -> AsyncIterator[tuple[Shim, Server]]:
    endpoint = f"ipc://{folder}/core.sock"
    core = Server(service, endpoints=[endpoint])
    await core.start()
    try:
        async with AsyncClient(endpoint) as client, running(client) as shim:
            yield shim, core
    finally:
        await core.stop()


def linked(
    service: FakeService, folder: Path, test: Callable[[Shim, Server], Awaitable[None]]
) -> None:
    async def main() -> None:
        async with chain(service, folder) as (shim, core):
            await test(shim, core)

    asyncio.run(asyncio.wait_for(main(), 20))


def test_answers_are_those_of_the_core(tmp_path: Path) -> None:
    async def test(shim: Shim, core: Server) -> None:
        whole = await ask(shim.port, "POST", CHAT, HI | {"n": 2})
        assert whole.body.count(b'"content":"one two three"') == 2
        stream = await ask(shim.port, "POST", CHAT, HI | {"stream": True})
        assert stream.data[-1] == "[DONE]"
        unknown = await ask(shim.port, "POST", CHAT, HI | {"model": "none"})
        assert unknown.status == 404
        assert (await ask(shim.port, "GET", "/health")).status == 200
        assert (await ask(shim.port, "GET", f"/v1/models/{MODEL}")).status == 200

    linked(FakeService(), tmp_path, test)


def test_a_client_that_leaves_cancels_at_the_core(tmp_path: Path) -> None:
    service = FakeService(gate=asyncio.Event())

    async def test(shim: Shim, core: Server) -> None:
        for stream in (True, False):
            connection = await Connection.open(shim.port)
            connection.say("POST", CHAT, HI | {"stream": stream})
            await until(lambda: len(service.live) == 1)
            connection.abort()
            await until(lambda: not service.live)
        assert service.cancelled == 2

    linked(service, tmp_path, test)


def test_a_core_that_stops_ends_the_streams_and_the_health(tmp_path: Path) -> None:
    service = FakeService(gate=asyncio.Event())

    async def test(shim: Shim, core: Server) -> None:
        connection = await Connection.open(shim.port)
        connection.say("POST", CHAT, HI | {"stream": True})
        assert (await connection.head())[0] == 200
        await connection.chunk()
        await core.stop()
        assert (await connection.chunk()).startswith(b'data: {"error":')
        assert await connection.chunk() == b""
        health = await ask(shim.port, "GET", "/health")
        assert health.status == 503
        assert health.json["reason"]
        refused = await ask(shim.port, "POST", CHAT, HI)
        assert (refused.status, refused.headers["x-should-retry"]) == (503, "true")
        await connection.close()

    linked(service, tmp_path, test)
