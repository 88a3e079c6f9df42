"""kill -9 of either process while answers are under way."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from pathlib import Path

import aiohttp
import pytest

from nsedge.api import Delta, Failed
from nsedge.ipc.client import AsyncClient, Client
from tests.faults.site import (
    ENDLESS,
    PATIENCE_S,
    PROMPT,
    Site,
    answer,
    gather,
    play,
    site,
    streaming,
    until_idle,
)

pytestmark = pytest.mark.integration

BACKOFF_S = (0.1, 0.5)


async def until_connected(client: AsyncClient) -> None:
    while not client.connected:  # noqa: ASYNC110 - a property
        await asyncio.sleep(0.01)


def sse_body(where: Site) -> dict[str, object]:
    return {"model": where.model, "prompt": PROMPT, "stream": True, "ignore_eos": True}


def test_killing_the_core_ends_every_stream_and_clients_come_back(starter_bundle: Path) -> None:
    """Over ZeroMQ, with and without asyncio, and over HTTP."""
    with site(starter_bundle) as where:
        where.start()
        begun, last = threading.Event(), []

        def plain() -> None:
            with Client(where.endpoint) as client:
                for event in client.generate(where.model, PROMPT, sampling=ENDLESS):
                    last[:] = [event]
                    if isinstance(event, Delta):
                        begun.set()

        async def scene(client: AsyncClient) -> None:
            waiting = asyncio.create_task(asyncio.to_thread(plain))
            async with (
                aiohttp.ClientSession() as web,
                web.post(f"{where.url}/v1/completions", json=sse_body(where)) as response,
                streaming(client, where.model) as events,
            ):
                await response.content.readuntil(b"\n\n")
                await asyncio.to_thread(begun.wait, PATIENCE_S)
                where.core.kill()
                ends = [event async for event in events]
                heard = await response.content.read()
                await waiting
            for end in (ends[-1], last[0]):
                assert isinstance(end, Failed), end
                assert (end.code, end.retryable) == ("connection_lost", True)
            assert b'"error"' in heard
            assert b"connection_lost" in heard
            gone = (await gather(client.generate(where.model, PROMPT)))[-1]
            assert isinstance(gone, Failed), (
                "a request without a core is refused, and does not wait"
            )
            where.core.start()
            await until_connected(client)
            assert await answer(client, where.model)
            await until_served_by_shim(where)

        play(where, scene, backoff_s=BACKOFF_S)


async def until_served_by_shim(where: Site) -> None:
    body = {**sse_body(where), "stream": False, "max_tokens": 4}
    async with aiohttp.ClientSession() as web:
        while True:
            async with web.post(f"{where.url}/v1/completions", json=body) as response:
                if response.status == 200:
                    assert (await response.json())["usage"]["completion_tokens"] == 4
                    return
                assert response.status == 503
            await asyncio.sleep(0.05)


def test_a_core_killed_over_and_over_leaves_no_client_behind(starter_bundle: Path) -> None:
    with site(starter_bundle) as where:
        where.core.start()

        async def scene(client: AsyncClient) -> None:
            said = await answer(client, where.model)
            for _ in range(2):
                async with streaming(client, where.model) as events:
                    where.core.kill()
                    assert isinstance([event async for event in events][-1], Failed)
                where.core.start()
                await until_connected(client)
                assert await answer(client, where.model) == said

        play(where, scene, backoff_s=BACKOFF_S)


def test_killing_the_shim_frees_what_it_held(standing: Site) -> None:
    async def scene(client: AsyncClient) -> None:
        before = await until_idle(client, standing.model)
        async with (
            aiohttp.ClientSession() as web,
            web.post(f"{standing.url}/v1/completions", json=sse_body(standing)) as response,
        ):
            await response.content.readuntil(b"\n\n")
            standing.shim.kill()
            with contextlib.suppress(aiohttp.ClientError):  # cut off within a chunk
                await response.content.read()
        after = await until_idle(client, standing.model)
        assert after.finished.get("cancelled", 0) == before.finished.get("cancelled", 0) + 1
        standing.shim.start()
        await until_served_by_shim(standing)
        assert await answer(client, standing.model)

    play(standing, scene)
