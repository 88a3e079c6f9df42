"""Recordings in English, Spanish, French, Italian and Russian: whether their language is told, how
many words are wrong, and how much of the English prompt of the same name a translation has. All is
written greedily; with --peer beside faster-whisper with the same weights in int8.

    python -m bench.languages [--model base] [--prompts 100] [--share DIR] [--peer] [--json FILE]

The recordings are those of Debian's asterisk-core-sounds-LANGUAGE-wav; `--share` is where the
packages were unpacked (`dpkg-deb -x`), where they are not installed.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import datetime
import itertools
import sys
import tempfile
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any

from bench.daemon import daemon
from bench.peers import whisper
from bench.peers.building import Builder
from bench.peers.process import Program, program
from bench.report import chosen_of, emit, machine, say
from bench.speech import AT_ONCE, OURS, PEER
from bench.spoken import SHARE, VOICES, prompts, words_of, wrong_words
from exporters.cache import Cache, cache_root, home
from exporters.progress import Progress
from exporters.speech.starter import STARTERS, export_speech_starter, unpacked
from nsedge.ipc.client import AsyncClient
from nsedge.runtime.machine.cores import usable_cores

TASKS = ("transcribe", "translate")
SAMPLES = 5
"""Whose texts are told."""


def main() -> None:
    """Measure and print."""
    made = argparse.ArgumentParser(description=__doc__)
    made.add_argument("--model", default="base", choices=tuple(STARTERS))
    made.add_argument("--prompts", type=int, default=100, help="of each language at most")
    made.add_argument("--share", type=Path, default=SHARE, help="where the packages are unpacked")
    made.add_argument("--peer", action="store_true", help="faster-whisper, too")
    made.add_argument("--threads", type=int, default=usable_cores(), help="of every contender")
    made.add_argument("--json", type=Path, help="write the result there instead of to stdout")
    options = made.parse_args()
    emit(asyncio.run(measure(options)), options.json)


Spoken = dict[str, str]
Written = list[tuple[str, str]]
"""Of each file the language that was told, and the text."""


async def measure(options: argparse.Namespace) -> dict[str, Any]:
    """All languages whose packages are there."""
    cache = Cache(cache_root(), Progress(sys.stderr))
    starter = STARTERS[options.model]
    bundle = export_speech_starter(starter, cache, home() / "bundles" / starter.name).bundle
    described = machine()
    found: dict[str, dict[str, Any]] = {}
    async with contextlib.AsyncExitStack() as running:
        ours = await running.enter_async_context(daemon(bundle, threads=options.threads))
        client = await running.enter_async_context(AsyncClient(ours.endpoint))
        contenders: dict[str, Callable[[Spoken, str], Awaitable[Written]]] = {
            OURS: partial(_ours, client, ours.model)
        }
        if options.peer:
            folder = running.enter_context(tempfile.TemporaryDirectory(prefix="nsedge-languages-"))
            peer = program(
                "whispering",
                (unpacked(starter, cache), options.threads, AT_ONCE),
                python=whisper.environment(Builder(cache, described["cpu"])),
                log=Path(folder, "programs.log"),
            )
            contenders[PEER] = partial(_theirs, await running.enter_async_context(peer))
        for language in VOICES:
            spoken = prompts(language, most=options.prompts, share=options.share)
            for name, run in contenders.items() if spoken else ():
                written = {task: await run(spoken, task) for task in TASKS}
                judged = _judged(language, spoken, written, options.share)
                found.setdefault(language, {"recordings": len(spoken)})[name] = judged
                say(f"  {language}, {name}: {judged}")
    return {
        "bench": "languages",
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "machine": described,
        "peers": whisper.VERSIONS if options.peer else {},
        "options": chosen_of(options),
        "languages": found,
    }


async def _theirs(theirs: Program, spoken: Spoken, task: str) -> Written:
    told = await theirs.do(
        "transcribe", files=list(spoken), beam=1, at_once=True, language=None, task=task
    )
    return list(zip(told["languages"], told["texts"], strict=True))


async def _ours(client: AsyncClient, model: str, spoken: Spoken, task: str) -> Written:
    left = asyncio.Semaphore(AT_ONCE)

    async def one(file: str) -> tuple[str, str]:
        async with left:
            data = await asyncio.to_thread(Path(file).read_bytes)
            asked = client.transcribe(model, data, vad=False, translate=task == "translate")
            told = await asked.transcript()
            return told.language or "", told.text

    return list(await asyncio.gather(*map(one, spoken)))


def _judged(
    language: str, spoken: Spoken, written: dict[str, Written], share: Path
) -> dict[str, Any]:
    """Figures of one contender in one language, and its first texts."""
    told, translated = written["transcribe"], written["translate"]
    wrong, count = wrong_words(spoken.values(), [text for _, text in told], language)
    result = {
        "language_told": round([code for code, _ in told].count(language) / len(told), 3),
        "words": count,
        "word_error_rate": round(wrong / count, 4),
    }
    english = {
        Path(file).stem: set(words_of(said))
        for place in (SHARE, share)
        for file, said in prompts("en", most=sys.maxsize, share=place).items()
    }
    pairs = [
        (english[stem], set(words_of(text)))
        for stem, (_, text) in zip((Path(file).stem for file in spoken), translated, strict=True)
        if stem in english
    ]
    if pairs and language != "en":
        shared = sum(len(wanted & found) for wanted, found in pairs)
        result["translated"] = len(pairs)
        result["english_words_shared"] = round(shared / sum(len(one) for one, _ in pairs), 3)
    samples = zip(spoken.values(), told, translated, strict=True)
    return result | {
        "samples": [
            {"said": said, "written": text, "translated": english_text}
            for said, (_, text), (_, english_text) in itertools.islice(samples, SAMPLES)
        ]
    }


if __name__ == "__main__":
    main()
