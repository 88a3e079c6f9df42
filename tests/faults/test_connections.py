"""Connections that do nothing, or next to nothing, and more of them than there are descriptors."""

from __future__ import annotations

import asyncio
import contextlib
import resource
import socket
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import aiohttp
import pytest

from nsedge.ipc.client import AsyncClient
from nsedge.web.limits import WebLimits
from tests.fakes import FakeService
from tests.faults.site import Process, Site, answer, play, site, until
from tests.web_server import Connection, running

pytestmark = pytest.mark.integration

IDLE = 1000
Connect = Callable[[Site], socket.socket]
HEAD = b"POST /v1/completions HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\n"
ZMTP = b"\xff\0\0\0\0\0\0\0\1\x7f\3\0NULL".ljust(64, b"\0")


def to_core(where: Site) -> socket.socket:
    made = socket.socket(socket.AF_UNIX)
    made.connect(where.socket)
    return made


def to_core_greeting(where: Site) -> socket.socket:
    """One that says it speaks ZeroMQ, and then no more."""
    made = to_core(where)
    with contextlib.suppress(BrokenPipeError):  # it may be turned away
        made.sendall(ZMTP)
    return made


def to_core_by_tcp(where: Site) -> socket.socket:
    return socket.create_connection(("127.0.0.1", where.tcp_port))


def to_shim(where: Site) -> socket.socket:
    return socket.create_connection(("127.0.0.1", where.port))


def to_shim_asking(where: Site) -> socket.socket:
    """One whose request never ends."""
    made = to_shim(where)
    made.sendall(HEAD + b"content-length: 100\r\n\r\n{")
    return made


@contextlib.asynccontextmanager
async def crowd(
    where: Site, connect: Connect, count: int, *, pause_s: float = 0.0
) -> AsyncIterator[list[socket.socket]]:
    """Connections, `pause_s` apart, closed in the end."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < 2 * count:
        pytest.skip(f"this process may open {hard} files")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 2 * count), hard))
    with contextlib.ExitStack() as held:

        def enter() -> list[socket.socket]:
            made = []
            for _ in range(count):
                made.append(held.enter_context(connect(where)))
                time.sleep(pause_s)
            return made

        yield await asyncio.to_thread(enter)
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


async def completion(where: Site) -> str:
    body = {"model": where.model, "prompt": "Once", "max_tokens": 4, "temperature": 0}
    async with (
        aiohttp.ClientSession() as web,
        web.post(f"{where.url}/v1/completions", json=body) as response,
    ):
        assert response.status == 200
        return str((await response.json())["choices"][0]["text"])


@pytest.mark.parametrize("connect", [to_core, to_core_greeting, to_shim, to_shim_asking])
def test_a_thousand_that_do_nothing_disturb_nobody(standing: Site, connect: Connect) -> None:
    process = standing.core if "core" in connect.__name__ else standing.shim

    async def scene(client: AsyncClient) -> None:
        said = await answer(client, standing.model), await completion(standing)
        before = process.descriptors()
        async with crowd(standing, connect, IDLE):
            await until(lambda: process.descriptors() > before + IDLE - 5)
            assert (await answer(client, standing.model), await completion(standing)) == said
            async with AsyncClient(standing.endpoint) as newcomer:
                assert await answer(newcomer, standing.model) == said[0]
        await until(lambda: process.descriptors() <= before + 2)

    play(standing, scene)


def test_requests_that_drip_are_answered_in_the_end_and_hold_up_nobody(standing: Site) -> None:
    async def scene(client: AsyncClient) -> None:
        async with crowd(standing, to_shim, 200) as slow:
            for byte in HEAD:
                for one in slow:
                    one.sendall(bytes([byte]))
                await asyncio.sleep(0)
            assert await completion(standing)
            for one in slow:
                one.sendall(b"content-length: 2\r\n\r\n{}")
            for one in slow:
                heard = await asyncio.to_thread(one.recv, 4096)
                assert heard.startswith(b"HTTP/1.1 400 ")
        assert await completion(standing)

    play(standing, scene)


@pytest.mark.parametrize("head", [b"", b"GET / HTTP/1.1\r\n", b"GET / HTTP/1.1\r\nhost: a"])
def test_a_head_that_never_ends_is_given_up(head: bytes) -> None:
    """However its bytes drip."""

    async def scene() -> None:
        limits = WebLimits(idle_timeout_s=0.2)
        async with asyncio.timeout(10), running(FakeService(), limits) as shim:
            connection = await Connection.open(shim.port)
            connection.writer.write(head)
            heard = asyncio.create_task(connection.reader.read())
            while not heard.done():
                with contextlib.suppress(ConnectionError):
                    connection.writer.write(b"x" if head else b"")
                await asyncio.sleep(0.02)
            assert heard.result() == b"" or b" 408 " in heard.result()
            connection.writer.close()

    asyncio.run(scene())


@contextlib.contextmanager
def without_descriptors(process: Process) -> Iterator[None]:
    """It can open no more than a few."""
    with process.limited(resource.RLIMIT_NOFILE, process.descriptors() + 4):
        yield


def test_a_core_takes_as_many_connections_as_it_may_open_files(starter_bundle: Path) -> None:
    """A soft limit is a default, not a bound: it is raised to the hard one."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with site(starter_bundle) as where:
        resource.setrlimit(resource.RLIMIT_NOFILE, (128, hard))
        try:
            where.core.start()
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        assert resource.prlimit(where.core.pid, resource.RLIMIT_NOFILE) == (hard, hard)

        async def scene(client: AsyncClient) -> None:
            async with crowd(where, to_core, 200):
                await until(lambda: where.core.descriptors() > 200)
                assert await answer(client, where.model)

        play(where, scene)


HARD = 128
CROWD = 300


@pytest.mark.parametrize("connect", [to_core, to_core_greeting, to_core_by_tcp])
def test_a_core_turns_away_what_would_take_its_last_descriptors(
    starter_bundle: Path, connect: Connect
) -> None:
    """Those it serves are served on, and newcomers again once there is room."""
    with site(starter_bundle) as where:
        where.core.start()
        resource.prlimit(where.core.pid, resource.RLIMIT_NOFILE, (HARD, HARD))

        async def scene(client: AsyncClient) -> None:
            said, before = await answer(client, where.model), where.core.descriptors()
            async with crowd(where, connect, CROWD, pause_s=0.002):
                assert await answer(client, where.model) == said
                assert where.core.descriptors() <= HARD
                assert (await client.stats()).connections_refused > 0
            await until(lambda: where.core.descriptors() <= before + 2)
            async with AsyncClient(where.endpoint) as newcomer:
                assert await answer(newcomer, where.model) == said
            assert where.core.running
            assert "connections are turned away" in where.core.log

        play(where, scene)


def test_a_shim_without_descriptors_serves_those_it_has(standing: Site) -> None:
    async def scene(client: AsyncClient) -> None:
        connection = await Connection.open(standing.port)
        connection.say("GET", "/health")
        assert (await connection.answer()).status == 200
        with without_descriptors(standing.shim):
            async with crowd(standing, to_shim, 50):
                for _ in range(3):
                    connection.say("GET", "/health")
                    assert (await connection.answer()).status == 200
        assert await completion(standing)
        assert standing.shim.running
        await connection.close()

    play(standing, scene)
