"""Models in and out of memory: the real service and model, over ZeroMQ."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import os
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from nsedge.api import (
    Event,
    Failed,
    Finished,
    Generate,
    Loading,
    LoadOutcome,
    LoadWish,
    ModelState,
    Request,
    Sampling,
    Started,
)
from nsedge.api.stream import EventStream
from nsedge.bundle.files import MANIFEST_FILE
from nsedge.core.service import LocalService, ServiceSettings
from nsedge.errors import InsufficientMemory
from nsedge.ipc.client import AsyncClient
from nsedge.runtime.machine.amounts import Room
from nsedge.runtime.residency.settings import ResidencySettings
from nsedge.runtime.settings import EngineSettings
from tests.ipc import serving

pytestmark = pytest.mark.integration
PATIENCE_S = 240.0
MIB = 2**20
ROOM_FOR_ONE = 180 * MIB
"""Half as much again as the starter takes."""
ENGINE = EngineSettings(slots=4, context_tokens=512)


@pytest.fixture
def shelf(starter_bundle: Path, tmp_path: Path) -> Path:
    """A folder with the starter under two names."""
    for name in ("one", "two"):
        path = tmp_path / name
        shutil.copytree(starter_bundle, path, copy_function=os.link)
        manifest = json.loads((path / MANIFEST_FILE).read_text(encoding="utf-8"))
        (path / MANIFEST_FILE).unlink()  # it is the starter's own, by another name
        text = json.dumps({**manifest, "name": name})
        (path / MANIFEST_FILE).write_text(text, encoding="utf-8")
    return tmp_path


@contextlib.asynccontextmanager
async def core(
    shelf: Path, *, residency: ResidencySettings | None = None, first: tuple[str, ...] = ()
) -> AsyncIterator[AsyncClient]:
    """A client of a core that serves `shelf`, with `first` in memory."""
    gc.collect()  # what earlier tests left must not go while a model is measured
    service = LocalService(
        ServiceSettings(
            bundles=tuple(shelf / name for name in first),
            folder=shelf,
            engine=ENGINE,
            residency=residency or ResidencySettings(),
            usage_file=shelf / "state" / "usage.json",
        )
    )
    async with asyncio.timeout(PATIENCE_S), serving(service) as endpoint:
        await service.start()
        try:
            async with AsyncClient(endpoint) as client:
                yield client
        finally:
            await service.stop()


async def ask(client: AsyncClient, model: str, **wish: float) -> list[Event]:
    sampling = Sampling(temperature=0.0, max_tokens=8, ignore_eos=True)
    task = Generate(text="Once upon a time", sampling=sampling)
    request = Request(request_id=client.new_id(), model=model, task=task, **wish)
    async with EventStream(client, request) as events:
        return [event async for event in events]


async def states(client: AsyncClient) -> dict[str, ModelState]:
    return {model.name: model.state for model in await client.models()}


async def until_absent(client: AsyncClient, name: str) -> None:
    while (await states(client))[name] is not ModelState.ABSENT:  # noqa: ASYNC110 - only the daemon can tell
        await asyncio.sleep(0.02)


def test_two_models_at_once_the_second_loaded_by_its_first_request(shelf: Path) -> None:
    async def scene() -> None:
        async with core(shelf, first=("one",)) as client:
            assert await states(client) == {"one": ModelState.READY, "two": ModelState.ABSENT}
            both = await asyncio.gather(ask(client, "one"), ask(client, "two"))
            assert all(isinstance(events[-1], Finished) for events in both)
            loading = [event for event in both[1] if isinstance(event, Loading)]
            assert loading[0].position == 0
            assert {event.state for event in loading} >= {ModelState.LOADING, ModelState.WARMING}
            started = next(event for event in both[1] if isinstance(event, Started))
            assert started.queue_s > 0.05, "the wait for the model counts"
            assert not any(isinstance(event, Loading) for event in both[0])
            stats = await client.stats()
            held = {name: model.memory for name, model in stats.models.items()}
            assert set(held) == {"one", "two"}
            for memory in held.values():
                assert memory is not None
                assert memory.weights_bytes > 50 * MIB
                assert 0 < memory.kv_bytes < memory.kv_reserved_bytes
            assert (await client.usage()).models["two"].usage_count == 1

    asyncio.run(scene())


def test_a_budget_for_one_has_them_take_turns(shelf: Path) -> None:
    async def scene() -> None:
        residency = ResidencySettings(budget=Room(ROOM_FOR_ONE), sweep_s=0.05)
        async with core(shelf, residency=residency) as client:
            for name in ("one", "two", "one"):
                assert isinstance((await ask(client, name))[-1], Finished)
            told = (await client.stats()).residency
            assert told is not None
            assert (told.loads, told.evictions) == (3, 2)
            assert told.used_bytes <= ROOM_FOR_ONE
            # Both at once: the second waits for the first to be done, neither is cut off.
            both = await asyncio.gather(ask(client, "one"), ask(client, "two"))
            assert all(isinstance(events[-1], Finished) for events in both)

    asyncio.run(scene())


def test_what_never_fits_is_refused_and_the_daemon_goes_on(shelf: Path) -> None:
    async def scene() -> None:
        residency = ResidencySettings(budget=Room(ROOM_FOR_ONE))
        async with core(shelf, residency=residency) as client:
            result = await client.load(LoadWish(model="one", pin=True))
            assert result.outcome is LoadOutcome.LOADED
            with pytest.raises(InsufficientMemory, match="of a budget of 180 MiB"):
                await client.load(LoadWish(model="two"))
            end = (await ask(client, "two"))[-1]
            assert isinstance(end, Failed)
            assert (end.code, end.retryable) == ("insufficient_memory", True)
            assert isinstance((await ask(client, "one"))[-1], Finished)

    asyncio.run(scene())


def test_a_model_is_reloaded_under_a_running_request(shelf: Path) -> None:
    async def scene() -> None:
        async with core(shelf, first=("one",)) as client:
            sampling = Sampling(temperature=0.0, max_tokens=200, ignore_eos=True)
            async with client.generate("one", "Once upon a time", sampling=sampling) as events:
                await anext(events)
                reloaded = await client.reload("one")
                assert reloaded.state is ModelState.READY
                seen = [event async for event in events]
            assert isinstance(seen[-1], Finished)
            assert seen[-1].usage.completion_tokens == 200
            assert isinstance((await ask(client, "one"))[-1], Finished)

    asyncio.run(scene())


def test_bundles_that_changed_are_read_anew_and_no_other(shelf: Path) -> None:
    async def scene() -> None:
        service = LocalService(
            ServiceSettings(bundles=(shelf / "one", shelf / "two"), folder=shelf, engine=ENGINE)
        )
        try:
            await service.start()
            assert await service.refresh() == ()
            path = shelf / "one" / MANIFEST_FILE
            manifest = json.loads(path.read_text(encoding="utf-8"))
            path.write_text(json.dumps({**manifest, "context_length": 128}), encoding="utf-8")
            (again,) = await service.refresh()
            assert (again.name, again.context_tokens) == ("one", 128)
            assert {one.name: one.context_tokens for one in await service.models()} == {
                "one": 128,
                "two": 512,
            }
        finally:
            await service.stop()

    asyncio.run(asyncio.wait_for(scene(), PATIENCE_S))
