"""Some thousands of messages and requests that are almost right; bench/fuzz.py sends a million."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from bench.fuzz import Answers, flood_asks, flood_frames, flood_http
from bench.mutants import Mutants
from nsedge.ipc.client import AsyncClient
from tests.faults.kinds import KINDS
from tests.faults.site import Process, Site, answer, play, site, until, until_idle

pytestmark = pytest.mark.integration

FRAMES, REQUESTS = 3000, 1500
ASKS, REAL_SHARE = 600, 0.95
LEAK_BYTES = 24 * 2**20
SEEDS = [1, 2]


async def flooded(where: Site, process: Process, flood: asyncio.Future[Answers]) -> Answers:
    """Beside a neighbour who must notice nothing."""
    before, held = process.rss_bytes(), process.descriptors()
    answers = await flood
    assert answers.internal == []
    assert process.running
    assert process.rss_bytes() < before + LEAK_BYTES
    await until(lambda: process.descriptors() <= held + 2)
    return answers


@pytest.mark.parametrize("seed", SEEDS)
def test_frames_that_are_almost_right(standing: Site, seed: int) -> None:
    async def scene(client: AsyncClient) -> None:
        said = await answer(client, standing.model)
        mutants = Mutants(seed, model=standing.model)
        flood = asyncio.to_thread(flood_frames, standing.endpoint, mutants, FRAMES)
        answers = await flooded(standing, standing.core, asyncio.ensure_future(flood))
        assert answers.counts["bad_message"] > FRAMES / 4
        assert answers.counts["welcome"] > FRAMES / 200
        assert await answer(client, standing.model) == said
        await until_idle(client, standing.model)

    play(standing, scene)


@pytest.mark.parametrize("seed", SEEDS)
def test_http_that_is_almost_right(standing: Site, seed: int) -> None:
    async def scene(client: AsyncClient) -> None:
        mutants = Mutants(seed, model=standing.model)
        flood = flood_http(standing.port, mutants, REQUESTS)
        answers = await flooded(standing, standing.shim, asyncio.ensure_future(flood))
        assert answers.counts["400"] > REQUESTS / 10
        assert answers.counts["404"] > REQUESTS / 50
        assert await answer(client, standing.model)
        await until_idle(client, standing.model)

    play(standing, scene)


def test_requests_that_are_almost_right_for_models_of_every_kind(
    starter_bundle: Path, request: pytest.FixtureRequest
) -> None:
    """Almost right recordings, pictures and texts go as far as each model lets them."""
    others = [KINDS[name].bundle(request) for name in KINDS if name != "text"]
    with site(starter_bundle, *others) as where:
        where.core.start()
        names = [one.name for one in others]

        async def scene(client: AsyncClient) -> None:
            said = await answer(client, where.model)
            mutants = Mutants(3, model=where.model, beside=names, real_share=REAL_SHARE)
            warm = asyncio.to_thread(flood_asks, where.endpoint, mutants, ASKS)
            assert (await warm).internal == []  # libraries are loaded, and arenas grow
            flood = asyncio.to_thread(flood_asks, where.endpoint, mutants, ASKS)
            answers = await flooded(where, where.core, asyncio.ensure_future(flood))
            assert answers.counts["invalid_media"], answers.counts
            assert answers.counts["finished"]
            for name in names:
                await until_idle(client, name)
            assert await answer(client, where.model) == said
            assert "Traceback" not in where.core.log

        play(where, scene)
