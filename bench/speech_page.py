"""The figures of `bench.speech` and `bench.languages` for docs/speech.md."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from typing import Any

from bench.rounds import QUIET_CORES
from bench.tables import markdown

Result = Mapping[str, Any]
WIDTH = 120
OURS = "nsedge"
NAMES = {"es": "Spanish", "fr": "French", "it": "Italian", "ru": "Russian", "en": "English"}


def speech(result: Result) -> str:
    """The machine and the load, speeds, words wrong, streams of text beside, and memory."""
    parts = [_load(result), _speeds(result), _words(result)]
    if "beside" in result:
        parts.append(_beside(result["beside"]))
    if "hour" in result:
        parts.append(_hour(result["hour"]))
    return "\n\n".join(parts)


def _load(result: Result) -> str:
    machine, options = result["machine"], result["options"]
    peers = ", ".join(f"{name} {version}" for name, version in result["peers"].items())
    noise = [*result["one"]["others_cores"], *result["eight"]["others_cores"]]
    loud = ""
    if max(noise) > QUIET_CORES:
        loud = (
            f" Others took up to {max(noise):.1f} cores meanwhile, so that speeds are to be read"
            " beside each other only."
        )
    beams = int(options["beam"])
    how = "greedily" if beams == 1 else f"by {beams} beams"
    return _wrapped(
        f"Machine: {machine['cores']} cores of an {machine['cpu']} with vector units up to"
        f" {machine['vector'][-1]}; whisper-{options['model']} in int8; {peers}. Taken on"
        f" {result['date'][:10]}, {options['rounds']} rounds, all {how}, with"
        f" {options['threads']} threads each.{loud}"
    )


def _speeds(result: Result) -> str:
    lines = [
        (
            name,
            *(
                cell
                for part in ("one", "eight")
                for cell in (
                    f"{result[part]['speed'][name]['median']:.0f}",
                    f"{result[part]['speed_ratio'][name]:.1f}" if name != OURS else "",
                )
            ),
        )
        for name in result["one"]["speed"]
    ]
    heads = ("", "one file, s/s", "ours by it", "eight at once, s/s", "ours by it")
    return f"Seconds of sound a second:\n\n{markdown(heads, lines)}"


def _words(result: Result) -> str:
    words = result["words"]
    lines = [
        (name, str(words["wrong"][name]), f"{100 * rate:.2f} %")
        for name, rate in words["word_error_rate"].items()
    ]
    told = f"Words wrong of {words['words']:,} in {words['recordings']} recordings:"
    return f"{told}\n\n{markdown(('', 'words wrong', ''), lines)}"


def _beside(beside: Result) -> str:
    quiet, loud = (
        1000 * sorted(found)[len(found) // 2] for found in beside["inter_token_p99_s"].values()
    )
    return _wrapped(
        f"Beside {beside['streams']} streams of text (the text starter), with"
        f" {beside['recordings']} recordings heard at a time: the p99 of the time between two"
        f" tokens is {loud:.0f} ms, {beside['ratio']:.2f} times the {quiet:.0f} ms without, and"
        f" {beside['recordings_per_s']:.1f} recordings of five seconds are done a second."
        f" Others took up to {max(beside['others_cores']):.1f} cores meanwhile."
    )


def _hour(hour: Result) -> str:
    return _wrapped(
        f"An hour of sound, alone in its process: {hour['took_s']:.0f} s,"
        f" {hour['speed']:.0f} times as fast as it is spoken; the core holds at most"
        f" {hour['growth_mib']:.0f} MiB more than when it was ready, of which the file is"
        f" {hour['file_mib']:.0f} (media are kept for who asks again) and what came after the first"
        f" quarter {hour['growth_after_a_quarter_mib']:.1f}."
    )


def languages(result: Result) -> str:
    """How right a model of several languages is in those that there are recordings of."""
    found = result["languages"]
    names = [name for name in next(iter(found.values())) if name != "recordings"]
    lines = [
        (
            NAMES[language] if len(names) == 1 else f"{NAMES[language]}, {name}",
            str(cell["recordings"]),
            f"{100 * cell[name]['language_told']:.0f} %",
            f"{100 * cell[name]['word_error_rate']:.0f} % of {cell[name]['words']}",
            f"{100 * cell[name]['english_words_shared']:.0f} %",
        )
        for language, cell in found.items()
        for name in names
    ]
    heads = (
        "",
        "recordings",
        "language told",
        "words wrong",
        "of the English prompt's words in its translation",
    )
    told = _wrapped(
        f"whisper-{result['options']['model']} in int8, greedily, on prompts of telephone systems"
        " (Debian's asterisk-core-sounds, human speech of 8,000 samples a second, four words and"
        f" more), the language detected; taken on {result['date'][:10]}:"
    )
    return f"{told}\n\n{markdown(heads, lines)}"


def _wrapped(text: str) -> str:
    return textwrap.fill(text, WIDTH, break_long_words=False, break_on_hyphens=False)
