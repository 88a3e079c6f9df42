"""Clients of older minor versions at the door of today."""

from __future__ import annotations

import asyncio

import pytest

from tests.contract.subjects import EVERYTHING, SHOW
from tests.fake_answers import vector
from tests.fakes import MODEL, FakeService
from tests.ipc import RawClient, serving


@pytest.mark.parametrize("version", ["1.0", "1.1", "1.2"])
def test_older_clients_go_on_and_see_nothing_new(version: str) -> None:
    async def scenario() -> None:
        service = FakeService(shows={SHOW: EVERYTHING})
        async with serving(service) as endpoint, RawClient(endpoint) as client:
            await client.hello(version)
            await client.generate("a", SHOW)
            heard = await client.hear_until_end("a")
            assert [payload["type"] for payload in heard] == ["started", "finished"]
            assert set(heard[-1]["usage"]) == {
                "prompt_tokens",
                "completion_tokens",
                "cached_tokens",
            }
            await client.say({"type": "embed", "id": "b", "model": MODEL, "inputs": ["x"]})
            (refused,) = await client.hear_until_end("b")
            assert (refused["code"], refused["param"]) == ("unsupported_version", "type")
            await client.generate("b", "one two")
            assert (await client.hear_until_end("b"))[-1]["type"] == "finished"
            assert service.accepted == 2

    asyncio.run(scenario())


@pytest.mark.parametrize("field", ["tools", "split_reasoning"])
def test_a_client_of_1_3_is_refused_what_brings_events_of_1_4(field: str) -> None:
    asked = {"tools": [{"function": {"name": "sun"}}], "split_reasoning": True}

    async def scenario() -> None:
        async with serving(FakeService()) as endpoint, RawClient(endpoint) as client:
            await client.hello("1.3")
            turns = [{"role": "user", "content": "hi"}]
            chat = {"type": "chat", "id": "a", "model": MODEL, "messages": turns}
            await client.say({**chat, field: asked[field]})
            (refused,) = await client.hear_until_end("a")
            assert (refused["code"], refused["param"]) == ("unsupported_version", field)
            await client.say(chat)
            assert (await client.hear_until_end("a"))[-1]["type"] == "finished"

    asyncio.run(scenario())


def test_a_client_of_1_4_is_refused_a_transcript() -> None:
    async def scenario() -> None:
        async with serving(FakeService()) as endpoint, RawClient(endpoint) as client:
            await client.hello("1.4")
            media = {"type": "media", "media_type": "audio/wav", "data": b"one two"}
            asked = {"type": "transcribe", "id": "a", "model": MODEL, "media": media}
            await client.say(asked)
            (refused,) = await client.hear_until_end("a")
            assert (refused["code"], refused["param"]) == ("unsupported_version", "type")
            await client.hello("1.5")
            await client.say(asked)
            heard = await client.hear_until_end("a")
            assert [one["type"] for one in heard if one["type"] != "progress"] == [
                "started",
                "language",
                "segment",
                "segment",
                "finished",
            ]
            assert heard[-1]["usage"]["audio_s"] == 2.0

    asyncio.run(scenario())


def test_a_client_of_1_5_is_refused_a_caption() -> None:
    async def scenario() -> None:
        async with serving(FakeService()) as endpoint, RawClient(endpoint) as client:
            await client.hello("1.5")
            media = {"type": "media", "media_type": "image/png", "data": b"one two"}
            asked = {"type": "caption", "id": "a", "model": MODEL, "media": media}
            await client.say(asked)
            (refused,) = await client.hear_until_end("a")
            assert (refused["code"], refused["param"]) == ("unsupported_version", "type")
            await client.hello("1.6")
            await client.say(asked)
            heard = await client.hear_until_end("a")
            assert [one["type"] for one in heard] == ["started", "delta", "delta", "finished"]
            assert heard[-1]["usage"]["images"] == 1

    asyncio.run(scenario())


def test_a_client_of_1_3_gets_vectors_as_binary() -> None:
    async def scenario() -> None:
        async with serving(FakeService()) as endpoint, RawClient(endpoint) as client:
            await client.hello("1.3")
            await client.say(
                {"type": "embed", "id": "a", "model": MODEL, "inputs": ["x", [1, 2], "y"]}
            )
            _, first, second, end = await client.hear_until_end("a")
            data = vector("x") + vector((1, 2))
            assert first == {
                "type": "vectors",
                "id": "a",
                "first": 0,
                "shape": [2, 8],
                "data": data,
            }
            assert (second["first"], second["data"]) == (2, vector("y"))
            assert end["reason"] == "stop"

    asyncio.run(scenario())
