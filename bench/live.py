"""Sound to text while it comes: recordings played in real time over ZeroMQ, several at once.

Told are, in seconds: how long after the first sound of speech the first words came; how old the
sound was that partial results told of; how long after the end of speech all was final, the silence
that ends it included. Word error rates are of the final text, beside those of the same files sent
whole. With a text model, gaps between the tokens of a stream alone, and beside a minute of sound.

    python -m bench.live [--model tiny.en] [--streams 1 4] [--prompts 40] [--text BUNDLE]
    python -m bench.live --long 3600 --speed 6

The second is one request of so many seconds of sound alone, told in quarters: how much more the
core holds than before, at most, and how late it is. It ends with status 1 where the core holds
200 MiB more, or finals of the last quarter are half as late again as those of the first.
"""

from __future__ import annotations

import argparse
import asyncio
import datetime
import sys
import time
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from bench.daemon import daemon
from bench.long_live import hear_long
from bench.playing import SILENCE_S, Played, play
from bench.report import Noise, chosen_of, emit, machine, percentiles, say
from bench.spoken import prompts, recordings, wrong_words
from exporters.cache import Cache, cache_root, home
from exporters.progress import Progress
from exporters.speech.starter import STARTERS, export_speech_starter
from nsedge.api import Delta, Sampling
from nsedge.bundle.manifest import Bundle
from nsedge.ipc.client import AsyncClient
from nsedge.runtime.machine.cores import usable_cores

TAIL_S = 1.5
"""Of silence behind each recording."""
TOKENS = 200
BESIDE_S = 60.0
"""How long sound is played beside text."""


def main() -> int:
    """Measure and print; 1 where sound of a long time is not heard as at its begin."""
    made = argparse.ArgumentParser(description=__doc__)
    made.add_argument("--model", default="tiny.en", choices=tuple(STARTERS))
    made.add_argument("--streams", type=int, nargs="+", default=[1, 4], help="at once")
    made.add_argument("--prompts", type=int, default=40, help="of Asterisk's, beside LibriVox")
    made.add_argument("--speed", type=float, default=1.0, help="of playing; 1 is real time")
    made.add_argument("--long", type=int, metavar="SECONDS", help="of sound in one request, alone")
    made.add_argument("--bundle", type=Path, help="of speech, instead of the starter")
    made.add_argument("--text", type=Path, help="a bundle that writes text beside it")
    made.add_argument("--threads", type=int, default=usable_cores())
    made.add_argument("--json", type=Path, help="write the result there instead of to stdout")
    options = made.parse_args()
    result = asyncio.run(measure(options))
    emit(result, options.json)
    long = result.get("long")
    return 0 if long is None or (long["flat"] and long["in_time"]) else 1


async def measure(options: argparse.Namespace) -> dict[str, Any]:
    """All that was asked for."""
    cache = Cache(cache_root(), Progress(sys.stderr))
    bundle = options.bundle or _starter(cache, options.model)
    beside = [options.text] if options.text else []
    spoken = {**recordings(), **prompts("en", most=options.prompts)}
    found: dict[str, Any] = {}
    minutes = _expected_s(list(spoken), options) / 60
    say(f"  sound is played as fast as it was spoken: this takes {minutes:.0f} minutes or more")
    async with (
        daemon(bundle, *beside, threads=options.threads) as ours,
        AsyncClient(ours.endpoint) as client,
    ):
        if options.long:
            long, files = options.long, list(spoken)
            found["long"] = await hear_long(client, ours, files, seconds=long, speed=options.speed)
        else:
            found |= await _several(client, ours.model, spoken, options)
        if options.text:
            found["text"] = await _beside_text(client, ours.model, list(spoken), options)
    return {
        "bench": "live",
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "machine": machine(),
        "options": chosen_of(options),
        "files": len(spoken),
        "silence_s": SILENCE_S,
        **found,
    }


def _expected_s(files: list[str], options: argparse.Namespace) -> float:
    """How long the sound is played, in all."""
    parts = options.long or sum(_played_s(files) / streams for streams in options.streams)
    beside_s = BESIDE_S * len(options.streams) if options.text else 0.0
    return float(parts / options.speed + beside_s)


def _played_s(files: Sequence[str]) -> float:
    """How long recordings are, with their tails of silence."""
    return float(sum(soundfile.info(file).duration + TAIL_S for file in files))


