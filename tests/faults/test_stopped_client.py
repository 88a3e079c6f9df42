"""A client that is stopped, for a moment or for long, and goes on."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
from collections.abc import AsyncIterator

import pytest

from nsedge.ipc.client import AsyncClient
from tests.faults.site import REPOSITORY, Site, answer, play, until_idle

pytestmark = pytest.mark.integration

READER = """
import sys
from nsedge.ipc.client import Client, Delta, Sampling
endpoint, model, tokens = sys.argv[1:]
sampling = Sampling(temperature=0.0, max_tokens=int(tokens), ignore_eos=True)
with Client(endpoint) as client:
    for event in client.generate(model, "Once upon a time", sampling=sampling):
        if isinstance(event, Delta) and event.seq == 0:
            print("streaming", flush=True)
    print(type(event).__name__, getattr(event, "code", event), flush=True)
    sys.stdin.readline()
    *_, event = client.generate(model, "Once upon a time", sampling=Sampling(max_tokens=4))
    print(type(event).__name__, flush=True)
"""


@contextlib.asynccontextmanager
async def reader(where: Site, tokens: int) -> AsyncIterator[asyncio.subprocess.Process]:
    """A client in a process of its own, whose stream has begun."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", READER, where.endpoint, where.model, str(tokens)),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        cwd=REPOSITORY,
    )
    try:
        assert await said(process) == "streaming"
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


async def said(process: asyncio.subprocess.Process) -> str:
    assert process.stdout is not None
    return (await process.stdout.readline()).decode().strip()


def test_a_client_stopped_for_a_moment_loses_nothing(standing: Site) -> None:
    async def scene(client: AsyncClient) -> None:
        async with reader(standing, 120) as process:
            process.send_signal(signal.SIGSTOP)
            await answer(client, standing.model)
            process.send_signal(signal.SIGCONT)
            end = await said(process)
            assert end.startswith("Finished")
            assert "completion_tokens=120" in end

    play(standing, scene)


def test_a_client_stopped_for_long_loses_its_stream_and_comes_back(standing: Site) -> None:
    async def scene(client: AsyncClient) -> None:
        before = await until_idle(client, standing.model)
        async with reader(standing, 480) as process:
            process.send_signal(signal.SIGSTOP)
            after = await until_idle(client, standing.model)
            assert after.finished.get("cancelled", 0) == before.finished.get("cancelled", 0) + 1
            process.send_signal(signal.SIGCONT)
            assert await said(process) == "Failed connection_lost"
            assert process.stdin is not None
            process.stdin.write(b"\n")
            assert await said(process) in ("Finished", "Failed")
        assert await answer(client, standing.model)

    play(standing, scene)
