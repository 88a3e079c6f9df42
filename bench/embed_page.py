"""The figures of `bench.embed` for docs/performance.md."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from typing import Any

from bench.tables import markdown

Result = Mapping[str, Any]
WIDTH = 100


def embedding(result: Result) -> str:
    """The machine and the load, speeds, ratios, and text streams beside."""
    parts = [_load(result), _speeds(result["speed"]), _ratios(result["speed"])]
    if result["beside"] is not None:
        parts.append(_beside(result["beside"]))
    return "\n\n".join(parts)


def _load(result: Result) -> str:
    machine, options, tokens = result["machine"], result["options"], result["tokens"]
    peers = ", ".join(f"{name} {version}" for name, version in result["peers"].items())
    vector = machine["vector"][-1] if machine["vector"] else "no vector units"
    return _wrapped(
        f"Machine: {machine['cores']} cores of an {machine['cpu']} (family and model"
        f" {machine['family_model']}) with vector units up to {vector}; {peers}. Taken on"
        f" {result['date'][:10]}, {options['rounds']} rounds of {options['texts']} texts of"
        f" {tokens['least']} to {tokens['most']} tokens ({tokens['median']:g} in the median),"
        f" {options['clients']} clients, threads of every contender: {options['threads']};"
        f" {result['model']} in `{result['variant']}`.{_loud(result['speed'])}"
    )


def _loud(part: Result) -> str:
    """How much others took, where that was much."""
    if not part["disturbed"]:
        return ""
    most = max(part["others_cores"][number] for number in part["kept_rounds"])
    return (
        f" Disturbed: others took up to {most:.1f} cores meanwhile, so that rates are to be read"
        " beside each other only."
    )


def _speeds(speed: Result) -> str:
    rates, per_core = speed["texts_per_s"], speed["texts_per_core_s"]
    lines = [
        (name, f"{rates[name]['median']:.0f}", f"{per_core[name]['median']:.0f}") for name in rates
    ]
    return markdown(("", "texts/s", "texts per core second, clients' included"), lines)


def _ratios(speed: Result) -> str:
    names = speed["texts_per_s_ratios"]
    lines = [
        (
            name,
            f"{speed['texts_per_s_ratios'][name]:.2f}",
            f"{speed['texts_per_core_s_ratios'][name]:.2f}",
        )
        for name in names
    ]
    return markdown(("ratio, median of the rounds' own", "texts/s", "per core second"), lines)


def _beside(beside: Result) -> str:
    quiet, loud = (beside["inter_token_p99_s"][name]["median"] for name in ("quiet", "beside"))
    return _wrapped(
        f"Beside the clients, {beside['streams']} streams of text have an inter-token p99 of"
        f" {loud * 1e3:.1f} ms, quiet {quiet * 1e3:.1f} ms: {beside['ratio']:.2f} times (to be at"
        f" most 2), while {beside['texts_per_s']:.0f} vectors a second are made.{_loud(beside)}"
    )


def _wrapped(text: str) -> str:
    return textwrap.fill(text, WIDTH, break_long_words=False, break_on_hyphens=False)
