"""Recordings to text: the daemon with clients over ZeroMQ, beside faster-whisper and whisper.cpp's
server, in int8.

All have the same weights, threads and files, and write greedily, or with --beam by beam search. A
round is one file after another, and eight files at once: eight clients here, eight calls on threads
of its own there, eight requests over HTTP to a server that takes one at a time. Then, not timed:
how many words are wrong of recordings with transcripts. With --beside the streams of a text model
are measured, too, while recordings are heard and while none is; with --hour what a core's memory
grows by in an hour.

    python -m bench.speech [--model tiny.en] [--rounds 3] [--beam 1] [--prompts 160] [--beside]
        [--hour] [--json FILE]
"""

from __future__ import annotations

import argparse
import asyncio
import datetime
import itertools
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
from bench.doors import Trace, ZmqDoor
from bench.long_speech import MIB, hear, long_recording
from bench.peers import whisper, whisper_cpp
from bench.peers.building import Builder
from bench.peers.process import Program, program
from bench.report import Noise, chosen_of, emit, machine, own_cpu_s, say
from bench.rounds import QUIET_CORES, Schedule, interleave, paired_ratio
from bench.spoken import prompts, recordings, wrong_words
from bench.workload import Writer
from exporters.bundle import starter as text_starter
from exporters.cache import Cache, cache_root, home
from exporters.progress import Progress
from exporters.speech.starter import STARTERS, export_speech_starter, speech_source, unpacked
from nsedge.ipc.client import AsyncClient
from nsedge.runtime.machine.cores import usable_cores

AT_ONCE = 8
OURS, PEER, SERVER = "nsedge", "faster-whisper", "whisper.cpp"
QUIET, BESIDE = "quiet", "beside"
STREAMS, TOKENS, PROMPT_TOKENS = 4, 100, 32
"""Of text, beside recordings."""
HEARD_AT_ONCE = 4
HOUR_S = 3600


def main() -> None:
    """Measure and print."""
    made = argparse.ArgumentParser(description=__doc__)
    made.add_argument("--model", default="tiny.en", choices=tuple(STARTERS))
    made.add_argument("--rounds", type=int, default=3, help="interleaved rounds that count")
    made.add_argument("--extra", type=int, default=3, help="rounds to replace disturbed ones")
    made.add_argument("--beam", type=int, default=1, help="beams of all of them")
    made.add_argument("--threads", type=int, default=usable_cores(), help="of every contender")
    made.add_argument("--prompts", type=int, default=160, help="whose words are compared, too")
    made.add_argument("--beside", action="store_true", help="streams of text, too")
    made.add_argument("--hour", action="store_true", help="memory in an hour of sound, too")
    made.add_argument("--json", type=Path, help="write the result there instead of to stdout")
    options = made.parse_args()
    emit(asyncio.run(measure(options)), options.json)


Heard = Callable[[], Awaitable[tuple[float, list[str]]]]
"""Has recordings heard: seconds for all, and their texts."""


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
    schedule = Schedule(rounds=options.rounds, extra=options.extra)
    found = await _side_by_side(cache, bundle, options, schedule)
    if options.beside:
        found["beside"] = await _beside(cache, bundle, options, schedule)
    if options.hour:
        found["hour"] = await _hour(bundle, options.threads)
    return {
        "bench": "speech",
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "machine": described,
        "peers": whisper.VERSIONS | whisper_cpp.VERSIONS,
        "options": chosen_of(options),
        "quiet_cores": QUIET_CORES,
        **found,
    }


async def _side_by_side(
    cache: Cache, bundle: Path, options: argparse.Namespace, schedule: Schedule
) -> dict[str, Any]:
    """Speeds of all of them, and words wrong."""
    starter, builder = STARTERS[options.model], Builder(cache, machine()["cpu"])
    built = whisper_cpp.build(builder)
    weights = whisper_cpp.convert(builder, built, speech_source(starter, cache))
    with tempfile.TemporaryDirectory(prefix="nsedge-speech-") as folder:
        log = Path(folder, "programs.log")
        peer = program(
            "whispering",
            (unpacked(starter, cache), options.threads, AT_ONCE),
            python=whisper.environment(builder),
            log=log,
        )
        async with (
            daemon(bundle, threads=options.threads) as ours,
            peer as theirs,
            whisper_cpp.server(
                built, weights, threads=options.threads, beam=options.beam, log=log
            ) as server,
            AsyncClient(ours.endpoint) as client,
        ):

            def contenders(wanted: Sequence[str], at_once: int) -> dict[str, Heard]:
                return {
                    OURS: partial(
                        _at_once,
                        partial(_ours, client, ours.model, beams=options.beam),
                        wanted,
                        at_once,
                    ),
                    PEER: partial(_theirs, theirs, wanted, options.beam, at_once > 1),
                    SERVER: partial(
                        _at_once, partial(server.transcribe, beam=options.beam), wanted, at_once
                    ),
                }

            spoken = recordings()
            files = list(spoken)
            many = list(itertools.islice(itertools.cycle(files), 2 * AT_ONCE))
            found: dict[str, Any] = {}
            for name, wanted, at_once in (("one", files, 1), ("eight", many, AT_ONCE)):
                timed = {each: _timed(run) for each, run in contenders(wanted, at_once).items()}
                rounds = await interleave(timed, schedule, Noise)
                found[name] = _told({each: rounds.of(each) for each in timed}, wanted)
                found[name]["others_cores"] = [round(one, 3) for one in rounds.noise()]
                say(f"  {name}: {found[name]['speed_ratio']} times their speed")
            spoken |= prompts("en", most=options.prompts)
            found["words"] = await _words(contenders(list(spoken), AT_ONCE), spoken)
    return found


