"""Models of every kind, and what breaks under them: the core killed in mid-request, clients that
vanish, files that change, and more requests than may wait."""

from __future__ import annotations

import asyncio
import hashlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from nsedge.api import Event, Failed, Finished, Started, is_terminal
from nsedge.api.stream import EventStream
from nsedge.bundle.manifest import Bundle
from nsedge.errors import BundleInvalid
from nsedge.ipc.client import AsyncClient
from tests.faults.kinds import KINDS, Kind
from tests.faults.site import Site, answer, gather, play, said, site, until, until_idle
from tests.ipc import RawClient

pytestmark = pytest.mark.integration

NEW_KINDS = [name for name in KINDS if name != "text"]
"""Text has its own tests of all this."""
MIB = 2**20
AT_ONCE = 60
PAUSE_S = 0.05
ENDS_S = 5.0
"""From a client's end to that of its requests."""


@pytest.fixture(params=NEW_KINDS)
def kind(request: pytest.FixtureRequest) -> Kind:
    return KINDS[request.param]


@pytest.fixture
def bundle(kind: Kind, request: pytest.FixtureRequest) -> Path:
    return kind.bundle(request)


@pytest.fixture
def own_bundle(bundle: Path, tmp_path: Path) -> Path:
    """In files of its own, which may be damaged."""
    return Path(shutil.copytree(bundle, tmp_path / bundle.name))


@pytest.fixture
def where(bundle: Path) -> Iterator[Site]:
    with site(bundle, core="heartbeat_s = 0.3\nliveness_s = 1.0\n") as made:
        made.core.start()
        yield made


async def begin(stream: EventStream) -> None:
    """Until it is being worked on."""
    async for event in stream:
        if isinstance(event, Started):
            return
    raise AssertionError("it never started")


async def rest(stream: EventStream) -> list[Event]:
    """The events from here on: one of them is the end."""
    events = [event async for event in stream]
    assert sum(map(is_terminal, events)) == 1
    return events


async def asked_again(kind: Kind, client: AsyncClient, bundle: Path) -> list[object]:
    """What comes of a request that is asked as long as the failures say that one may."""
    while True:
        events = await gather(kind.ask(client, bundle))
        end = events[-1]
        if not isinstance(end, Failed):
            return [*said(events)]
        assert end.retryable, end
        await asyncio.sleep(PAUSE_S)


def test_killing_the_core_ends_the_request_and_the_client_comes_back(
    kind: Kind, bundle: Path, where: Site
) -> None:
    async def scene(client: AsyncClient) -> None:
        before = said(await gather(kind.ask(client, bundle)))
        async with kind.ask_long(client, bundle) as stream:
            await begin(stream)
            where.core.kill()
            (end,) = (await rest(stream))[-1:]
        assert isinstance(end, Failed), end
        assert (end.code, end.retryable) == ("connection_lost", True)
        await asyncio.to_thread(where.core.start)
        assert await asked_again(kind, client, bundle) == before

    play(where, scene)


def test_a_client_that_vanishes_leaves_nothing_behind(
    kind: Kind, bundle: Path, where: Site
) -> None:
    async def scene(client: AsyncClient) -> None:
        before = said(await gather(kind.ask(client, bundle)))
        idle = await until_idle(client, bundle.name)
        held = where.core.descriptors()
        for number in range(1, 4):
            async with AsyncClient(where.endpoint) as other:
                await begin(kind.ask_long(other, bundle))
            async with asyncio.timeout(ENDS_S):
                after = await until_idle(client, bundle.name)
            assert after.finished["cancelled"] == idle.finished.get("cancelled", 0) + number
        assert said(await gather(kind.ask(client, bundle))) == before
        await until(lambda: where.core.descriptors() <= held + 2)

    play(where, scene)


def test_clients_killed_in_mid_upload_give_their_room_back(starter_bundle: Path) -> None:
    data = os.urandom(8 * MIB)
    piece = {"type": "media_put", "sha256": hashlib.sha256(data).hexdigest(), "size": len(data)}
    core = f"media_bytes = {32 * MIB}\nheartbeat_s = 0.3\nliveness_s = 1.0\n"
    with site(starter_bundle, core=core) as where:
        where.core.start()

        async def scene(client: AsyncClient) -> None:
            held = where.core.descriptors()
            for _ in range(9):  # there is room for four
                async with RawClient(where.endpoint) as raw:
                    await raw.hello("1.5")
                    while True:
                        await raw.say({**piece, "id": "u", "offset": 0, "data": data[: MIB // 4]})
                        if (await raw.hear())["type"] == "credit":
                            break
            await until(lambda: where.core.descriptors() <= held + 2)

        play(where, scene)


def test_more_requests_than_may_wait_are_refused_and_all_end(kind: Kind, bundle: Path) -> None:
    with site(bundle, engine="max_queue = 40\n") as where:
        where.core.start()

        async def scene(client: AsyncClient) -> None:
            before = said(await gather(kind.ask(client, bundle)))
            ends = await asyncio.gather(*(gather(kind.ask(client, bundle)) for _ in range(AT_ONCE)))
            refused = [events[-1] for events in ends if isinstance(events[-1], Failed)]
            assert {one.code for one in refused} == {"queue_full"}
            assert all(one.retryable and one.retry_after_s for one in refused)
            for events in ends:
                assert sum(map(is_terminal, events)) == 1
                if isinstance(events[-1], Finished):
                    assert said(events) == before
            assert len(refused) < AT_ONCE
            await until_idle(client, bundle.name)
            assert said(await gather(kind.ask(client, bundle))) == before

        play(where, scene)


def test_a_model_in_memory_goes_on_whatever_becomes_of_its_files(
    kind: Kind, bundle: Path, own_bundle: Path
) -> None:
    with site(own_bundle) as where:
        where.core.start()

        async def scene(client: AsyncClient) -> None:
            before = said(await gather(kind.ask(client, bundle)))
            for name in Bundle.open(own_bundle).manifest.files:
                os.truncate(own_bundle / name, 0)
            assert said(await gather(kind.ask(client, bundle))) == before
            with pytest.raises(BundleInvalid):
                await client.reload(bundle.name)
            assert said(await gather(kind.ask(client, bundle))) == before

        play(where, scene)


def test_files_that_were_altered_are_named_and_the_rest_goes_on(
    kind: Kind, bundle: Path, starter_bundle: Path
) -> None:
    """Each file in turn with bytes changed, cut short, and gone."""
    with site(starter_bundle) as where:
        own = where.folder / "bundles" / bundle.name
        shutil.copytree(bundle, own)
        where.core.start()

        async def scene(client: AsyncClient) -> None:
            before = await answer(client, where.model)
            refused = set()
            for number, name in enumerate(Bundle.open(bundle).manifest.files):
                DAMAGES[number % len(DAMAGES)](own / name)
                end = (await gather(kind.ask(client, bundle)))[-1]
                if isinstance(end, Failed):
                    assert (end.code, name in end.message) == ("bundle_invalid", True), end
                    refused.add(name)
                else:
                    await client.unload(bundle.name)
                shutil.copy(bundle / name, own / name)
                await client.reload(bundle.name)
                await client.unload(bundle.name)
            weights = {name for name in refused if name.endswith((".onnx", ".data"))}
            assert weights
            assert "tokenizer.json" in refused
            assert await answer(client, where.model) == before

        play(where, scene)


def changed(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0x55
    path.write_bytes(data)


def cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


DAMAGES = (changed, cut, Path.unlink)
