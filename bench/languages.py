"""Recordings in English, Spanish, French, Italian and Russian: whether their language is told, how
many words are wrong, and how much of the English prompt of the same name a translation has; beside
faster-whisper with the same weights in int8, both greedily.

    python -m bench.languages [--model base] [--prompts 100] [--share DIR] [--json FILE]

The recordings are those of Debian's asterisk-core-sounds-LANGUAGE-wav; `--share` is where the
packages were unpacked (`dpkg-deb -x`), where they are not installed.
"""

from __future__ import annotations

import argparse
import asyncio
import datetime
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench.daemon import daemon
from bench.peers import whisper
from bench.peers.building import Builder
from bench.peers.process import program
from bench.report import chosen_of, emit, machine, say
from bench.speech import AT_ONCE, OURS, PEER
from bench.spoken import SHARE, VOICES, prompts, words_of, wrong_words
from exporters.cache import Cache, cache_root, home
from exporters.progress import Progress
from exporters.speech.starter import STARTERS, export_speech_starter, unpacked
from nsedge.ipc.client import AsyncClient
from nsedge.runtime.machine.cores import usable_cores

TASKS = ("transcribe", "translate")


def main() -> None:
    """Measure and print."""
    made = argparse.ArgumentParser(description=__doc__)
    made.add_argument("--model", default="base", choices=tuple(STARTERS))
    made.add_argument("--prompts", type=int, default=100, help="of each language at most")
    made.add_argument("--share", type=Path, default=SHARE, help="where the packages are unpacked")
    made.add_argument("--threads", type=int, default=usable_cores(), help="of every contender")
    made.add_argument("--json", type=Path, help="write the result there instead of to stdout")
    options = made.parse_args()
    emit(asyncio.run(measure(options)), options.json)


async def measure(options: argparse.Namespace) -> dict[str, Any]:
    """All languages whose packages are there."""
    cache = Cache(cache_root(), Progress(sys.stderr))
    starter = STARTERS[options.model]
    bundle = export_speech_starter(starter, cache, home() / "bundles" / starter.name).bundle
    described = machine()
    with tempfile.TemporaryDirectory(prefix="nsedge-languages-") as folder:
        async with (
            daemon(bundle, threads=options.threads) as ours,
            AsyncClient(ours.endpoint) as client,
            program(
                "whispering",
                (unpacked(starter, cache), options.threads, AT_ONCE),
                python=whisper.environment(Builder(cache, described["cpu"])),
                log=Path(folder, "programs.log"),
            ) as theirs,
        ):
            found = {}
            for language in VOICES:
                spoken = prompts(language, most=options.prompts, share=options.share)
                written: dict[str, dict[str, Any]] = {OURS: {}, PEER: {}}
                for task in TASKS if spoken else ():
                    files = list(spoken)
                    written[OURS][task] = await _ours(client, ours.model, files, task)
                    told = await theirs.do(
                        "transcribe", files=files, beam=1, at_once=True, language=None, task=task
                    )
                    written[PEER][task] = list(zip(told["languages"], told["texts"], strict=True))
                if spoken:
                    found[language] = _judged(language, spoken, written, options.share)
                    say(f"  {language}: {found[language]}")
    return {
        "bench": "languages",
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "machine": described,
        "peers": whisper.VERSIONS,
        "options": chosen_of(options),
        "languages": found,
    }


async def _ours(
    client: AsyncClient, model: str, files: Sequence[str], task: str
) -> list[tuple[str, str]]:
    """The language that was told of each file, and what was written."""
    left = asyncio.Semaphore(AT_ONCE)

    async def one(file: str) -> tuple[str, str]:
        async with left:
            data = await asyncio.to_thread(Path(file).read_bytes)
            asked = client.transcribe(model, data, vad=False, translate=task == "translate")
            told = await asked.transcript()
            return told.language or "", told.text

    return list(await asyncio.gather(*map(one, files)))


def _judged(
    language: str,
    spoken: dict[str, str],
    written: dict[str, dict[str, list[tuple[str, str]]]],
    share: Path,
) -> dict[str, Any]:
    english = {Path(file).stem: said for file, said in prompts("en", most=sys.maxsize).items()}
    english |= {
        Path(file).stem: said for file, said in prompts("en", most=sys.maxsize, share=share).items()
    }
    result: dict[str, Any] = {"recordings": len(spoken)}
    for name, tasks in written.items():
        told = [code for code, _ in tasks["transcribe"]]
        wrong, count = wrong_words(spoken.values(), [t for _, t in tasks["transcribe"]], language)
        result[name] = {
            "language_told": round(told.count(language) / len(told), 3),
            "word_error_rate": round(wrong / count, 4),
        }
        pairs = [
            (set(words_of(english[stem])), set(words_of(text)))
            for stem, (_, text) in zip(map(_stem, spoken), tasks["translate"], strict=True)
            if stem in english
        ]
        if pairs and language != "en":
            shared = sum(len(wanted & found) for wanted, found in pairs)
            result[name]["translated"] = len(pairs)
            result[name]["english_words_shared"] = round(
                shared / sum(len(wanted) for wanted, _ in pairs), 3
            )
        result["words"] = count
    result["samples"] = [
        {"said": said, "written": text, "translated": english_text}
        for (said, (_, text), (_, english_text)) in list(
            zip(
                spoken.values(),
                written[OURS]["transcribe"],
                written[OURS]["translate"],
                strict=True,
            )
        )[:5]
    ]
    return result


def _stem(file: str) -> str:
    return Path(file).stem


if __name__ == "__main__":
    main()