async def _words(contenders: dict[str, Heard], spoken: dict[str, str]) -> dict[str, Any]:
    """How many words are wrong in what each writes of all recordings."""
    wrong: dict[str, int] = {}
    count = 0
    for name, run in contenders.items():
        _, texts = await run()
        wrong[name], count = wrong_words(spoken.values(), texts)
    rates = {name: round(found / count, 4) for name, found in wrong.items()}
    say(f"  words wrong of {count} in {len(spoken)} recordings: {wrong}")
    return {"recordings": len(spoken), "words": count, "wrong": wrong, "word_error_rate": rates}


async def _beside(
    cache: Cache, bundle: Path, options: argparse.Namespace, schedule: Schedule
) -> dict[str, Any]:
    """The p99 of seconds between a stream's tokens, quiet and beside recordings that are heard."""
    place = home() / "bundles" / text_starter.NAME
    text = text_starter.export_starter(cache, place).bundle
    files = list(recordings())
    rates: list[float] = []
    async with (
        daemon(text, bundle, threads=options.threads) as found,
        AsyncClient(found.endpoint) as client,
        AsyncClient(found.endpoint) as other,
    ):
        door, writer = ZmqDoor(client, found.model), Writer.of(text)

        async def quiet() -> float:
            asked = (
                door.ask(prompt, TOKENS, Trace())
                for prompt in writer.prompts(count=STREAMS, tokens=PROMPT_TOKENS)
            )
            gaps = [gap for trace in await asyncio.gather(*asked) for gap in trace.gaps_s]
            return statistics.quantiles(gaps, n=100)[-1]

        async def beside() -> float:
            heard, resting = [0], asyncio.Event()

            async def work(first: int) -> None:
                for file in itertools.cycle(files[first:] + files[:first]):
                    if resting.is_set():
                        return
                    await _ours(other, STARTERS[options.model].name, file)
                    heard[0] += 1

            began = time.perf_counter()
            async with asyncio.TaskGroup() as group:
                for number in range(HEARD_AT_ONCE):
                    group.create_task(work(number))
                found_s = await quiet()
                resting.set()
            rates.append(heard[0] / (time.perf_counter() - began))
            return found_s

        rounds = await interleave({QUIET: quiet, BESIDE: beside}, schedule, Noise)
    p99_s = {name: [round(one, 5) for one in rounds.of(name)] for name in (QUIET, BESIDE)}
    ratio = round(paired_ratio(p99_s[BESIDE], p99_s[QUIET]), 3)
    say(f"  inter-token p99 beside {HEARD_AT_ONCE} recordings: {ratio:.2f} times that of quiet")
    return {
        "streams": STREAMS,
        "recordings": HEARD_AT_ONCE,
        "inter_token_p99_s": p99_s,
        "ratio": ratio,
        "recordings_per_s": round(statistics.median(rates), 2),
        "others_cores": [round(one, 3) for one in rounds.noise()],
    }


async def _hour(bundle: Path, threads: int) -> dict[str, Any]:
    """The growth of a core's memory in an hour of sound."""
    sound = long_recording(list(recordings()), HOUR_S)
    heard = await hear(bundle, sound, HOUR_S, threads=threads)
    growth = round(heard.growth / MIB, 1)
    file = round(heard.file_bytes / MIB, 1)
    say(f"  an hour: {heard.took_s:.0f} s, {growth} MiB more, of which the file is {file}")
    return {
        "took_s": round(heard.took_s, 1),
        "speed": round(HOUR_S / heard.took_s, 1),
        "file_mib": file,
        "growth_mib": growth,
        "growth_after_a_quarter_mib": round(heard.later / MIB, 1),
        "words": heard.words,
    }


def _timed(run: Heard) -> Callable[[], Awaitable[Figures]]:
    async def timed() -> Figures:
        before_s, began_s = own_cpu_s(), time.perf_counter()
        seconds, texts = await run()
        cores = (own_cpu_s() - before_s) / (time.perf_counter() - began_s)
        return Figures(seconds=seconds, cores=cores, texts=tuple(texts))

    return timed


async def _at_once(
    transcribe: Callable[[str], Awaitable[str]], files: Sequence[str], at_once: int
) -> tuple[float, list[str]]:
    """Seconds for all files, so many at a time, and their texts."""
    left = asyncio.Semaphore(at_once)

    async def one(file: str) -> str:
        async with left:
            return await transcribe(file)

    began = time.perf_counter()
    texts = await asyncio.gather(*map(one, files))
    return time.perf_counter() - began, list(texts)


async def _ours(client: AsyncClient, model: str, file: str, beams: int = 1) -> str:
    data = await asyncio.to_thread(Path(file).read_bytes)
    heard = client.transcribe(model, data, language="en", vad=False, beams=beams)
    return (await heard.transcript()).text


async def _theirs(
    theirs: Program, files: Sequence[str], beam: int, at_once: bool
) -> tuple[float, list[str]]:
    told = await theirs.do("transcribe", files=list(files), beam=beam, at_once=at_once)
    return told["seconds"], told["texts"]


def _told(rounds: dict[str, list[Figures]], files: Sequence[str]) -> dict[str, Any]:
    """Speeds in seconds of sound a second, and ours by theirs."""
    seconds = sum(soundfile.info(file).duration for file in files)
    speeds = {name: [seconds / one.seconds for one in figures] for name, figures in rounds.items()}
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
        "speed_ratio": {
            name: round(paired_ratio(speeds[OURS], found), 3)
            for name, found in speeds.items()
            if name != OURS
        },
    }


if __name__ == "__main__":
    main()
