"""Sound to text while it comes: recordings played in real time over ZeroMQ, several at once.

Told are, in seconds: how long after the first sound of speech the first words came; how old the
sound was that partial results told of; how long after the end of speech all was final, the silence
that ends it included. Word error rates are of the final text, beside those of the same files sent
whole. With a text model, gaps between the tokens of a stream alone, and beside a minute of sound.

    python -m bench.live [--model tiny.en] [--streams 1 4] [--prompts 40] [--text BUNDLE]
"""

from __future__ import annotations

import argparse
import asyncio
import datetime
import sys
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from bench.daemon import daemon
from bench.report import Noise, chosen_of, emit, machine, percentiles, say
from bench.spoken import prompts, recordings, wrong_words
from exporters.cache import Cache, cache_root, home
from exporters.progress import Progress
from exporters.speech.starter import STARTERS, export_speech_starter
from nsedge.api import Activity, Committed, Delta, Failed, Feed, Mark, Sampling, Segment
from nsedge.api.transcripts import joined_text
from nsedge.bundle.manifest import Bundle
from nsedge.ipc.client import AsyncClient
from nsedge.runtime.machine.cores import usable_cores

PIECE_S = 0.1
TAIL_S = 1.5
"""Of silence behind each recording."""
SILENCE_S = 0.6
PADDING_S = 0.3
TOKENS = 200
BESIDE_S = 60.0
"""How long sound is played beside text."""


def main() -> None:
    """Measure and print."""
    made = argparse.ArgumentParser(description=__doc__)
    made.add_argument("--model", default="tiny.en", choices=tuple(STARTERS))
    made.add_argument("--streams", type=int, nargs="+", default=[1, 4], help="at once")
    made.add_argument("--prompts", type=int, default=40, help="of Asterisk's, beside LibriVox")
    made.add_argument("--speed", type=float, default=1.0, help="of playing; 1 is real time")
    made.add_argument("--bundle", type=Path, help="of speech, instead of the starter")
    made.add_argument("--text", type=Path, help="a bundle that writes text beside it")
    made.add_argument("--threads", type=int, default=usable_cores())
    made.add_argument("--json", type=Path, help="write the result there instead of to stdout")
    options = made.parse_args()
    emit(asyncio.run(measure(options)), options.json)


@dataclass(eq=False, kw_only=True)
class Played:
    """What came of one recording, and when; in seconds."""

    first: list[float] = field(default_factory=list)
    partial: list[float] = field(default_factory=list)
    final: list[float] = field(default_factory=list)
    text: str = ""


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
        whole = {file: await _whole(client, ours.model, file) for file in spoken}
        for streams in options.streams:
            noise = Noise()
            played = await _play_all(client, ours.model, list(spoken), streams, options.speed)
            found[f"{streams} at once"] = {
                **_told(played),
                "word_error_rate": _rates(spoken, whole, played),
                "others_cores": round(noise.others(), 2),
            }
            say(f"  {streams}: {found[f'{streams} at once']}")
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
    parts = sum(_played_s(files) / streams for streams in options.streams)
    beside_s = BESIDE_S * len(options.streams) if options.text else 0.0
    return float(parts / options.speed + beside_s)


def _played_s(files: Sequence[str]) -> float:
    """How long recordings are, with their tails of silence."""
    return float(sum(soundfile.info(file).duration + TAIL_S for file in files))


def _first(files: list[str], seconds: float) -> list[str]:
    """So many recordings that they are as long as that, or all."""
    count = next((n for n in range(len(files)) if _played_s(files[:n]) >= seconds), len(files))
    return files[:count]


def _starter(cache: Cache, model: str) -> Path:
    starter = STARTERS[model]
    return export_speech_starter(starter, cache, home() / "bundles" / starter.name).bundle


async def _whole(client: AsyncClient, model: str, file: str) -> str:
    """What is written of a recording that is sent whole."""
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
    feed, sent = Feed(), [time.perf_counter()]
    events = client.listen(model, feed, rate=rate, silence_s=SILENCE_S, padding_s=PADDING_S)
    playing = asyncio.create_task(_push(feed, sound, rate, speed, sent))

    def since(at_s: float) -> float:
        """Seconds since the sound at that place was sent, or now where it is not quite."""
        return time.perf_counter() - sent[min(len(sent) - 1, int(at_s / PIECE_S) + 1)]

    played, began_s, finals = Played(), None, list[Segment]()
    async for event in events:
        match event:
            case Activity(speaking=True, at_s=at_s):
                began_s = at_s + PADDING_S
            case Activity(at_s=ended_s):
                end_s = ended_s
            case Segment(final=False):
                if began_s is not None:
                    played.first.append(since(began_s))
                    began_s = None
                played.partial.append(since(event.end_s))
            case Segment():
                finals.append(event)
            case Committed(at_s=at_s) if finals and at_s == end_s:
                played.final.append(since(at_s) + SILENCE_S / speed)
            case Failed():
                raise event.error()
    await playing
    played.text = joined_text(finals)
    return played


async def _push(
    feed: Feed, sound: np.ndarray[Any, Any], rate: int, speed: float, sent: list[float]
) -> None:
    """Push a recording as a microphone does; `sent` notes when each piece went."""
    count = round(rate * PIECE_S)
    for number in range(-(-len(sound) // count)):
        due_s = sent[0] + (number + 1) * PIECE_S / speed
        await asyncio.sleep(max(0.0, due_s - time.perf_counter()))
        feed.push(sound[number * count : (number + 1) * count].tobytes())
        sent.append(time.perf_counter())
    feed.mark(Mark.END)


def _told(played: dict[str, Played]) -> dict[str, Any]:
    return {
        name: _rounded(value for one in played.values() for value in getattr(one, which))
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
    main()
