"""Recordings to text: the daemon with clients over ZeroMQ, beside faster-whisper in int8.

Both have the same weights, threads and files. A round is one file after another, and eight files
at once: eight clients here, eight calls on threads of its own there. Word error rates are of
recordings with transcripts, by plain words: lower case, no punctuation.

    python -m bench.speech --model tiny.en [--rounds 3] [--beam 1] [--json FILE]
"""

from __future__ import annotations

import argparse
import asyncio
import datetime
import itertools
import re
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import soundfile

from bench.daemon import daemon
from bench.peers import whisper
from bench.peers.building import Builder
from bench.peers.process import Program, program
from bench.report import Noise, chosen_of, emit, machine, own_cpu_s, say
from bench.rounds import QUIET_CORES, Schedule, interleave, paired_ratio
from exporters.cache import Cache, cache_root, home
from exporters.progress import Progress
from exporters.speech.starter import STARTERS, export_speech_starter, unpacked
from nsedge.ipc.client import AsyncClient
from nsedge.runtime.machine.cores import usable_cores

RECORDINGS = Path("/usr/share/pocketsphinx/test/data/librivox")
"""Of Debian's pocketsphinx-testdata: LibriVox, with what is said."""
AT_ONCE = 8
OURS, PEER = "nsedge", "faster-whisper"
SPELT = {"mr": "mister", "mrs": "missus", "dr": "doctor"}


def main() -> None:
    """Measure and print."""
    made = argparse.ArgumentParser(description=__doc__)
    made.add_argument("--model", default="tiny.en", choices=tuple(STARTERS))
    made.add_argument("--rounds", type=int, default=3, help="interleaved rounds that count")
    made.add_argument("--extra", type=int, default=3, help="rounds to replace disturbed ones")
    made.add_argument("--beam", type=int, default=1, help="beams of faster-whisper")
    made.add_argument("--threads", type=int, default=usable_cores(), help="of every contender")
    made.add_argument("--json", type=Path, help="write the result there instead of to stdout")
    options = made.parse_args()
    emit(asyncio.run(measure(options)), options.json)


@dataclass(frozen=True, kw_only=True)
class Figures:
    """Of one contender in one round; cores: processor seconds a second, of it and its clients."""

    seconds: float
    cores: float
    texts: tuple[str, ...]


async def measure(options: argparse.Namespace) -> dict[str, Any]:
    """All that was asked for."""
    cache = Cache(cache_root(), Progress(sys.stderr))
    starter = STARTERS[options.model]
    bundle = export_speech_starter(starter, cache, home() / "bundles" / starter.name).bundle
    described = machine()
    python = whisper.environment(Builder(cache, described["cpu"]))
    spoken = recordings()
    files = list(spoken)
    many = list(itertools.islice(itertools.cycle(files), 2 * AT_ONCE))
    schedule = Schedule(rounds=options.rounds, extra=options.extra)
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="nsedge-speech-") as folder:
        peer = program(
            "whispering",
            (unpacked(starter, cache), options.threads, AT_ONCE),
            python=python,
            log=Path(folder, "programs.log"),
        )
        async with (
            daemon(bundle, threads=options.threads) as ours,
            peer as theirs,
            AsyncClient(ours.endpoint) as client,
        ):
            for name, wanted, at_once in (("one", files, 1), ("eight", many, AT_ONCE)):
                contenders = {
                    OURS: _timed(partial(_ours, client, ours.model, wanted, at_once)),
                    PEER: _timed(partial(_theirs, theirs, wanted, options.beam, at_once > 1)),
                }
                rounds = await interleave(contenders, schedule, Noise)
                found[name] = _told({each: rounds.of(each) for each in contenders}, wanted, spoken)
                found[name]["others_cores"] = [round(one, 3) for one in rounds.noise()]
                say(f"  {name}: {found[name]['speed_ratio']:.2f} times {PEER}'s speed")
    return {
        "bench": "speech",
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "machine": described,
        "peers": whisper.VERSIONS,
        "options": chosen_of(options),
        "quiet_cores": QUIET_CORES,
        **found,
    }


def recordings() -> dict[str, str]:
    """Files of recorded speech, and what is said in each."""
    lines = (RECORDINGS / "transcription").read_text(encoding="utf-8").splitlines()
    found = {}
    for line in lines:
        said, _, name = line.rpartition("(")
        words = re.sub(r"</?s>", " ", said)
        found[str(RECORDINGS / f"{name.rstrip(')')}.wav")] = " ".join(words.split())
    return found


def words_of(text: str) -> list[str]:
    """The words of a text, as they are compared."""
    plain = re.sub(r"[^a-z' ]", " ", text.lower().replace("-", " "))
    return [SPELT.get(word, word) for word in plain.split()]


def errors(wanted: Sequence[str], found: Sequence[str]) -> int:
    """Words to change, add or leave out, to come from one to the other."""
    row = list(range(len(found) + 1))
    for number, word in enumerate(wanted, 1):
        before, row[0] = row[0], number
        for place, other in enumerate(found, 1):
            before, row[place] = (
                row[place],
                min(row[place] + 1, row[place - 1] + 1, before + (word != other)),
            )
    return row[-1]


def _timed(run: Callable[[], Awaitable[tuple[float, list[str]]]]) -> Callable[[], Any]:
    async def timed() -> Figures:
        before_s, began_s = own_cpu_s(), time.perf_counter()
        seconds, texts = await run()
        cores = (own_cpu_s() - before_s) / (time.perf_counter() - began_s)
        return Figures(seconds=seconds, cores=cores, texts=tuple(texts))

    return timed


async def _ours(
    client: AsyncClient, model: str, files: Sequence[str], at_once: int
) -> tuple[float, list[str]]:
    left = asyncio.Semaphore(at_once)

    async def one(file: str) -> str:
        async with left:
            data = await asyncio.to_thread(Path(file).read_bytes)
            return (
                await client.transcribe(model, data, language="en", vad=False).transcript()
            ).text

    began = time.perf_counter()
    texts = await asyncio.gather(*map(one, files))
    return time.perf_counter() - began, list(texts)


async def _theirs(
    theirs: Program, files: Sequence[str], beam: int, at_once: bool
) -> tuple[float, list[str]]:
    told = await theirs.do("transcribe", files=list(files), beam=beam, at_once=at_once)
    return told["seconds"], told["texts"]


def _told(
    rounds: dict[str, list[Figures]], files: Sequence[str], spoken: dict[str, str]
) -> dict[str, Any]:
    """Speeds in seconds of sound a second, their ratio, and word error rates."""
    seconds = sum(soundfile.info(file).duration for file in files)
    speeds = {name: [seconds / one.seconds for one in figures] for name, figures in rounds.items()}
    words = sum(len(words_of(spoken[file])) for file in files)
    wrong = {
        name: sum(
            errors(words_of(spoken[file]), words_of(text))
            for file, text in zip(files, figures[-1].texts, strict=True)
        )
        for name, figures in rounds.items()
    }
    return {
        "audio_s": round(seconds, 2),
        "files": len(files),
        "speed": {
            name: {
                "median": round(statistics.median(found), 2),
                "rounds": [round(one, 2) for one in found],
                "cores": round(statistics.median(one.cores for one in rounds[name]), 2),
            }
            for name, found in speeds.items()
        },
        "speed_ratio": round(paired_ratio(speeds[OURS], speeds[PEER]), 3),
        "words": words,
        "word_error_rate": {name: round(count / words, 4) for name, count in wrong.items()},
    }


if __name__ == "__main__":
    main()
