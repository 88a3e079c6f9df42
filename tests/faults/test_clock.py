"""A wall clock that is set while the daemon runs, and a process that stands still."""

from __future__ import annotations

import asyncio
import math
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from nsedge.api import Finished
from nsedge.ipc.client import AsyncClient
from tests.faults.clock import Clock
from tests.faults.site import (
    GREEDY,
    PATIENCE_S,
    PROMPT,
    Site,
    answer,
    gather,
    play,
    site,
    streaming,
    text_of,
    until_idle,
)
from tests.ipc import RawClient

pytestmark = pytest.mark.integration

DAY_S = 86400.0


@pytest.fixture(params=[3650 * DAY_S, -3650 * DAY_S, 3600.0, -1.0], ids=lambda s: f"{s:+g} s")
def jump_s(request: pytest.FixtureRequest) -> float:
    return float(request.param)


@pytest.fixture(scope="module")
def skewed(starter_bundle: Path) -> Iterator[tuple[Clock, Site]]:
    with Clock() as clock, site(starter_bundle, words=clock.words) as where:
        where.core.start()
        yield clock, where


def test_a_clock_that_is_set_moves_no_stream(skewed: tuple[Clock, Site], jump_s: float) -> None:
    clock, where = skewed

    async def scene(client: AsyncClient) -> None:
        said = await answer(client, where.model)
        before = await client.health()
        timed = client.generate(where.model, PROMPT, sampling=GREEDY, deadline_s=600.0)
        async with streaming(client, where.model):
            clock.jump(jump_s)
            events = await gather(timed)
            assert text_of(events) == said
        assert isinstance(events[-1], Finished)
        assert all(0 <= spent < 100 for spent in spent_s(events[-1]))
        after = await client.health()
        assert 0 <= after.uptime_s - before.uptime_s < 100
        await until_idle(client, where.model)
        used = (await client.usage()).models[where.model]
        assert 0 < used.priority_score <= used.usage_count
        assert math.isfinite(used.likelihood)
        assert 0 <= used.total_s < 100
        assert "Traceback" not in where.core.log

    play(where, scene)


def spent_s(end: Finished) -> tuple[float, ...]:
    return end.timings.queue_s, end.timings.prefill_s, end.timings.decode_s


def test_a_core_that_stood_still_drops_nobody_for_its_own_silence(standing: Site) -> None:
    """As after a suspend: nobody was heard for longer than the liveness time."""

    async def pings(client: RawClient) -> None:
        while True:
            await client.say_control({"type": "ping", "session": client.session})
            await asyncio.sleep(0.2)

    async def scene() -> None:
        async with asyncio.timeout(PATIENCE_S), RawClient(standing.endpoint) as client:
            liveness_s = (await client.hello())["liveness_s"]
            alive = asyncio.create_task(pings(client))
            sampling = {"max_tokens": 100, "ignore_eos": True}
            wish = {"model": standing.model, "text": PROMPT, "sampling": sampling}
            await client.say({"type": "generate", "id": "r", **wish})
            await client.hear()
            standing.core.signal(signal.SIGSTOP)
            await asyncio.sleep(1.5 * liveness_s)
            standing.core.signal(signal.SIGCONT)
            end = (await client.hear_until_end("r"))[-1]
            alive.cancel()
            assert (end["type"], end["usage"]["completion_tokens"]) == ("finished", 100)

    asyncio.run(scene())