def _first(files: list[str], seconds: float) -> list[str]:
    """So many recordings that they are as long as that, or all."""
    count = next((n for n in range(len(files)) if _played_s(files[:n]) >= seconds), len(files))
    return files[:count]


async def _several(
    client: AsyncClient, model: str, spoken: dict[str, str], options: argparse.Namespace
) -> dict[str, Any]:
    """All recordings, for each number of them at once."""
    found: dict[str, Any] = {}
    whole = {file: await _whole(client, model, file) for file in spoken}
    for streams in options.streams:
        noise = Noise()
        played = await _play_all(client, model, list(spoken), streams, options.speed)
        found[f"{streams} at once"] = {
            **_told(played),
            "word_error_rate": _rates(spoken, whole, played),
            "others_cores": round(noise.others(), 2),
        }
        say(f"  {streams}: {found[f'{streams} at once']}")
    return found


def _starter(cache: Cache, model: str) -> Path:
    starter = STARTERS[model]
    return export_speech_starter(starter, cache, home() / "bundles" / starter.name).bundle


async def _whole(client: AsyncClient, model: str, file: str) -> str:
    """The transcript of a recording that is sent whole."""
    data = await asyncio.to_thread(Path(file).read_bytes)
    return (await client.transcribe(model, data, vad=False).transcript()).text


async def _play_all(
    client: AsyncClient, model: str, files: Sequence[str], streams: int, speed: float
) -> dict[str, Played]:
    left, found = iter(files), dict[str, Played]()

    async def play_on() -> None:
        for file in left:
            found[file] = await _play(client, model, file, speed)

    await asyncio.gather(*(play_on() for _ in range(streams)))
    return found


async def _play(client: AsyncClient, model: str, file: str, speed: float) -> Played:
    """Play one recording, and its tail of silence."""
    samples, rate = soundfile.read(file, dtype="int16", always_2d=True)
    sound = np.concatenate([samples[:, 0], np.zeros(round(TAIL_S * rate), np.int16)])
    return await play(client, model, sound, rate, speed)


def _told(played: dict[str, Played]) -> dict[str, Any]:
    return {
        name: _rounded(late.seconds for one in played.values() for late in getattr(one, which))
        for name, which in (
            ("first_words_s", "first"),
            ("partial_age_s", "partial"),
            ("final_s", "final"),
        )
    }


def _rounded(values: Any) -> dict[str, float]:
    found = list(values)
    return {"n": len(found), **{k: round(v, 3) for k, v in percentiles(found).items()}}


def _rates(
    spoken: dict[str, str], whole: dict[str, str], played: dict[str, Played]
) -> dict[str, float]:
    wrong, words = wrong_words(spoken.values(), [whole[file] for file in spoken])
    wrong_live, _ = wrong_words(spoken.values(), [played[file].text for file in spoken])
    return {
        "words": words,
        "whole": round(wrong / words, 4),
        "live": round(wrong_live / words, 4),
    }


async def _beside_text(
    client: AsyncClient, model: str, files: list[str], options: argparse.Namespace
) -> dict[str, Any]:
    """Gaps between the tokens of a stream alone, and while sound is heard."""
    writer = Bundle.open(options.text).name
    alone = [gap async for gap in _gaps(client, writer)]
    found = {"alone_s": _rounded(alone)}
    for streams in options.streams:
        some = _first(files, BESIDE_S * streams * options.speed)
        playing = asyncio.create_task(_play_all(client, model, some, streams, options.speed))
        gaps: list[float] = []
        while not playing.done():
            gaps += [gap async for gap in _gaps(client, writer)]
        played = await playing
        found[f"beside_{streams}_s"] = _rounded(gaps)
        found[f"final_{streams}_s"] = _told(played)["final_s"]
    return found


async def _gaps(client: AsyncClient, model: str) -> AsyncIterator[float]:
    sampling = Sampling(max_tokens=TOKENS, ignore_eos=True, temperature=0.0)
    last_s: float | None = None
    async for event in client.generate(model, "Once upon a time", sampling=sampling):
        if isinstance(event, Delta):
            now_s = time.perf_counter()
            if last_s is not None:
                yield now_s - last_s
            last_s = now_s


if __name__ == "__main__":
    sys.exit(main())
