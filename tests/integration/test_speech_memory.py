"""A long recording is heard in constant memory: a core of its own, and nothing else in it."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from bench.long_speech import MIB, hear, long_recording

pytestmark = pytest.mark.integration

SECONDS = 300
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
