"""Sixteen choices of the real model for a reader over ZeroMQ that takes a few bytes at a time."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from bench.daemon import daemon
from nsedge.api import Delta, Sampling
from nsedge.ipc.client import AsyncClient
from tests.integration.test_daemon import gather, until_idle
from tests.ipc import RawClient

pytestmark = pytest.mark.integration

CHOICES = 16
TOKENS = 12
TEXT = "Once upon a time, there was a lighthouse keeper who"
SAMPLING = {"n": CHOICES, "seed": 5, "temperature": 1.0, "max_tokens": TOKENS, "ignore_eos": True}
BYTES = 16
"""Granted at a time: less than any event has."""


async def trickle(client: RawClient) -> None:
    """Grant a few bytes, ever again, and ping; at the pace at which these are answered."""
    while True:
        for _ in range(32):
            await client.say({"type": "credit", "id": "a", "bytes": BYTES})
        await client.say_control({"type": "ping", "session": client.session})
        assert await client.hear_control() == {"type": "pong"}


def test_every_choice_comes_and_one_end(starter_bundle: Path) -> None:
    async def scene() -> None:
        async with (
            daemon(starter_bundle, slots=16, context_tokens=256) as door,
            AsyncClient(door.endpoint) as quick,
            RawClient(door.endpoint) as slow,
        ):
            await slow.hello("1.4")
            request = {"type": "generate", "id": "a", "model": door.model, "text": TEXT}
            await slow.say({**request, "credit": 1, "sampling": SAMPLING})
            granting = asyncio.create_task(trickle(slow))
            heard = await slow.hear_until_end("a")
            granting.cancel()
            await asyncio.wait({granting})
            ends = [one["type"] for one in heard if one["type"] in ("finished", "failed")]
            assert ends == ["finished"]
            ended = [one for one in heard if one["type"] == "choice_finished"]
            assert sorted(one.get("choice", 0) for one in ended) == list(range(CHOICES))
            assert heard[-1]["usage"]["completion_tokens"] == CHOICES * TOKENS
            wanted = quick.generate(door.model, TEXT, sampling=Sampling(**SAMPLING))  # type: ignore[arg-type]
            events = await gather(wanted)
            for choice in range(CHOICES):
                text = "".join(
                    one.text for one in events if isinstance(one, Delta) and one.choice == choice
                )
                assert text_of(heard, choice) == text
            assert (await until_idle(quick, door.model)).kv_tokens_used == 0

    asyncio.run(scene())


def text_of(heard: list[dict[str, Any]], choice: int) -> str:
    deltas = [payload for payload in heard if payload["type"] == "delta"]
    return "".join(one["text"] for one in deltas if one.get("choice", 0) == choice)
