"""Models of every kind take turns in memory, leave and are guessed alike: the real service."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from nsedge.api import Finished, ModelState
from nsedge.core.service import LocalService, ServiceSettings
from nsedge.ipc.client import AsyncClient
from nsedge.runtime.machine.amounts import Room
from nsedge.runtime.residency.settings import ResidencySettings
from nsedge.runtime.settings import EngineSettings
from tests.faults.kinds import KINDS
from tests.faults.site import gather
from tests.ipc import serving

pytestmark = pytest.mark.integration

PATIENCE_S = 240.0
MIB = 2**20
ROOM = 260 * MIB
"""Less than all kinds take together, more than any two."""
ENGINE = EngineSettings(slots=4, context_tokens=512)


@pytest.fixture
def bundles(request: pytest.FixtureRequest, tmp_path: Path) -> dict[str, Path]:
    """A bundle of each kind, side by side in one folder."""
    folder = tmp_path / "bundles"
    folder.mkdir()
    found = {}
    for kind in KINDS:
        bundle = KINDS[kind].bundle(request)
        os.symlink(bundle, folder / bundle.name)
        found[kind] = folder / bundle.name
    return found


@contextlib.asynccontextmanager
async def core(
    bundles: dict[str, Path], state: Path, residency: ResidencySettings
) -> AsyncIterator[AsyncClient]:
    gc.collect()  # what earlier tests left must not go while a model is measured
    service = LocalService(
        ServiceSettings(
            bundles=(),
            folder=next(iter(bundles.values())).parent,
            engine=ENGINE,
            residency=residency,
            usage_file=state / "usage.json",
        )
    )
    async with asyncio.timeout(PATIENCE_S), serving(service) as endpoint:
        await service.start()
        try:
            async with AsyncClient(endpoint) as client:
                yield client
        finally:
            await service.stop()


async def ask(client: AsyncClient, kind: str, bundle: Path) -> None:
    assert isinstance((await gather(KINDS[kind].ask(client, bundle)))[-1], Finished), kind


async def states(client: AsyncClient) -> dict[str, ModelState]:
    return {model.name: model.state for model in await client.models()}


async def until(client: AsyncClient, bundle: Path, state: ModelState) -> None:
    while (await states(client))[bundle.name] is not state:  # noqa: ASYNC110 - only the daemon can tell
        await asyncio.sleep(0.01)


def test_all_kinds_take_turns_within_a_budget(bundles: dict[str, Path], tmp_path: Path) -> None:
    async def scene() -> None:
        residency = ResidencySettings(budget=Room(ROOM), preload_top=0)
        async with core(bundles, tmp_path, residency) as client:
            for _ in range(2):
                for kind, bundle in bundles.items():
                    await ask(client, kind, bundle)
                    assert (await states(client))[bundle.name] is ModelState.READY
                    told = (await client.stats()).residency
                    assert told is not None
                    assert told.used_bytes <= ROOM, kind
            assert told.evictions >= 2
            usage = (await client.usage()).models
            assert {usage[bundle.name].usage_count for bundle in bundles.values()} == {2}

    asyncio.run(scene())


def test_each_kind_leaves_when_nobody_used_it_for_its_keep_alive(
    bundles: dict[str, Path], tmp_path: Path
) -> None:
    async def scene() -> None:
        residency = ResidencySettings(keep_alive_s=0.0, sweep_s=0.05, preload_top=0)
        async with core(bundles, tmp_path, residency) as client:
            for kind, bundle in bundles.items():
                await ask(client, kind, bundle)
                await until(client, bundle, ModelState.ABSENT)

    asyncio.run(scene())


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_is_loaded_before_it_is_asked_again(
    kind: str, bundles: dict[str, Path], tmp_path: Path
) -> None:
    async def scene() -> None:
        quiet = ResidencySettings(preload_top=0)
        other = "text" if kind != "text" else "embeddings"
        async with core(bundles, tmp_path, quiet) as client:
            for one in (kind, other):
                await ask(client, one, bundles[one])
        guessing = ResidencySettings(preload_top=2, preload_share=1.0, preload_idle_s=0.01)
        async with core(bundles, tmp_path, guessing) as client:
            await until(client, bundles[kind], ModelState.READY)
            await ask(client, kind, bundles[kind])
            told = (await client.stats()).residency
            assert told is not None
            assert told.guesses_used >= 1

    asyncio.run(scene())
