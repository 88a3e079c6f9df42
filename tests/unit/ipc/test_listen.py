"""Sound that comes, from a client through a real server to whoever hears it."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

import pytest

from nsedge import api
from nsedge.ipc.client import AsyncClient, Client, Feed, Mark
from nsedge.ipc.limits import Limits
from tests.fakes import MODEL, FakeService
from tests.ipc import QUICK, RawClient, gathered, serving
from tests.unit.ipc.test_sync_client import daemon_thread


def run(scenario: Coroutine[Any, Any, None]) -> None:
    asyncio.run(scenario)


def listen(label: str = "a", **fields: Any) -> dict[str, Any]:
    return {"type": "listen", "id": label, "model": MODEL, **fields}


def audio(data: bytes = b"", label: str = "a", **fields: Any) -> dict[str, Any]:
    return {"type": "audio", "id": label, "data": data, **fields}


def test_what_is_said_is_told_as_it_comes_and_then_as_final() -> None:
    async def scenario() -> None:
        service, feed = FakeService(), Feed()
        async with serving(service) as endpoint, AsyncClient(endpoint) as client:
            stream = client.listen(MODEL, feed, rate=8000, language="en")
            feed.push(b"one two")
            feed.mark(Mark.COMMIT)
            feed.push(b"three")
            feed.mark(Mark.END)
            told = await gathered(stream)
        task = service.requests[0].task
        assert isinstance(task, api.Listen)
        assert (task.rate, task.language) == (8000, "en")
        assert feed.closed
        segments = [one for one in told if isinstance(one, api.Segment)]
        assert [(one.seq, one.text, one.final, one.stable) for one in segments] == [
            (0, "one two", False, 3),
            (0, "one two", True, 7),
            (1, "three", False, 0),
            (1, "three", True, 5),
        ]
        assert [one.at_s for one in told if isinstance(one, api.Committed)] == [
            3.5 / 8000,
            6 / 8000,
        ]
        assert isinstance(told[-1], api.Finished)
        assert told[-1].usage.audio_s == 6 / 8000

    run(scenario())


def test_sound_of_any_length_goes_through_a_small_credit() -> None:
    limits = Limits(sweep_s=0.01, audio_credit_bytes=1000)

    async def scenario() -> None:
        feed = Feed()
        async with (
            serving(FakeService(), limits=limits) as endpoint,
            AsyncClient(endpoint) as client,
        ):
            stream = client.listen(MODEL, feed, partials=False)
            said = b"word " * 20_000
            await asyncio.to_thread(feed.put, said)
            feed.mark(Mark.END)
            told = await gathered(stream)
        final = [one for one in told if isinstance(one, api.Segment)]
        assert [one.text for one in final] == [said.decode()]

    run(scenario())


def test_who_sends_more_than_was_granted_or_goes_on_behind_the_end_is_told_so_once() -> None:
    limits = Limits(sweep_s=0.01, audio_credit_bytes=100)

    async def scenario() -> None:
        service = FakeService(load_steps=1, pace_s=3600.0)  # hears nothing yet
        async with serving(service, limits=limits) as endpoint, RawClient(endpoint) as client:
            welcome = await client.hello("1.6")
            assert welcome["audio_credit_bytes"] == 100
            await client.say(listen(), audio(bytes(60)), audio(bytes(60)), audio(bytes(60)))
            failed = (await client.hear_until_end("a"))[-1]
            assert (failed["code"], failed["param"]) == ("out_of_order", "data")
            assert "faster than it is heard: 60 bytes wait" in failed["message"]
            await client.say(listen("b"), audio(b"x", "b", then="end"), audio(b"y", "b"))
            failed = (await client.hear_until_end("b"))[-1]
            assert (failed["code"], failed["message"]) == (
                "out_of_order",
                "the sound has ended, and nothing follows",
            )
            await client.say({"type": "health", "id": "h"})
            assert (await client.hear())["type"] == "reply"  # and nothing else
            assert service.live == set()

    run(scenario())


def test_what_is_heard_is_credit_anew() -> None:
    limits = Limits(sweep_s=0.01, audio_credit_bytes=100)

    async def scenario() -> None:
        async with serving(FakeService(), limits=limits) as endpoint, RawClient(endpoint) as client:
            await client.hello("1.6")
            await client.say(listen(partials=False))
            for _ in range(5):
                await client.say(audio(bytes(60)))
                told = await client.hear()
                while told["type"] != "credit":
                    told = await client.hear()
                assert told == {"type": "credit", "id": "a", "bytes": 60}
            await client.say(audio(then="end"))
            assert (await client.hear_until_end("a"))[-1]["type"] == "finished"

    run(scenario())


def test_sound_for_what_is_no_listen_is_refused_and_for_nobody_is_ignored() -> None:
    async def scenario() -> None:
        service = FakeService(gate=asyncio.Event())
        async with serving(service) as endpoint, RawClient(endpoint) as client:
            await client.hello("1.6")
            await client.say(audio(b"x", "nobody"))
            await client.generate("g", "one")
            await client.say(audio(b"x", "g"))
            heard = [await client.hear(), await client.hear()]
            (refused,) = [one for one in heard if one["type"] == "failed"]
            assert refused.get("id") is None  # the request itself goes on
            assert refused["message"] == "request 'g' hears no sound"
            service.gate.set()
            assert (await client.hear_until_end("g"))[-1]["type"] == "finished"

    run(scenario())


def test_a_cancelled_listen_ends_once_and_its_feed_hears_nothing() -> None:
    async def scenario() -> None:
        feed, service = Feed(), FakeService()
        async with serving(service) as endpoint, AsyncClient(endpoint) as client:
            stream = client.listen(MODEL, feed)
            feed.push(b"one")
            async for event in stream:
                if isinstance(event, api.Segment):
                    stream.cancel()
                    break
            told = await gathered(stream)
            ends = [one for one in told if api.is_terminal(one)]
            assert [one.reason for one in ends if isinstance(one, api.Finished)] == ["cancelled"]
            assert feed.closed

    run(scenario())


def test_a_client_of_1_5_is_refused() -> None:
    async def scenario() -> None:
        async with serving(FakeService()) as endpoint, RawClient(endpoint) as client:
            await client.hello("1.5")
            await client.say(listen())
            (refused,) = await client.hear_until_end("a")
            assert (refused["code"], refused["param"]) == ("unsupported_version", "type")
            await client.hello("1.6")
            await client.say(listen(rate=1), listen("b", sample_rate=1))
            first = (await client.hear_until_end("a"))[-1]
            assert (first["code"], first["param"]) == ("invalid_parameter", "rate")

    run(scenario())


def test_partials_that_wait_for_credit_are_replaced_by_those_that_tell_them_anew() -> None:
    async def scenario() -> None:
        async with serving(FakeService()) as endpoint, RawClient(endpoint) as client:
            await client.hello("1.6")
            await client.say(listen(credit=1))
            for word in (b"one ", b"two ", b"three "):
                await client.say(audio(word))
            await client.say(audio(then="end"))
            assert [(await client.hear())["type"] for _ in range(2)] == ["started", "activity"]
            await client.say({"type": "health", "id": "h"})
            assert (await client.hear())["type"] == "reply"
            await client.say({"type": "credit", "id": "a", "bytes": 10_000})
            told = await client.hear_until_end("a")
            texts = [(one["text"], one.get("final", True)) for one in told if "text" in one]
            assert texts[-1] == ("one two three ", True)
            assert len(texts) <= 2

    run(scenario())


@pytest.mark.parametrize("model", [MODEL, "nope"])
def test_the_plain_client_puts_sound_from_its_own_thread(model: str) -> None:
    with daemon_thread(FakeService(), QUICK) as endpoint, Client(endpoint) as client:
        feed = Feed(1000)
        events = client.listen(model, feed, partials=False)
        if model != MODEL:
            (failed,) = events
            assert isinstance(failed, api.Failed)
            assert failed.code == "unknown_model"
            assert feed.closed
            return
        feed.put(b"word " * 1000)
        feed.mark(Mark.END)
        final = [one for one in events if isinstance(one, api.Segment)]
        assert [len(one.text) for one in final] == [5000]
