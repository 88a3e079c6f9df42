"""Many choices for a reader that takes a few bytes at a time, and for one that falls silent."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

from tests.fakes import FakeClock, FakeService
from tests.ipc import QUICK, RawClient, serving, until

CHOICES = 16
TEXT = "one two three four"
BYTES = 7
"""Granted at a time: less than any event has."""
TERMINAL = ("finished", "failed")


async def trickle(client: RawClient, clock: FakeClock) -> None:
    """Grant a few bytes, ever again, while hours pass for the daemon; pings are answered."""
    while True:
        for _ in range(64):
            await client.say({"type": "credit", "id": "a", "bytes": BYTES})
        clock.advance(QUICK.liveness_s * 0.9)
        await client.say_control({"type": "ping", "session": client.session})
        assert await client.hear_control() == {"type": "pong"}


def test_every_choice_comes_and_one_end() -> None:
    async def scenario() -> None:
        service, clock = FakeService(), FakeClock()
        async with serving(service, clock=clock) as endpoint, RawClient(endpoint) as client:
            await client.hello("1.4")
            await client.generate("a", TEXT, credit=1, sampling={"n": CHOICES})
            granting = asyncio.create_task(trickle(client, clock))
            heard = await client.hear_until_end("a")
            granting.cancel()
            await asyncio.wait({granting})
            told = Counter(payload["type"] for payload in heard)
            assert [payload["type"] for payload in heard if payload["type"] in TERMINAL] == [
                "finished"
            ]
            assert told["choice_finished"] == CHOICES
            assert {text_of(heard, choice) for choice in range(CHOICES)} == {TEXT}
            await client.generate("a", "more")  # its label is free again
            assert (await client.hear_until_end("a"))[-1]["type"] == "finished"
        assert not service.live

    asyncio.run(scenario())


def text_of(heard: list[dict[str, Any]], choice: int) -> str:
    deltas = [payload for payload in heard if payload["type"] == "delta"]
    return "".join(one["text"] for one in deltas if one.get("choice", 0) == choice)


def test_one_that_neither_pings_nor_takes_is_cancelled_in_time() -> None:
    async def scenario() -> None:
        service, clock = FakeService(repeat=10**6), FakeClock()
        service.max_untaken = 10**9
        async with serving(service, clock=clock) as endpoint, RawClient(endpoint) as client:
            await client.hello("1.4")
            await client.generate("a", TEXT, credit=1, sampling={"n": CHOICES})
            assert (await client.hear())["type"] == "started"
            clock.advance(QUICK.liveness_s * 0.9)
            await asyncio.sleep(4 * QUICK.sweep_s)
            assert len(service.live) == 1
            clock.advance(QUICK.liveness_s * 0.2)
            await until(lambda: service.cancelled == 1)
            assert not service.live
            await client.say_control({"type": "ping", "session": client.session})
            assert (await client.hear_control())["code"] == "out_of_order"

    asyncio.run(scenario())
