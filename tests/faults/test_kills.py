"""kill -9 of either process while answers are under way."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Awaitable
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from nsedge.api import Delta, Failed
from nsedge.ipc.client import AsyncClient, Client
from tests.faults.site import (
    ENDLESS,
    GREEDY,
    PATIENCE_S,
    PROMPT,
    Process,
    Site,
    answer,
    gather,
    play,
    site,
    streaming,
    text_of,
    until_idle,
)

pytestmark = pytest.mark.integration

BACK_S = 2.0
"""From the word that the daemon is ready to an answer from it."""
PAUSE_S = 0.02


async def until_answered(client: AsyncClient, model: str) -> str:
    """Ask again as long as the failures say that one may."""
    while True:
        events = await gather(client.generate(model, PROMPT, sampling=GREEDY))
        end = events[-1]
        if not isinstance(end, Failed):
            return text_of(events)
        assert end.retryable, end
        await asyncio.sleep(PAUSE_S)


def until_answered_plainly(client: Client, model: str) -> str:
    """As `until_answered`, without asyncio."""
    while True:
        events = list(client.generate(model, PROMPT, sampling=GREEDY))
        end = events[-1]
        if not isinstance(end, Failed):
            return text_of(events)
        assert end.retryable, end
        time.sleep(PAUSE_S)


async def back(process: Process, *asking: Awaitable[Any]) -> list[Any]:
    """Start `process` again under those who ask already; what they get, soon after it is ready."""
    answers = asyncio.gather(*asking)
    await asyncio.to_thread(process.start)
    return await asyncio.wait_for(answers, BACK_S)


def sse_body(where: Site) -> dict[str, object]:
    body = {"model": where.model, "prompt": PROMPT, "stream": True, "ignore_eos": True}
    return {**body, "max_tokens": 100_000, "clip_max_tokens": True}  # to the end of the context


def test_killing_the_core_ends_every_stream_and_clients_come_back(starter_bundle: Path) -> None:
    """Over ZeroMQ, with and without asyncio, and over HTTP."""
    with site(starter_bundle) as where:
        where.start()
        begun, ended, last = threading.Event(), asyncio.Event(), []

        def plain(loop: asyncio.AbstractEventLoop) -> str:
            with Client(where.endpoint) as client:
                for event in client.generate(where.model, PROMPT, sampling=ENDLESS):
                    last[:] = [event]
                    if isinstance(event, Delta):
                        begun.set()
                loop.call_soon_threadsafe(ended.set)
                return until_answered_plainly(client, where.model)

        async def scene(client: AsyncClient) -> None:
            said = await answer(client, where.model)
            loop = asyncio.get_running_loop()
            waiting = asyncio.create_task(asyncio.to_thread(plain, loop))
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
                await ended.wait()
            for end in (ends[-1], last[0]):
                assert isinstance(end, Failed), end
                assert (end.code, end.retryable) == ("connection_lost", True)
            assert b'"error"' in heard
            assert b"connection_lost" in heard
            gone = (await gather(client.generate(where.model, PROMPT)))[-1]
            assert isinstance(gone, Failed), (
                "a request without a core is refused, and does not wait"
            )
            asking = until_answered(client, where.model)
            by_web = until_served_by_shim(where)
            assert (await back(where.core, asking, waiting, by_web))[:2] == [said, said]

        play(where, scene)


async def until_served_by_shim(where: Site) -> None:
    body = {**sse_body(where), "stream": False, "max_tokens": 4}
    async with aiohttp.ClientSession() as web:
        while True:
            with contextlib.suppress(aiohttp.ClientConnectionError):  # no shim yet
                async with web.post(f"{where.url}/v1/completions", json=body) as response:
                    if response.status == 200:
                        assert (await response.json())["usage"]["completion_tokens"] == 4
                        return
                    assert response.status == 503
            await asyncio.sleep(PAUSE_S)


def test_a_core_killed_over_and_over_leaves_no_client_behind(starter_bundle: Path) -> None:
    with site(starter_bundle) as where:
        where.core.start()

        async def scene(client: AsyncClient) -> None:
            said = await answer(client, where.model)
            for _ in range(2):
                async with streaming(client, where.model) as events:
                    where.core.kill()
                    assert isinstance([event async for event in events][-1], Failed)
                assert await back(where.core, until_answered(client, where.model)) == [said]

        play(where, scene)


def test_killing_the_shim_frees_what_it_held(standing: Site) -> None:
    async def scene(client: AsyncClient) -> None:
        before = await until_idle(client, standing.model)
        async with (
            aiohttp.ClientSession() as web,
            web.post(f"{standing.url}/v1/completions", json=sse_body(standing)) as response,
        ):
            await response.content.readuntil(b"\n\n")
            standing.shim.kill()
            async with asyncio.timeout(BACK_S):
                with contextlib.suppress(aiohttp.ClientError):  # cut off within a chunk
                    assert b"[DONE]" not in await response.content.read()
        after = await until_idle(client, standing.model)
        assert after.finished.get("cancelled", 0) == before.finished.get("cancelled", 0) + 1
        await back(standing.shim, until_served_by_shim(standing))
        assert await answer(client, standing.model)

    play(standing, scene)
