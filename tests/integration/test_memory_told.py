"""What a core tells of its models' memory, beside what its process holds: a process of its own."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from nsedge.api import Finished
from nsedge.ipc.client import AsyncClient
from tests.faults.kinds import KINDS
from tests.faults.site import gather, site

pytestmark = pytest.mark.integration

PATIENCE_S = 240.0


@pytest.mark.parametrize("kind", KINDS)
def test_memory_comes_back_over_and_over(kind: str, request: pytest.FixtureRequest) -> None:
    bundle = KINDS[kind].bundle(request)

    async def asked(client: AsyncClient) -> None:
        assert isinstance((await gather(KINDS[kind].ask(client, bundle)))[-1], Finished)

    async def scene(endpoint: str) -> None:
        async with asyncio.timeout(PATIENCE_S), AsyncClient(endpoint) as client:
            for _ in range(2):  # libraries and allocators reach their size
                await asked(client)
                await client.unload(bundle.name)
            before = where.core.rss_bytes()
            for _ in range(4):
                for _ in range(2):
                    await asked(client)
                grown = where.core.rss_bytes() - before
                memory = (await client.stats()).models[bundle.name].memory
                assert memory is not None
                told = memory.weights_bytes + memory.kv_bytes + memory.arena_bytes
                assert told == pytest.approx(grown, rel=0.15)
                await client.unload(bundle.name)
                assert where.core.rss_bytes() < 1.1 * before

    with site(Path(bundle)) as where:
        where.core.start()
        asyncio.run(scene(where.endpoint))
