"""Models in memory over the door: new clients hear all of it, older ones what they know."""

from __future__ import annotations

import asyncio
import dataclasses

import pytest

from nsedge.api import Generate, LoadWish, ModelInfo, ModelState, Request
from nsedge.api.models import FOREVER_S
from nsedge.api.stream import EventStream
from nsedge.ipc import queries
from nsedge.ipc.client import AsyncClient
from tests.fakes import MODEL, FakeService
from tests.ipc import RawClient, gathered, serving


@pytest.mark.parametrize(("version", "heard"), [("1.1", 0), ("1.2", 3), ("1.9", 3)])
def test_loading_is_told_to_those_that_know_it(version: str, heard: int) -> None:
    async def scenario() -> None:
        service = FakeService(load_steps=3)
        async with serving(service) as endpoint, RawClient(endpoint) as client:
            await client.hello(version)
            await client.generate("a", "one two")
            seen = [message["type"] for message in await client.hear_until_end("a")]
            assert seen == ["loading"] * heard + ["started", "delta", "delta", "finished"]

    asyncio.run(scenario())


def test_older_clients_hear_of_models_in_their_own_words() -> None:
    model = ModelInfo(name="m", kind="causal-lm", state=ModelState.READY, created=0)
    all_of_them = tuple(dataclasses.replace(model, state=state) for state in ModelState)
    told = [one.state.value for one in queries.known_to(all_of_them, 1)]
    assert told == ["loading", "ready", "failed", "loading", "ready"]
    assert queries.known_to(all_of_them, 2) == all_of_them


def test_a_time_without_end_reaches_the_other_side() -> None:
    async def scenario() -> None:
        service = FakeService()
        async with serving(service) as endpoint, AsyncClient(endpoint) as client:
            await client.load(LoadWish(model=MODEL, keep_alive_s=FOREVER_S))
            assert service.wishes[0].keep_alive_s == FOREVER_S
            request = Request(
                request_id="r", model=MODEL, task=Generate(text="x"), keep_alive_s=FOREVER_S
            )
            assert len(await gathered(EventStream(client, request))) == 3

    asyncio.run(scenario())
