"""An hour of sound over one request, and whether a core that hears it grows or falls behind."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray

from bench.daemon import Daemon
from bench.peers.memory import held
from bench.playing import Late, Played, play
from bench.report import Noise, percentiles
from nsedge.ipc.client import AsyncClient

RATE = 16_000
GAP_S = 1.5
"""Of silence between two recordings."""
POLL_S = 0.5
MIB = 2**20
PARTS = 4
"""Of the sound, whose figures are compared."""
MOST_MIB = 200.0
MOST_LATER = 1.5
"""Times as late as those of the first part, finals of the last may be, by their medians."""

Samples = NDArray[np.int16]


def long_sound(files: Sequence[str], seconds: int) -> Samples:
    """Recordings one behind the other, with silence between them, over and over."""
    gap = np.zeros(round(GAP_S * RATE), np.int16)
    parts: list[Samples] = []
    for file in files:
        samples, rate = soundfile.read(file, dtype="int16", always_2d=True)
        parts += [soxr.resample(samples[:, 0], rate, RATE), gap]
    return np.resize(np.concatenate(parts), seconds * RATE)


async def hear_long(
    client: AsyncClient, daemon: Daemon, files: Sequence[str], *, seconds: int, speed: float
) -> dict[str, Any]:
    """Play `seconds` of recordings to a daemon at `speed`, and watch its core.

    Raises:
        NsedgeError: the request failed, as where the sound came faster than it was heard.
    """
    sound, core = long_sound(files, seconds), daemon.pids[:1]
    before, began_s, noise = held(core).private_dirty, time.perf_counter(), Noise()
    grown: list[tuple[float, float]] = []

    async def watch() -> None:
        while True:
            at_s = (time.perf_counter() - began_s) * speed
            grown.append((at_s, (held(core).private_dirty - before) / MIB))
            await asyncio.sleep(POLL_S)

    watching = asyncio.create_task(watch())
    try:
        played = await play(client, daemon.model, sound, RATE, speed)
    finally:
        watching.cancel()
    return {
        "seconds": seconds,
        "speed": speed,
        "took_s": round(time.perf_counter() - began_s, 1),
        "words": len(played.text.split()),
        "others_cores": round(noise.others(), 2),
        **told(played, grown, seconds),
    }


def told(played: Played, grown: Sequence[tuple[float, float]], seconds: float) -> dict[str, Any]:
    """The findings in each part of the sound, and whether they are as they should be. grown: by the
    second of the sound, how many MiB the core held more than before."""
    peaks = [max((mib for _, mib in part), default=0.0) for part in _parts(grown, seconds)]
    finals = [_late(part) for part in _parts(played.final, seconds)]
    first, last = finals[0].get("p50"), finals[-1].get("p50")
    return {
        "growth_mib": [round(peak, 1) for peak in peaks],
        "first_words_s": [_late(part) for part in _parts(played.first, seconds)],
        "final_s": finals,
        "flat": max(peaks) < MOST_MIB,
        "in_time": first is not None and last is not None and last <= MOST_LATER * first,
    }


def _parts(found: Sequence[Any], seconds: float) -> list[list[Any]]:
    """The findings at each quarter of the sound; each begins with its place in seconds."""
    parts: list[list[Any]] = [[] for _ in range(PARTS)]
    for one in found:
        parts[min(PARTS - 1, int(one[0] * PARTS / seconds))].append(one)
    return parts


def _late(part: Sequence[Late]) -> dict[str, float]:
    found = percentiles(late.seconds for late in part)
    return {"n": len(part), **{name: round(value, 3) for name, value in found.items()}}
