"""The growth of a core's memory during a long recording, in a process of its own."""

from __future__ import annotations

import asyncio
import io
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile

from bench.daemon import daemon
from bench.peers.memory import held
from nsedge.api import Finished, Segment
from nsedge.ipc.client import AsyncClient

RATE = 16_000
POLL_S = 0.2
MIB = 2**20


@dataclass(frozen=True, kw_only=True)
class Heard:
    """Of one recording. growth: bytes that the core wrote beyond what it held when it was ready, at
    most; of these, file_bytes are the recording, which it keeps with other media. later: of the
    growth, what came after the first quarter. words: of the transcript."""

    seconds: float
    took_s: float
    file_bytes: int
    growth: int
    later: int
    words: int


def long_recording(files: list[str], seconds: int) -> bytes:
    """Recordings of 16,000 samples a second, one behind the other, over and over, as FLAC."""
    parts = [soundfile.read(file, dtype="int16")[0] for file in files]
    written = io.BytesIO()
    samples = np.resize(np.concatenate(parts), seconds * RATE)
    soundfile.write(written, samples, RATE, format="FLAC")
    return written.getvalue()


async def hear(bundle: Path, sound: bytes, seconds: float, *, threads: int) -> Heard:
    """Start a daemon, have it write what is said in `sound`, and watch its core."""
    async with (
        daemon(bundle, threads=threads) as found,
        AsyncClient(found.endpoint) as client,
    ):
        core = found.pids[:1]
        before = held(core).private_dirty
        most: list[tuple[float, int]] = []
        reached = 0.0

        async def watch() -> None:
            while True:
                most.append((reached, held(core).private_dirty - before))
                await asyncio.sleep(POLL_S)

        watching = asyncio.create_task(watch())
        words, ended = 0, None
        began = time.perf_counter()
        try:
            async for event in client.transcribe(found.model, sound, language="en"):
                ended = event
                if isinstance(event, Segment):
                    reached, words = event.end_s, words + len(event.text.split())
        finally:
            watching.cancel()
        if not isinstance(ended, Finished):
            raise RuntimeError(f"the recording was not heard: {ended}")
    took_s = time.perf_counter() - began
    growth = max(grown for _, grown in most)
    early = max(grown for at, grown in most if at < seconds / 4)
    return Heard(
        seconds=seconds,
        took_s=took_s,
        file_bytes=len(sound),
        growth=growth,
        later=max(0, growth - early),
        words=words,
    )
