"""Long sound, in a file and as it comes, is heard in constant memory: a core of its own, and
nothing else in it."""

from __future__ import annotations

import asyncio
from pathlib import Path

import numpy as np
import pytest

from bench.daemon import daemon
from bench.long_live import RATE, long_sound
from bench.long_speech import MIB, hear, long_recording
from bench.peers.memory import held
from nsedge.api import Feed, Finished, Mark, Segment
from nsedge.ipc.client import AsyncClient

pytestmark = pytest.mark.integration

SECONDS, LIVE_SECONDS = 300, 180
CONSTANT = 64 * MIB
"""What a recording longer than a window takes beside its file: libraries, the voice detector, and
what a window needs."""


def test_minutes_of_sound_take_no_more_memory_than_a_window(speech_bundle: Path) -> None:
    files = sorted(map(str, (speech_bundle / "golden").glob("*.wav")))
    sound = long_recording(files, SECONDS)
    found = asyncio.run(hear(speech_bundle, sound, SECONDS, threads=2))
    assert found.words > 2 * SECONDS
    assert found.growth < len(sound) + CONSTANT
    assert found.later < 8 * MIB


def test_minutes_of_live_sound_take_no_more_memory_than_one(speech_bundle: Path) -> None:
    """Pushed as fast as it is heard."""
    files = sorted(map(str, (speech_bundle / "golden").glob("*.wav")))
    sound = long_sound(files, LIVE_SECONDS).astype(np.int16).tobytes()

    async def scene() -> None:
        async with (
            daemon(speech_bundle, threads=2) as found,
            AsyncClient(found.endpoint) as client,
        ):
            core, feed = found.pids[:1], Feed(RATE)
            before, grown, words = held(core).private_dirty, dict[bool, int](), 0

            def pour() -> None:
                feed.put(sound)
                feed.mark(Mark.END)

            pouring = asyncio.create_task(asyncio.to_thread(pour))
            async for event in client.listen(found.model, feed, rate=RATE):
                if isinstance(event, Segment) and event.final:
                    late = event.end_s > LIVE_SECONDS / 3
                    grown[late] = max(grown.get(late, 0), held(core).private_dirty - before)
                    words += len(event.text.split())
            await pouring
            assert isinstance(event, Finished), event
            assert words > LIVE_SECONDS
            assert grown[True] < CONSTANT
            assert grown[True] < grown[False] + 8 * MIB

    asyncio.run(scene())
